// The table beside a plot: the same rows, sortable, in pages, with a way to select without a drag.

import type { Context } from "./context.ts";
import { type Child, html, image, replace } from "./dom.ts";
import { csv, fileName, saveText } from "./download.ts";
import { grouped, plural } from "./numbers.ts";

const PAGE = 15;

export interface Column {
  title: string;
  text(row: number): string;
  /** Sorts by this number instead of the text, and sets it at the right. */
  value?: (row: number) => number;
  /** The cell is a button. */
  press?: (row: number) => void;
}

export interface TableContent {
  noun: string;
  /** Rows are numbered from 0. */
  count: number;
  /** 0 for rows that are left out. */
  visible: Uint8Array | null;
  selected: Uint8Array | null;
  condition(row: number): number;
  columns: Column[];
}

export class DataTable {
  readonly element = html("section", { class: "card table-card" });
  private content: TableContent | null = null;
  private onlySelected = false;
  private search = "";
  private sorted = -1;
  private descending = false;
  private page = 0;
  private found: number[] = [];
  private readonly body = html("div", {});
  private readonly bar = html("div", { class: "bar" });
  private readonly field = html("input", {
    type: "search",
    id: "table-search",
    placeholder: "Find in the table",
    "aria-label": "Find in the table",
    autocomplete: "off",
    spellcheck: "false",
  });

  constructor(
    private readonly context: Context,
    private readonly what: string,
  ) {
    this.element.append(html("h3", {}, "Table"), this.bar, this.body);
    this.field.addEventListener("input", () => {
      this.search = this.field.value;
      this.page = 0;
      this.refresh();
    });
  }

  /** Rows of what was just brushed are worth seeing; checkboxes of the table leave it as it is. */
  showSelected(only: boolean): void {
    this.onlySelected = only;
    this.page = 0;
  }

  show(content: TableContent): void {
    this.content = content;
    if (this.sorted >= content.columns.length) this.sorted = -1;
    this.refresh();
  }

  private refresh(): void {
    const { content } = this;
    if (!content) return;
    const any = this.context.selectedCount > 0;
    const only = this.onlySelected && any;
    const searched = this.search.trim().toLowerCase();
    this.found = [];
    const { visible } = content;
    const marked = any ? content.selected : null;
    let selected = 0;
    let all = 0;
    for (let row = 0; row < content.count; row++) {
      if (visible && !visible[row]) continue;
      all++;
      const chosen = marked?.[row] === 1;
      if (chosen) selected++;
      if (only && !chosen) continue;
      if (searched && !this.matches(content, row, searched)) continue;
      this.found.push(row);
    }
    this.sort();
    this.paintBar(content, all, selected, only);
    this.paintRows(content);
  }

  private matches(content: TableContent, row: number, searched: string): boolean {
    return content.columns.some(
      (column) => !column.value && column.text(row).toLowerCase().includes(searched),
    );
  }

  private sort(): void {
    const column = this.content?.columns[this.sorted];
    if (!column) return;
    const sign = this.descending ? -1 : 1;
    const { value } = column;
    if (value) {
      const key = (row: number): number => {
        const number = value(row);
        return Number.isFinite(number) ? number : Number.POSITIVE_INFINITY * sign;
      };
      this.found.sort((a, b) => sign * (key(a) - key(b)) || a - b);
    } else {
      const compare = new Intl.Collator("en", { numeric: true }).compare;
      this.found.sort((a, b) => sign * compare(column.text(a), column.text(b)) || a - b);
    }
  }

  private paintBar(content: TableContent, all: number, selected: number, only: boolean): void {
    const toggle = (id: string, text: string, value: boolean) =>
      html(
        "button",
        {
          type: "button",
          id,
          "aria-pressed": String(only === value),
          disabled: value && selected === 0,
          onclick: () => {
            this.showSelected(value);
            this.refresh();
            document.getElementById(id)?.focus();
          },
        },
        text,
      );
    const focused = document.activeElement === this.field;
    replace(
      this.bar,
      html(
        "span",
        { class: "segments", role: "group", "aria-label": "Rows" },
        toggle("rows-all", `All ${grouped(all)}`, false),
        toggle("rows-selected", `Selected ${grouped(selected)}`, true),
      ),
      this.field,
      this.search &&
        html(
          "button",
          { type: "button", id: "select-found", onclick: () => this.selectFound() },
          `Select these ${grouped(this.found.length)}`,
        ),
      html("button", { type: "button", id: "save-csv", onclick: () => this.save() }, "Save CSV"),
      html(
        "span",
        { class: "soft", id: "table-count" },
        `${grouped(this.found.length)} of ${plural(all, content.noun)}`,
      ),
    );
    if (focused) this.field.focus();
  }

