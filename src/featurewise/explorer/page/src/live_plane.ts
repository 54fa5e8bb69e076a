// Values of one feature that the reader moves freely, and what the network answers with them.

import type { Context } from "./context.ts";
import { button, card, menu } from "./controls.ts";
import { type Child, html, keepingFocus, replace } from "./dom.ts";
import { provenance } from "./download.ts";
import { axesOf, siteOf, slotOf } from "./features.ts";
import { FreePlane, type PlaneAxis, type PlaneContent, type Shade } from "./free_plane.ts";
import { answerColors, ownValues } from "./grids.ts";
import { type LiveAnswer, PAUSE } from "./live.ts";
import { nearestList, paintAnswer, replyAnswers, spokenReply } from "./live_parts.ts";
import type { Network } from "./network.ts";
import { symbol } from "./network.ts";
import { extent, format, grouped, padded, plainNumber, type Range } from "./numbers.ts";
import { answersAt, conditionBlock } from "./outputs.ts";
import { ConditionPicker } from "./picker.ts";
import type { FeatureEdit, Grid } from "./schema.ts";
import { type Key, type State, whole } from "./state.ts";
import { colors } from "./theme.ts";

/** The reader's own choice of feature and condition. */
const OWN = "own";
const MOST_DOTS = 1500;

/** What is moved: parameters of one feature, for one condition. */
interface Subject {
  grid: Grid | null;
  site: string;
  feature: number;
  condition: number;
  across: string;
  up: string | null;
}

export class LivePlane {
  readonly element = html("div", {});
  private readonly controls = html("div", { class: "bar controls" });
  private readonly picker: ConditionPicker;
  private readonly block = html("div", {});
  private readonly plane: FreePlane;
  private readonly fields = html("div", { class: "bar" });
  private readonly legend = html("div", {});
  private readonly host = html("div", { class: "live", id: "answer" });
  private readonly more = html("div", {});
  private readonly explanation = html("p", {});
  private readonly fieldAcross = this.numberField("at-across", 0);
  private readonly fieldUp = this.numberField("at-up", 1);
  /** The field whose text the reader has not committed yet: it is not written over. */
  private typed: EventTarget | null = null;
  private point: [number, number] = [0, 0];
  private timer = 0;

  constructor(
    private readonly context: Context,
    private readonly answer: LiveAnswer,
    private readonly open: (site: string, feature: number) => void,
  ) {
    this.plane = new FreePlane((point) => this.move(point));
    this.picker = new ConditionPicker(context, "condition", "Condition", (condition) =>
      context.store.set({ grid: OWN, on: String(condition), at: "" }),
    );
    this.element.append(
      card(
        "Other values of one feature",
        this.controls,
        this.block,
        html(
          "div",
          { class: "split" },
          html("div", {}, this.plane.element, this.legend, this.fields),
          html("div", { class: "large" }, this.host, this.more),
        ),
        this.explanation,
        html("p", { class: "provenance" }, provenance(context.network)),
      ),
    );
    answer.changed = () => {
      this.paintReply();
      context.announce(`${this.valuesText()}: ${spokenReply(context, answer)}`);
    };
  }

  update(changed?: Set<Key>): void {
    const { context } = this;
    const subject = this.subject;
    const own = this.ownPoint(subject);
    const content = planeContent(context.network, subject, own, this.width);
    this.point = parsePoint(context.state.at) ?? own ?? middle(content);
    keepingFocus(() => {
      if (!changed || [...changed].some((key) => key !== "at")) {
        this.paintControls(subject);
        replace(this.block, conditionBlock(context, "condition", subject.condition, "select-one"));
        replace(this.legend, legendOf(context.network, subject.grid));
        this.paintExplanation(subject, own);
        this.plane.show({ ...content, point: this.point });
        this.paintFields(subject, own);
      } else this.plane.place(this.point);
      this.fillFields();
      this.request(0);
    });
  }

  private get width(): number {
    return Math.max(280, Math.min(640, this.plane.element.clientWidth || 560));
  }

  private get subject(): Subject {
    const { network, state, imageOf } = this.context;
    const { grids } = network.content;
    const grid = state.grid === OWN ? undefined : grids[whole(state.grid, grids.length)];
    if (grid) return { ...grid, grid };
    const site = siteOf(network, state)!;
    const [across, up] = axesOf(site, state);
    return {
      grid: null,
      site: site.name,
      feature: site.numbers[slotOf(network, site, state)]!,
      condition: imageOf,
      across: across.name,
      up: up === across ? null : up.name,
    };
  }

