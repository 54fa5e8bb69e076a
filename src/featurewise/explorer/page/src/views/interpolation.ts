// On the straight line from one task representation to another: what the network answers.

import { chart } from "../charts.ts";
import { groupStyle } from "../coloring.ts";
import type { Context, MountedView, View } from "../context.ts";
import { button, card, menu } from "../controls.ts";
import { type Child, html, image, keepingFocus, replace } from "../dom.ts";
import { provenance, saveChart } from "../download.ts";
import { swatch } from "../legend.ts";
import { LINE, Mix } from "../mix.ts";
import type { Network } from "../network.ts";
import { extent, grouped, plainNumber, plural } from "../numbers.ts";
import { conditionBlock, outputBars } from "../outputs.ts";
import type { Interpolation, Outputs } from "../schema.ts";
import { type Key, whole } from "../state.ts";
import { type Column, DataTable } from "../table.ts";
import { HUES } from "../theme.ts";

const PAUSE = 350;
const FEWEST = 2;
/** Pair of the reader's own choice, which the server computes. */
const OWN = "own";
/** Answers that never reach this share of the largest value are left to the bars. */
const WORTH = 0.02;
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export const interpolationView: View = {
  id: "interpolation",
  title: "Interpolation",
  isAvailable: (network, server) => network.content.interpolations.length > 0 || server !== null,
  mount: (host, context) => new InterpolationView(host, context),
};

