// What the network answers, and the conditions that a figure speaks of.

import type { Context } from "./context.ts";
import { type Child, html, image } from "./dom.ts";
import type { Network } from "./network.ts";
import { format, grouped } from "./numbers.ts";
import type { Outputs } from "./schema.ts";

const MOST_BARS = 6;
const FEWEST_BARS = 3;

export interface Answer {
  name: string;
  value: number;
  index: number;
}

/** Answers of one step, the largest value first. */
export function answersAt(network: Network, outputs: Outputs, step: number): Answer[] {
  const values = network.array(outputs.array);
  const count = outputs.names.length;
  return outputs.names
    .map((name, index) => ({ name, index, value: values[step * count + index]! }))
    .sort((a, b) => b.value - a.value);
}

export function outputBars(network: Network, outputs: Outputs, step: number): HTMLElement {
  return answerBars(answersAt(network, outputs, step), outputs.unit);
}

/** Bars of answers, of which the largest value comes first. */
export function answerBars(answers: { name: string; value: number }[], unit: string): HTMLElement {
  const shown = answers
    .slice(0, MOST_BARS)
    .filter(({ value }, rank) => rank < FEWEST_BARS || Math.abs(value) >= 0.0005);
  const largest =
    unit === "probability" ? 1 : Math.max(...answers.map((each) => Math.abs(each.value)), 1e-9);
  return html(
    "div",
    {},
    html(
      "div",
      { class: "bars" },
      ...shown.flatMap(({ name, value }) => [
        html("span", {}, name),
        track(Math.abs(value) / largest, value < 0),
        html("span", { class: "value" }, valueText(value, unit)),
      ]),
    ),
    html(
      "p",
      { class: "soft" },
      `${unit}; ${grouped(shown.length)} of ${grouped(answers.length)} answers`,
    ),
  );
}

export function valueText(value: number, unit: string): string {
  return unit === "probability" ? value.toFixed(3) : format(value);
}

export function track(share: number, negative = false): HTMLElement {
  const fill = html("span", { class: negative ? "fill negative" : "fill" });
  fill.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  return html("span", { class: "track" }, fill);
}

/** A condition by image and text, with a button that selects it. */
export function conditionBlock(
  context: Context,
  role: string,
  condition: number,
  id: string,
  ...more: Child[]
): HTMLElement {
  const { network } = context;
  const thumbnail = network.thumbnail(condition);
  const selected = context.selected?.[condition] === 1;
  return html(
    "div",
    { class: "condition" },
    thumbnail && image(thumbnail.url, thumbnail.alt, 84),
    html(
      "div",
      {},
      html("div", { class: "role" }, role),
      html("div", {}, network.text(condition)),
      html(
        "button",
        {
          type: "button",
          id,
          class: "quiet",
          "aria-label": `${selected ? "Deselect" : "Select"}: ${network.text(condition)}`,
          onclick: () => context.toggle(condition, true),
        },
        selected ? "Deselect" : "Select",
      ),
      ...more,
    ),
  );
}