  private ownPoint({ site, feature, condition, across, up }: Subject): [number, number] | null {
    const { network } = this.context;
    return ownValues(network, { site, feature, condition, across, up: up ?? across });
  }

  private move(point: [number, number]): void {
    this.point = point;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.keep(), 2 * PAUSE);
    this.fillFields();
    this.request(PAUSE);
  }

  private keep(): void {
    if (this.element.isConnected) this.context.store.set({ at: this.point.join(",") }, true);
  }

  private request(pause: number): void {
    const { site, feature, condition, across, up } = this.subject;
    const edit = (parameter: string, value: number): FeatureEdit => ({
      site,
      feature,
      parameter,
      value,
    });
    const [x, y] = this.point;
    this.answer.want(
      this.context.modelIndex,
      {
        condition,
        terms: [{ condition, weight: 1 }],
        edits: [edit(across, x), ...(up ? [edit(up, y)] : [])],
      },
      pause,
    );
    this.paintReply();
  }

  private valuesText(): string {
    const { across, up } = this.subject;
    const [x, y] = this.point;
    const first = `${symbol(across)} = ${plainNumber(x)}`;
    return up ? `${first}, ${symbol(up)} = ${plainNumber(y)}` : first;
  }

  private paintReply(): void {
    const { context } = this;
    keepingFocus(() =>
      paintAnswer(this.host, this.answer, (reply) => [
        html("h4", { id: "here" }, this.valuesText()),
        ...replyAnswers(context, reply),
      ]),
    );
    const reply = this.answer.reply;
    const subject = this.subject;
    keepingFocus(() =>
      replace(
        this.more,
        button("open-feature", `Feature ${subject.feature} in Parameters`, () =>
          this.open(subject.site, subject.feature),
        ),
        reply &&
          html(
            "details",
            { open: this.more.querySelector("details")?.open === true },
            html("summary", {}, "Nearest conditions"),
            nearestList(context, reply.nearest),
          ),
      ),
    );
  }

  private paintControls(subject: Subject): void {
    const { network, state, store } = this.context;
    const { grids } = network.content;
    const options = grids.map((each, index) => ({
      value: String(index),
      text: `feature ${each.feature} of ${each.site}, ${network.text(each.condition)}`,
    }));
    options.push({ value: OWN, text: "any feature and condition" });
    const chosen = subject.grid ? String(grids.indexOf(subject.grid)) : OWN;
    const list: Child[] = [
      menu(
        "grid",
        `Feature and condition, ${grouped(grids.length)} in this page`,
        options,
        chosen,
        (grid) => store.set({ grid, cell: "", at: "" }),
      ),
    ];
    if (!subject.grid) list.push(...this.featureControls(state));
    replace(this.controls, ...list);
    this.picker.show(subject.condition);
  }

  private featureControls(state: State): Child[] {
    const { network, store } = this.context;
    const site = siteOf(network, state)!;
    const sites = network.sites.map(({ name }) => ({ value: name, text: name }));
    const numbers = site.numbers.map((each) => ({ value: String(each), text: String(each) }));
    const feature = String(site.numbers[slotOf(network, site, state)]);
    return [
      menu("site", "Site", sites, site.name, (name) =>
        store.set({ site: name, feature: "", across: "", up: "", at: "" }),
      ),
      menu("feature", "Feature", numbers, feature, (next) => store.set({ feature: next, at: "" })),
      this.picker.element,
    ];
  }

  private paintFields({ across, up }: Subject, own: [number, number] | null): void {
    const labelled = (name: string, field: HTMLInputElement) =>
      html("label", { class: "field", for: field.id }, html("span", {}, symbol(name)), field);
    this.typed = null;
    replace(
      this.fields,
      labelled(across, this.fieldAcross),
      up && labelled(up, this.fieldUp),
      own &&
        button("own-values", "Back to the condition's own", () =>
          this.context.store.set({ at: "" }),
        ),
    );
  }

  private numberField(id: string, index: 0 | 1): HTMLInputElement {
    const commit = (field: HTMLInputElement): void => {
      this.typed = null;
      const value = Number(field.value);
      if (field.value === "" || !Number.isFinite(value)) {
        this.fillFields();
        return;
      }
      const next: [number, number] = [...this.point];
      next[index] = value;
      this.plane.place(next);
      this.move(next);
    };
    return html("input", {
      type: "number",
      id,
      step: "any",
      oninput: (event: Event) => {
        this.typed = event.target;
      },
      onchange: (event: Event) => commit(event.target as HTMLInputElement),
      // Text that was typed and taken back changes nothing.
      onblur: () => {
        this.typed = null;
        this.fillFields();
      },
    });
  }

  private fillFields(): void {
    for (const [index, field] of [this.fieldAcross, this.fieldUp].entries()) {
      if (field !== this.typed) field.value = String(Number(this.point[index]!.toPrecision(4)));
    }
  }

  private paintExplanation({ across, up }: Subject, own: [number, number] | null): void {
    const [a, b] = [symbol(across), up ? symbol(up) : ""];
    const both = up ? `${a} and ${b}` : a;
    const ownText = own
      ? ` ◆: the values with the condition itself, ${a} = ${format(own[0])}${up ? `, ${b} = ${format(own[1])}` : ""}.`
      : "";
    this.explanation.textContent = `Drag the point: ${both} of this one feature get its values; all other parameters stay those of the condition.${ownText} Small dots: the conditions of the page.`;
  }
}

