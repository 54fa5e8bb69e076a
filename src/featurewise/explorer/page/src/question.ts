// The new condition that the reader asks about, and where its parameters lie.

import type { Context } from "./context.ts";
import type { LiveAnswer } from "./live.ts";
import type { Reply, Request } from "./schema.ts";
import { positionOf } from "./state.ts";

/** Parameters of a condition that is not among those of the page. */
export interface Marked {
  name: string;
  values: Reply["values"];
}

/** The request of the state; null where there is no question. */
function requestOf({ network, state, imageOf }: Context): Partial<Request> | null {
  if (state.question === "") return null;
  if (network.textLabel) return { condition: imageOf, text: state.question };
  const condition = positionOf(state.question, network.count, 0);
  return { condition: imageOf, terms: [{ condition, weight: 1 }] };
}

export function questionText({ network, state }: Context): string {
  if (network.textLabel) return state.question;
  return network.text(positionOf(state.question, network.count, 0));
}

/** The answer to the question of the state; null where there is no server or no question. */
export function questionAnswer(context: Context): LiveAnswer | null {
  const request = requestOf(context);
  const answer = request && context.live("ask");
  if (request && answer) answer.want(context.modelIndex, request);
  return answer;
}

/** The new condition, where the reader wants to see it among the others. */
export function markedOf(context: Context): Marked | null {
  if (context.state.marked === "") return null;
  const answer = questionAnswer(context);
  if (!answer?.isCurrent || !answer.reply) return null;
  return { name: questionText(context), values: answer.reply.values };
}