class InterpolationView implements MountedView {
  private readonly controls = html("div", { class: "bar controls" });
  private readonly figure = html("div", {});
  private readonly table: DataTable;
  private readonly mix: Mix | null;
  private timer = 0;

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    this.table = new DataTable(context, "interpolation");
    const answer = context.live("line");
    const { start, end } = this.pair ?? { start: 0, end: 1 };
    this.mix = answer && new Mix(context, answer, LINE, [start, end]);
    host.append(this.controls, this.figure, this.table.element);
    this.renew();
  }

  update(changed: Set<Key>): void {
    if (changed.has("pair") || !this.figure.isConnected) this.stop();
    this.renew();
  }

  resize(): void {
    this.renew();
  }

  /** The shown pair of the page; undefined where it holds none. */
  private get pair(): Interpolation | undefined {
    const { network, state } = this.context;
    const { interpolations } = network.content;
    return interpolations[whole(state.pair, interpolations.length)];
  }

  private position(pair: Interpolation): number {
    return whole(this.context.state.step, pair.weights.length);
  }

  private renew(): void {
    const { context, pair } = this;
    const { network, store } = context;
    const { interpolations } = network.content;
    const mix = pair && context.state.pair !== OWN ? null : this.mix;
    keepingFocus(() => {
      const options = interpolations.map(({ start, end }, index) => ({
        value: String(index),
        text: `${index + 1}: ${network.text(start)} → ${network.text(end)}`,
      }));
      if (this.mix) options.push({ value: OWN, text: "any two conditions, any weight" });
      replace(
        this.controls,
        menu(
          "pair",
          `Pair, ${grouped(interpolations.length)} in this page`,
          options,
          mix || !pair ? OWN : String(interpolations.indexOf(pair)),
          (next) => store.set({ pair: next, step: "0", weight: "" }),
        ),
      );
      if (mix && this.figure.firstChild !== mix.element) replace(this.figure, mix.element);
      if (!mix && pair) replace(this.figure, this.figureCard(network, pair));
    });
    mix?.update();
    this.table.element.hidden = mix !== null;
    if (!mix && pair) this.showTable(network, pair);
  }

  private figureCard(network: Network, pair: Interpolation): HTMLElement {
    const { context } = this;
    const step = this.position(pair);
    const { outputs } = pair;
    const nearest = pair.nearest[step];
    const plot = outputs && this.lines(network, pair, outputs);
    return card(
      "From one condition to another",
      html(
        "div",
        { class: "conditions" },
        conditionBlock(context, "weight 0: start", pair.start, "select-start"),
        conditionBlock(context, "weight 1: end", pair.end, "select-end"),
        nearest === undefined
          ? null
          : conditionBlock(
              context,
              `nearest condition at weight ${plainNumber(pair.weights[step]!)}`,
              nearest,
              "select-nearest",
            ),
      ),
      this.slider(pair),
      html(
        "div",
        { class: outputs ? "split" : "" },
        plot && html("div", {}, ...plot),
        html(
          "div",
          { class: "large" },
          html("h4", {}, `At weight ${plainNumber(pair.weights[step]!)}`),
          image(
            pair.images[step],
            `what the network generates at weight ${plainNumber(pair.weights[step]!)}`,
          ),
          outputs && outputBars(network, outputs, step),
        ),
      ),
      pair.images.length > 0 && this.strip(pair),
      html(
        "p",
        {},
        "At weight w the network is given (1 − w) times the task representation of the start plus w times that of " +
          "the end. The nearest condition is the one of this page whose task representation is nearest to that.",
      ),
      html("p", { class: "provenance" }, provenance(network)),
    );
  }

  private slider(pair: Interpolation): HTMLElement {
    const { context } = this;
    const step = this.position(pair);
    const last = pair.weights.length - 1;
    const weight = plainNumber(pair.weights[step]!);
    const playing = this.timer !== 0;
    return html(
      "div",
      { class: "slider" },
      !stillness.matches && button("play", playing ? "Pause" : "Play", () => this.play(pair)),
      html("input", {
        type: "range",
        id: "step",
        min: 0,
        max: last,
        value: step,
        "aria-label": "Step of the interpolation",
        "aria-valuetext": `weight ${weight}`,
        oninput: (event: Event) => {
          this.stop();
          context.store.set({ step: (event.target as HTMLInputElement).value }, true);
        },
      }),
      html("output", { for: "step" }, `weight ${weight}, step ${step + 1} of ${last + 1}`),
    );
  }

  private play(pair: Interpolation): void {
    if (this.timer) {
      this.stop();
      this.renew();
      return;
    }
    const last = pair.weights.length - 1;
    const { store } = this.context;
    this.timer = window.setInterval(() => {
      const at = this.position(pair);
      if (!this.figure.isConnected || at >= last) {
        this.stop();
        if (this.figure.isConnected) this.renew();
      } else {
        store.set({ step: String(at + 1) }, true);
      }
    }, PAUSE);
    const at = this.position(pair);
    store.set({ step: at >= last ? "0" : String(at + 1) }, true);
  }

  private stop(): void {
    clearInterval(this.timer);
    this.timer = 0;
  }

  private lines(network: Network, pair: Interpolation, outputs: Outputs): Child[] {
    const shown = largestAnswers(network, pair, outputs);
    const values = network.array(outputs.array);
    const at = (step: number, answer: number) => values[step * outputs.names.length + answer]!;
    const y = outputs.unit === "probability" ? { low: 0, high: 1 } : null;
    const plot = chart({
      label: `${outputs.unit} of ${shown.map((index) => outputs.names[index]).join(", ")} over the weight of the interpolation; the table has the numbers`,
      width: Math.max(
        300,
        Math.min(720, (this.figure.clientWidth || 700) * (innerWidth > 768 ? 0.58 : 0.92)),
      ),
      height: 320,
      x: { label: "weight of the end", range: extent(pair.weights) },
      y: { label: outputs.unit, ...(y ? { range: y } : {}) },
      lines: shown.map((answer, index) => ({
        ...groupStyle(index),
        x: pair.weights,
        y: pair.weights.map((_, step) => at(step, answer)),
      })),
      cursor: pair.weights[this.position(pair)]!,
    });
    const names = shown.map((answer, index) => ({
      name: outputs.names[answer]!,
      style: groupStyle(index),
      count: null,
    }));
    return [
      plot,
      html(
        "ul",
        { class: "chart-legend" },
        ...shown.map((answer, index) =>
          html("li", {}, swatch(groupStyle(index)), outputs.names[answer]!),
        ),
      ),
      html(
        "div",
        { class: "bar middle" },
        html(
          "span",
          { class: "soft" },
          `${grouped(shown.length)} of ${plural(outputs.names.length, "answer")}`,
        ),
        button("chart-png", "PNG", () => saveChart(plot, names, network, "interpolation", true), {
          "aria-label": "Save as PNG",
        }),
        button("chart-svg", "SVG", () => saveChart(plot, names, network, "interpolation", false), {
          "aria-label": "Save as SVG",
        }),
      ),
    ];
  }

  private strip(pair: Interpolation): HTMLElement {
    return html(
      "div",
      { class: "strip", role: "group", "aria-label": "Images by weight" },
      ...pair.images.map((url, index) =>
        html(
          "button",
          {
            type: "button",
            id: `image-${index}`,
            "aria-pressed": String(index === this.position(pair)),
            onclick: () => this.context.store.set({ step: String(index) }, true),
          },
          image(url, `weight ${plainNumber(pair.weights[index]!)}`, 64),
        ),
      ),
    );
  }

  private showTable(network: Network, pair: Interpolation): void {
    const { outputs } = pair;
    const weight = (row: number) => pair.weights[row]!;
    const columns: Column[] = [
      { title: "weight", text: (row) => plainNumber(weight(row)), value: weight },
      { title: "nearest condition", text: (row) => network.text(pair.nearest[row]!) },
    ];
    if (outputs) {
      const values = network.array(outputs.array);
      for (const answer of largestAnswers(network, pair, outputs)) {
        const value = (row: number) => values[row * outputs.names.length + answer]!;
        columns.push({
          title: outputs.names[answer]!,
          text: (row) => value(row).toFixed(3),
          value,
        });
      }
    }
    this.table.show({
      noun: "step",
      count: pair.weights.length,
      visible: null,
      selected: Uint8Array.from(pair.nearest, (each) => this.context.selected?.[each] ?? 0),
      condition: (row) => pair.nearest[row]!,
      columns,
    });
  }
}

/** The answers with the largest value at any step, as many as there are hues. */
function largestAnswers(network: Network, pair: Interpolation, outputs: Outputs): number[] {
  const values = network.array(outputs.array);
  const count = outputs.names.length;
  const largest = outputs.names.map((_, answer) =>
    Math.max(...pair.weights.map((_, step) => values[step * count + answer]!)),
  );
  return largest
    .map((_, answer) => answer)
    .sort((a, b) => largest[b]! - largest[a]!)
    .slice(0, HUES)
    .filter((answer, rank) => rank < FEWEST || largest[answer]! >= WORTH * Math.max(...largest));
}
