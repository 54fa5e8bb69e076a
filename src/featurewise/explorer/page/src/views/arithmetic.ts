// A + B − C of three task representations: which condition the result is near to.

import type { Context, MountedView, View } from "../context.ts";
import { button } from "../controls.ts";
import { html, image, keepingFocus, replace } from "../dom.ts";
import { provenance } from "../download.ts";
import { Mix, SUM } from "../mix.ts";
import { format, grouped } from "../numbers.ts";
import { conditionBlock, outputBars } from "../outputs.ts";
import type { Arithmetic } from "../schema.ts";
import { whole } from "../state.ts";
import { DataTable } from "../table.ts";

/** Sum of the reader's own choice, which the server computes. */
const OWN = "own";

export const arithmeticView: View = {
  id: "arithmetic",
  title: "A + B − C",
  isAvailable: (network, server) => network.content.arithmetic.length > 0 || server !== null,
  mount: (host, context) => new ArithmeticView(host, context),
};

class ArithmeticView implements MountedView {
  private readonly figure = html("div", {});
  private readonly table: DataTable;
  private readonly mix: Mix | null;

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    this.table = new DataTable(context, "arithmetic");
    const answer = context.live("sum");
    const { arithmetic } = context.network.content;
    const first = arithmetic[whole(context.state.sum, arithmetic.length)];
    const usual = first ? [first.a, first.b, first.c] : [0, 1, 2];
    const back = first && button("listed", "Sums of the page", () => this.open("0"));
    this.mix = answer && new Mix(context, answer, SUM, usual, back);
    host.append(this.figure, this.table.element);
    this.update();
  }

  update(): void {
    const { network, state } = this.context;
    const sums = network.content.arithmetic;
    const index = whole(state.sum, sums.length);
    const sum = sums[index];
    const mix = sum && state.sum !== OWN ? null : this.mix;
    keepingFocus(() => {
      if (mix && this.figure.firstChild !== mix.element) replace(this.figure, mix.element);
      if (!mix && sum) replace(this.figure, this.figureCard(sum, index, sums.length));
    });
    mix?.update();
    this.table.element.hidden = sums.length === 0;
    this.showTable(sums);
  }

  private open(sum: string): void {
    this.context.store.set({ sum, weight: "" });
  }

  step(by: number): void {
    const { network, state, store } = this.context;
    const count = network.content.arithmetic.length;
    if (count === 0) return;
    const index = (whole(state.sum, count) + by + count) % count;
    store.set({ sum: String(index) });
    this.context.announce(`sum ${index + 1} of ${count}`);
  }

  private figureCard(sum: Arithmetic, index: number, count: number): HTMLElement {
    const { context } = this;
    const { network } = context;
    const nearest = sum.nearest.map((condition, rank) =>
      html(
        "li",
        {},
        this.small(condition),
        network.text(condition),
        html(
          "span",
          { class: "soft nowrap" },
          ` distance ${format(sum.distances[rank] ?? Number.NaN)}`,
        ),
      ),
    );
    return html(
      "section",
      { class: "card" },
      html(
        "div",
        { class: "figure-head" },
        html("h3", {}, `A + B − C, ${index + 1} of ${grouped(count)}`),
        this.mix && button("own-sum", "Any three conditions", () => this.open(OWN)),
        html(
          "span",
          { class: "segments", role: "group", "aria-label": "Sums" },
          button("sum-before", "[", () => this.step(-1), { "aria-label": "Previous sum" }),
          button("sum-next", "]", () => this.step(1), { "aria-label": "Next sum" }),
        ),
      ),
      html(
        "div",
        { class: "conditions" },
        conditionBlock(context, "A", sum.a, "select-a"),
        conditionBlock(context, "+ B", sum.b, "select-b"),
        conditionBlock(context, "− C", sum.c, "select-c"),
      ),
      html(
        "div",
        { class: "conditions wider" },
        html(
          "div",
          {},
          html("h4", {}, "Nearest conditions to the result"),
          html("ol", { class: "nearest" }, ...nearest),
          html("h4", {}, "Expected"),
          html("p", {}, sum.expected || html("span", { class: "soft" }, "nothing in particular")),
        ),
        (sum.outputs || sum.images.length > 0) &&
          html(
            "div",
            { class: "large" },
            html("h4", {}, "What the network answers with the result"),
            image(sum.images[0], "what the network generates with the result"),
            sum.outputs && outputBars(network, sum.outputs, 0),
          ),
      ),
      html(
        "p",
        {},
        "The task representations of A and B are added and that of C is subtracted, value by value. Distances are " +
          "in multiples of the mean distance of two conditions; A, B and C are left out.",
      ),
      html("p", { class: "provenance" }, provenance(network)),
    );
  }

  private small(condition: number): HTMLElement | null {
    const thumbnail = this.context.network.thumbnail(condition);
    return thumbnail && image(thumbnail.url, "", 44);
  }

  private showTable(sums: Arithmetic[]): void {
    const { network, store } = this.context;
    const distance = (row: number) => sums[row]!.distances[0] ?? Number.NaN;
    this.table.show({
      noun: "sum",
      count: sums.length,
      visible: null,
      selected: Uint8Array.from(
        sums,
        ({ nearest }) => this.context.selected?.[nearest[0] ?? -1] ?? 0,
      ),
      condition: (row) => sums[row]!.nearest[0] ?? sums[row]!.a,
      columns: [
        {
          title: "show",
          text: (row) => `${row + 1}`,
          press: (row) => {
            store.set({ sum: String(row) });
            this.figure.scrollIntoView({ block: "start" });
          },
        },
        { title: "nearest", text: (row) => network.text(sums[row]!.nearest[0] ?? -1) },
        { title: "distance", text: (row) => format(distance(row)), value: distance },
        { title: "A", text: (row) => network.text(sums[row]!.a) },
        { title: "B", text: (row) => network.text(sums[row]!.b) },
        { title: "C", text: (row) => network.text(sums[row]!.c) },
        { title: "expected", text: (row) => sums[row]!.expected },
      ],
    });
  }
}