  private selectFound(): void {
    const members = new Uint8Array(this.context.network.count);
    for (const row of this.found) members[this.content!.condition(row)] = 1;
    this.context.select(members);
  }

  private save(): void {
    const { columns } = this.content!;
    const rows = this.found.map((row) =>
      columns.map((column) => (column.value ? column.value(row) : column.text(row))),
    );
    const network = this.context.network;
    const text = csv([columns.map((column) => column.title), ...rows]);
    saveText(fileName(network, this.what, "csv"), text, "text/csv");
  }

  private paintRows(content: TableContent): void {
    const pages = Math.max(1, Math.ceil(this.found.length / PAGE));
    this.page = Math.min(this.page, pages - 1);
    const rows = this.found.slice(this.page * PAGE, (this.page + 1) * PAGE);
    const { network } = this.context;
    const thumbnails = network.content.thumbnails !== null;
    const table = html(
      "table",
      {},
      html("caption", { class: "hidden" }, `${content.noun}s, ${this.what}`),
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          html("th", { scope: "col" }, html("span", { class: "hidden" }, "selected")),
          thumbnails && html("th", { scope: "col" }, html("span", { class: "hidden" }, "image")),
          ...content.columns.map((column, index) => this.heading(column, index)),
        ),
      ),
      html("tbody", {}, ...rows.map((row) => this.row(content, row, thumbnails))),
    );
    const scrolled = this.body.querySelector(".wide")?.scrollLeft ?? 0;
    replace(
      this.body,
      html("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Table" }, table),
      rows.length === 0 && html("p", { class: "soft" }, "No row."),
      pages > 1 && this.pager(pages),
    );
    this.body.querySelector(".wide")!.scrollLeft = scrolled;
  }

  private heading(column: Column, index: number): HTMLElement {
    const current = this.sorted === index;
    const sort = current ? (this.descending ? "descending" : "ascending") : "none";
    const id = `sort-${index}`;
    return html(
      "th",
      { scope: "col", "aria-sort": sort, class: column.value ? "n" : "" },
      html(
        "button",
        {
          type: "button",
          id,
          class: "sort",
          onclick: () => {
            this.descending = current && !this.descending;
            this.sorted = index;
            this.page = 0;
            this.refresh();
            document.getElementById(id)?.focus();
          },
        },
        column.title,
        html("span", { "aria-hidden": "true" }, current ? (this.descending ? " ↓" : " ↑") : ""),
      ),
    );
  }

  private row(content: TableContent, row: number, thumbnails: boolean): HTMLElement {
    const { context } = this;
    const condition = content.condition(row);
    const selected = context.selectedCount > 0 && content.selected?.[row] === 1;
    const thumbnail = context.network.thumbnail(condition);
    const id = `row-${row}`;
    return html(
      "tr",
      { class: selected ? "selected" : "" },
      html(
        "td",
        { class: "check" },
        html("input", {
          type: "checkbox",
          id,
          checked: context.selected?.[condition] === 1,
          "aria-label": `Select: ${context.network.text(condition)}`,
          onchange: () => context.toggle(condition, true),
        }),
      ),
      thumbnails && html("td", { class: "thumb" }, thumbnail && image(thumbnail.url, "", 36)),
      ...content.columns.map((column) =>
        html("td", { class: cellClass(column, row) }, this.cell(column, row)),
      ),
    );
  }

  private cell(column: Column, row: number): Child {
    const { press } = column;
    if (!press) return column.text(row);
    const id = `open-${row}`;
    return html("button", { type: "button", id, onclick: () => press(row) }, column.text(row));
  }

  private pager(pages: number): HTMLElement {
    const turn = (id: string, text: string, page: number) =>
      html(
        "button",
        {
          type: "button",
          id,
          disabled: page < 0 || page >= pages,
          onclick: () => {
            this.page = page;
            this.paintRows(this.content!);
            document.getElementById(id)?.focus();
          },
        },
        text,
      );
    return html(
      "div",
      { class: "bar" },
      turn("page-before", "Previous", this.page - 1),
      html("span", { class: "soft" }, `page ${this.page + 1} of ${grouped(pages)}`),
      turn("page-next", "Next", this.page + 1),
    );
  }
}

const LONG_TEXT = 40;

function cellClass(column: Column, row: number): string {
  if (column.value) return "n";
  return column.text(row).length > LONG_TEXT ? "words-cell long" : "words-cell";
}
