// What single features tell apart, as buttons that go there.

import { wordsText } from "./coloring.ts";
import type { Context } from "./context.ts";
import { button } from "./controls.ts";
import { html, keepingFocus, replace } from "./dom.ts";
import { symbol } from "./network.ts";
import { grouped, plainNumber } from "./numbers.ts";
import type { Separation } from "./schema.ts";

const OFFERED = 8;

function probability(p: number): string {
  return p < 0.001 ? "p < 0.001" : `p = ${plainNumber(p)}`;
}

export class Findings {
  readonly element = html("div", {});
  private all = false;

  constructor(private readonly context: Context) {}

  paint(): void {
    const { network } = this.context;
    const found = network.content.separations;
    if (found.length === 0) {
      replace(this.element);
      return;
    }
    const shown = this.all ? found : found.slice(0, OFFERED);
    replace(
      this.element,
      html(
        "section",
        { class: "card" },
        html("h3", {}, "What single features tell apart"),
        html(
          "p",
          { class: "soft" },
          "Area under the ROC curve (AUC) of one parameter of one feature: 0.5 is no better than " +
            "random, 1 tells the two groups apart without error. p is the probability of a best " +
            "feature as good if the groups meant nothing (permutation test); the second one also " +
            `accounts for all ${grouped(found.length)} comparisons of this list.`,
        ),
        html(
          "ul",
          { class: "findings" },
          ...shown.map((each, index) => html("li", {}, this.finding(each, index))),
        ),
        found.length > OFFERED &&
          button(
            "all-findings",
            this.all ? `Show ${OFFERED} only` : `Show all ${grouped(found.length)}`,
            () => {
              this.all = !this.all;
              keepingFocus(() => this.paint());
            },
            { class: "quiet" },
          ),
      ),
    );
  }

  private finding(each: Separation, index: number): HTMLElement {
    const p = probability(each.probability);
    const all = `${probability(each.corrected)} for all comparisons`;
    return html(
      "button",
      {
        type: "button",
        id: `finding-${index}`,
        class: "finding",
        title: `${each.label}, ${each.conditions.join(" and ")} conditions`,
        onclick: () => this.goTo(each),
      },
      html(
        "strong",
        {},
        `${wordsText(each.level)} `,
        html("span", { class: "soft" }, `vs ${wordsText(each.other) || "others"}`),
      ),
      html(
        "span",
        { class: "soft" },
        `${symbol(each.parameter)} of feature ${each.feature}, ${each.site}; ${p}, ${all}`,
      ),
      html("span", { class: "auc" }, `AUC ${each.auc.toFixed(3)}`),
    );
  }

  /** Shows the feature; a group that it separates from all others gets selected. */
  private goTo(found: Separation): void {
    const { context } = this;
    const { network, store } = context;
    const label = network.labels.find((each) => each.name === found.label);
    const levels = [found.level, found.other].filter(Boolean);
    const isolated =
      label?.kind === "category" && found.other
        ? levels.map((level) => label.levels.indexOf(level)).sort((a, b) => a - b)
        : [];
    store.set({
      mode: "one",
      site: found.site,
      feature: String(found.feature),
      color: found.label,
      words: label?.kind === "text" ? levels.join(",") : "",
      contrast: label?.kind === "text" && found.other ? "1" : "",
      only: isolated.join("."),
      zoom: "",
      brush: "",
    });
    if (label?.kind === "category" && !found.other) {
      const level = label.levels.indexOf(found.level);
      context.select(Uint8Array.from(label.codes, (code) => (code === level ? 1 : 0)));
    }
    document.getElementById("plot")?.scrollIntoView({ block: "center" });
  }
}
