// A menu of conditions with a field that searches them.

import type { Context } from "./context.ts";
import { html, replace } from "./dom.ts";
import { grouped, plural } from "./numbers.ts";

const OFFERED = 200;

export class ConditionPicker {
  readonly element: HTMLElement;
  private readonly field: HTMLInputElement;
  private readonly select: HTMLSelectElement;
  private readonly counts = html("span", { class: "soft" });
  private value = 0;

  constructor(
    private readonly context: Context,
    id: string,
    label: string,
    private readonly choose: (condition: number) => void,
  ) {
    this.field = html("input", {
      type: "search",
      id: `${id}-search`,
      placeholder: "Search",
      "aria-label": `Search: ${label}`,
      autocomplete: "off",
      spellcheck: "false",
      oninput: () => this.paint(),
      onkeydown: (event: KeyboardEvent) => event.key === "Enter" && this.chooseFirst(),
    });
    this.select = html("select", {
      id,
      onchange: () => this.choose(Number(this.select.value)),
    });
    this.element = html(
      "div",
      { class: "field picker", role: "group", "aria-label": label },
      html("label", { for: id }, label),
      html("span", { class: "picker-parts" }, this.field, this.select),
      this.counts,
    );
  }

  show(value: number): void {
    this.value = value;
    this.paint();
  }

  private found(): number[] {
    const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { network } = this.context;
    return Array.from({ length: network.count }, (_, condition) => condition).filter(
      (condition) => {
        const text = this.title(condition).toLowerCase();
        return words.every((word) => text.includes(word));
      },
    );
  }

  private chooseFirst(): void {
    const first = this.found()[0];
    if (first !== undefined) this.choose(first);
  }

  private title(condition: number): string {
    const { network } = this.context;
    const label = network.textLabel ? undefined : network.labels[0];
    const more = label ? `, ${label.name} ${network.labelText(label, condition)}` : "";
    return `${condition}: ${network.text(condition)}${more}`;
  }

  private paint(): void {
    const { value } = this;
    const found = this.found();
    const offered = found.slice(0, OFFERED);
    if (!offered.includes(value)) offered.unshift(value);
    replace(
      this.select,
      ...offered.map((each) =>
        html("option", { value: each, selected: each === value }, this.title(each)),
      ),
    );
    this.counts.textContent = `${grouped(found.length)} of ${plural(this.context.network.count, "condition")} found`;
    this.counts.hidden = this.field.value.trim() === "";
  }
}