function parsePoint(text: string): [number, number] | null {
  const [x, y] = text === "" ? [] : text.split(",").map(Number);
  if (x === undefined || y === undefined) return null;
  return Number.isFinite(x) && Number.isFinite(y) ? [x, y] : null;
}

function middle({ across, up }: PlaneContent): [number, number] {
  const half = ({ low, high }: Range) => Number(((low + high) / 2).toPrecision(4));
  return [half(across.range), up ? half(up.range) : 0];
}

function planeContent(
  network: Network,
  subject: Subject,
  own: [number, number] | null,
  width: number,
): PlaneContent {
  const { grid, site: name, feature, across, up } = subject;
  const site = network.sites.find((each) => each.name === name);
  const slot = site?.numbers.indexOf(feature) ?? -1;
  const find = (parameter: string | null) =>
    site?.parameters.find((each) => each.name === parameter);
  const column = (parameter: string | null): number[] => {
    const values = slot >= 0 ? find(parameter)?.values : undefined;
    if (!site || !values) return [];
    return Array.from({ length: network.count }, (_, c) => values[c * site.features + slot]!);
  };
  const [x, y] = [column(across), column(up)];
  const axis = (parameter: string, values: number[], given: number[] | undefined): PlaneAxis => {
    const origin = find(parameter)?.origin ?? null;
    const all = [...(given ?? []), ...values, ...(origin === null ? [] : [origin])];
    return { symbol: symbol(parameter), origin, range: padded(extent(all), given ? 0.08 : 0.3) };
  };
  const dots: number[] = [];
  const step = Math.max(1, Math.ceil(x.length / MOST_DOTS));
  for (let i = 0; i < x.length; i += step) dots.push(x[i]!, y[i] ?? 0);
  return {
    label: `Values of feature ${feature} of ${name}`,
    width,
    across: axis(across, x, grid?.columns),
    up: up === null ? null : axis(up, y, grid?.rows),
    dots,
    shades: grid ? shadesOf(network, grid) : [],
    own,
    point: [0, 0],
  };
}

/** The cells of a grid, each colored by its largest answer. */
function shadesOf(network: Network, grid: Grid): Shade[] {
  const { outputs, rows, columns } = grid;
  if (!outputs) return [];
  const styles = answerColors(network, grid);
  return rows.flatMap((_, row) =>
    columns.map((_, column): Shade => {
      const best = answersAt(network, outputs, row * columns.length + column)[0]!;
      return {
        across: around(columns, column),
        up: around(rows, row),
        color: styles.get(best.index) ?? colors().muted,
        opacity: 0.06 + 0.22 * Math.min(1, Math.max(0, best.value)),
      };
    }),
  );
}

/** From half way to the value before to half way to the next one. */
function around(values: number[], index: number): Range {
  const sorted = [...values].sort((a, b) => a - b);
  const at = values[index]!;
  const place = sorted.indexOf(at);
  const before = sorted[place - 1];
  const after = sorted[place + 1];
  const low = before === undefined ? at - ((after ?? at + 1) - at) / 2 : (before + at) / 2;
  const high = after === undefined ? at + (at - (before ?? at - 1)) / 2 : (at + after) / 2;
  return { low, high };
}

function legendOf(network: Network, grid: Grid | null): Child {
  const { outputs } = grid ?? {};
  if (!grid || !outputs) return null;
  return html(
    "ul",
    { class: "chart-legend" },
    html("li", { class: "soft" }, "largest answer, computed beforehand:"),
    ...[...answerColors(network, grid)].map(([answer, color]) => {
      const box = html("span", { class: "box" });
      box.style.background = color;
      return html("li", {}, box, outputs.names[answer]!);
    }),
  );
}
