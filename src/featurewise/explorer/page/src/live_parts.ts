// What the server answers, as parts of a figure.

import type { Context } from "./context.ts";
import { button } from "./controls.ts";
import { type Child, html, image, replace } from "./dom.ts";
import type { LiveAnswer } from "./live.ts";
import { format } from "./numbers.ts";
import { answerBars, valueText } from "./outputs.ts";
import type { Neighbour, Reply } from "./schema.ts";

/** Fills ``host`` with a reply, or with why there is none. */
export function paintAnswer(
  host: HTMLElement,
  answer: LiveAnswer,
  show: (reply: Reply) => Child[],
): void {
  const { reply, problem, waiting } = answer;
  host.classList.toggle("stale", waiting);
  host.setAttribute("aria-busy", String(waiting));
  replace(
    host,
    problem
      ? html(
          "div",
          { class: "problem", role: "alert" },
          html("p", {}, problem),
          answer.canRetry && button("try-again", "Try again", () => answer.again()),
        )
      : null,
    waiting && !reply ? html("p", { class: "soft" }, "Computing …") : null,
    ...(reply && (waiting || answer.isCurrent) ? show(reply) : []),
  );
}

/** The actual answer, right or wrong, or what the network generates. */
export function replyAnswers(context: Context, reply: Reply): Child[] {
  const { unit } = context.network;
  const [best] = reply.outputs;
  return [
    ...reply.images.map((url) => image(url, "what the network generates")),
    best
      ? html(
          "p",
          { class: "best" },
          html("strong", {}, best.name),
          html("span", { class: "soft" }, ` ${unit} ${valueText(best.value, unit)}`),
        )
      : null,
    best ? answerBars(reply.outputs, unit) : null,
  ];
}

export function nearestList(context: Context, nearest: Neighbour[]): HTMLElement {
  const { network } = context;
  return html(
    "div",
    {},
    html("h4", {}, "Nearest conditions"),
    html(
      "ol",
      { class: "nearest" },
      ...nearest.map(({ condition, distance }) => {
        const thumbnail = network.thumbnail(condition);
        return html(
          "li",
          {},
          thumbnail && image(thumbnail.url, "", 44),
          network.text(condition),
          html("span", { class: "soft nowrap" }, ` distance ${format(distance)}`),
        );
      }),
    ),
    button("select-nearest", "Select them", () => {
      const members = new Uint8Array(network.count);
      for (const { condition } of nearest) members[condition] = 1;
      context.select(members);
    }),
    html(
      "p",
      { class: "soft" },
      "Distances of task representations, in multiples of the mean distance of two conditions.",
    ),
  );
}

/** What a reply says, in one line. */
export function spokenReply(context: Context, answer: LiveAnswer): string {
  if (answer.problem) return answer.problem;
  const best = answer.reply?.outputs[0];
  return best ? `${best.name}, ${valueText(best.value, context.network.unit)}` : "answered";
}
