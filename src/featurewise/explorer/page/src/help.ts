// The dialog that explains keys and words.

import { html } from "./dom.ts";

const KEYS: [string, string][] = [
  ["Tab", "to the next button or plot"],
  ["Arrow keys", "in a plot: to the nearest dot in that direction"],
  ["Arrow keys", "in the plane of one feature, with a server: move the point; Shift: farther"],
  ["Enter", "in a plot: select this dot's condition alone; Space: add or remove it"],
  ["Shift + drag", "add to the selection"],
  ["[  ]", "one feature back, one feature on"],
  ["+  −", "in a plot: zoom in, zoom out"],
  ["0", "reset the zoom; so does a double click"],
  ["Esc", "clear the selection"],
  ["?", "this help"],
];

const WORDS: [string, string][] = [
  ["condition", "what the network is conditioned on, such as a question or a class"],
  ["site", "a place in the network where features are changed by the condition"],
  ["feature", "one feature map (channel) at a site"],
  ["γ, β", "the feature map is multiplied by γ, then β is added"],
  [
    "task representation",
    "all values of all sites for one condition, predicted from that condition",
  ],
];

export function helpDialog(): HTMLDialogElement {
  const list = (pairs: [string, string][]) =>
    html(
      "dl",
      {},
      ...pairs.flatMap(([name, text]) => [html("dt", {}, name), html("dd", {}, text)]),
    );
  const dialog = html(
    "dialog",
    { "aria-labelledby": "help-title" },
    html("h2", { id: "help-title" }, "Keys and words"),
    list(KEYS),
    html("h3", {}, "Words"),
    list(WORDS),
    html(
      "p",
      { class: "soft" },
      "The address of the page holds all that is shown: copy it as a link.",
    ),
    html("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  return dialog;
}
