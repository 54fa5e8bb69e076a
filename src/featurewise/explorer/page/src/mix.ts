// A weighted sum of task representations of chosen conditions, computed by the server.

import type { Context } from "./context.ts";
import { type Child, html, keepingFocus, replace } from "./dom.ts";
import { provenance } from "./download.ts";
import { type LiveAnswer, PAUSE } from "./live.ts";
import { nearestList, paintAnswer, replyAnswers, spokenReply } from "./live_parts.ts";
import { plainNumber } from "./numbers.ts";
import { conditionBlock } from "./outputs.ts";
import { ConditionPicker } from "./picker.ts";
import { positionOf } from "./state.ts";

type Role = "a" | "b" | "c";

export interface MixKind {
  figure: string;
  title: string;
  roles: { key: Role; label: string }[];
  /** Weight of the slider where the reader chose none. */
  usual: number;
  factors(weight: number): number[];
  formula(weight: string): string;
  explanation: string;
}

export const LINE: MixKind = {
  figure: "line",
  title: "Between any two conditions",
  roles: [
    { key: "a", label: "Start (weight 0)" },
    { key: "b", label: "End (weight 1)" },
  ],
  usual: 0.5,
  factors: (weight) => [1 - weight, weight],
  formula: (weight) => `weight ${weight} of the end`,
  explanation:
    "At weight w the network is given (1 − w) times the task representation of the start plus w times that of the " +
    "end, and the image of the start.",
};

export const SUM: MixKind = {
  figure: "sum",
  title: "A + w · (B − C) of any three conditions",
  roles: [
    { key: "a", label: "A" },
    { key: "b", label: "B" },
    { key: "c", label: "C" },
  ],
  usual: 1,
  factors: (weight) => [1, weight, -weight],
  formula: (weight) => (weight === "1" ? "A + B − C" : `A + ${weight} · (B − C)`),
  explanation:
    "The network is given the task representation of A plus w times the difference of those of B and C, and the " +
    "image of A.",
};

export class Mix {
  readonly element = html("section", { class: "card" });
  private readonly pickers: ConditionPicker[];
  private readonly blocks = html("div", { class: "conditions" });
  private readonly heading = html("h4", { id: "formula" });
  private readonly host = html("div", { class: "live" });
  private readonly slider: HTMLInputElement;
  private readonly shown = html("output", { for: "weight" });
  private readonly footer = html("p", { class: "provenance" });
  private weight = 0;
  private timer = 0;

  constructor(
    private readonly context: Context,
    private readonly answer: LiveAnswer,
    private readonly kind: MixKind,
    private readonly usual: number[],
    ...head: Child[]
  ) {
    const { store } = context;
    this.pickers = kind.roles.map(
      ({ key, label }) =>
        new ConditionPicker(context, `choose-${key}`, label, (condition) =>
          store.set({ [key]: String(condition) }),
        ),
    );
    this.slider = html("input", {
      type: "range",
      id: "weight",
      min: 0,
      max: 1,
      step: 0.01,
      "aria-label": "Weight w",
      oninput: () => this.slide(),
    });
    this.element.append(
      html("div", { class: "figure-head" }, html("h3", {}, kind.title), ...head.filter(isNode)),
      html("div", { class: "pickers" }, ...this.pickers.map((each) => each.element)),
      this.blocks,
      html("div", { class: "slider" }, this.slider, this.shown),
      this.heading,
      this.host,
      html("p", {}, kind.explanation),
      this.footer,
    );
    answer.changed = () => {
      this.paintReply();
      context.announce(spokenReply(context, answer));
    };
  }

  /** Shows what the state says. */
  update(): void {
    const { context, kind } = this;
    const { state } = context;
    const weight = state.weight === "" ? Number.NaN : Number(state.weight);
    this.weight = weight >= 0 && weight <= 1 ? weight : kind.usual;
    const chosen = this.conditions;
    keepingFocus(() => {
      this.pickers.forEach((picker, index) => {
        picker.show(chosen[index]!);
      });
      replace(
        this.blocks,
        ...kind.roles.map(({ key, label }, index) =>
          conditionBlock(context, label, chosen[index]!, `select-${key}`),
        ),
      );
      this.slider.value = String(this.weight);
      this.footer.textContent = provenance(context.network);
      this.ask(0);
    });
  }

  private get conditions(): number[] {
    const { network, state } = this.context;
    return this.kind.roles.map(({ key }, index) =>
      positionOf(state[key], network.count, this.usual[index] ?? 0),
    );
  }

  private slide(): void {
    this.weight = Number(this.slider.value);
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      if (this.element.isConnected) {
        this.context.store.set({ weight: String(this.weight) }, true);
      }
    }, 2 * PAUSE);
    this.ask(PAUSE);
  }

  private ask(pause: number): void {
    const { kind, context, weight, conditions } = this;
    const text = plainNumber(weight);
    this.shown.textContent = `w = ${weight.toFixed(2)}`;
    this.slider.setAttribute("aria-valuetext", `weight ${text}`);
    this.heading.textContent = kind.formula(text);
    const terms = kind.factors(weight).map((factor, index) => ({
      condition: conditions[index]!,
      weight: Number(factor.toFixed(4)),
    }));
    this.answer.want(context.modelIndex, { condition: conditions[0]!, terms }, pause);
    this.paintReply();
  }

  private paintReply(): void {
    const { context } = this;
    keepingFocus(() =>
      paintAnswer(this.host, this.answer, (reply) => [
        html(
          "div",
          { class: "conditions wider" },
          html("div", { class: "large" }, ...replyAnswers(context, reply)),
          nearestList(context, reply.nearest),
        ),
      ]),
    );
  }
}

function isNode(child: Child): child is Node {
  return child instanceof Node;
}
