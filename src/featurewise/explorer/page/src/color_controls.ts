// Which label colors the dots; for a text, which of its words.

import {
  chosenWords,
  colorLabel,
  MOST_WORDS,
  wordCount,
  wordCounts,
  wordsText,
} from "./coloring.ts";
import type { Context } from "./context.ts";
import { button, menu } from "./controls.ts";
import { type Child, html } from "./dom.ts";
import { grouped } from "./numbers.ts";
import type { TextLabel } from "./schema.ts";

const OFFERED_WORDS = 14;

export function colorControls(context: Context): Child[] {
  const { network, state, store } = context;
  const label = colorLabel(network, state);
  if (!label) return [];
  const options = network.labels.map(({ name, kind }) => ({
    value: name,
    text: kind === "text" ? `words in ${name}` : name,
  }));
  const choose = (color: string) => store.set({ color, only: "" });
  const picker = menu("color", "Color by", options, label.name, choose);
  return label.kind === "text" ? [picker, wordControls(context, label)] : [picker];
}

function wordControls(context: Context, label: TextLabel): HTMLElement {
  const { store, state } = context;
  const chosen = chosenWords(state);
  const counts = wordCounts(label.texts);
  const full = chosen.length >= MOST_WORDS;
  const change = (words: string[]) => store.set({ words: words.join(","), contrast: "", only: "" });
  const add = () => {
    const word = field.value.trim().toLowerCase();
    if (word && !full && !chosen.includes(word)) change([...chosen, word]);
  };
  const field = html("input", {
    id: "word",
    list: "words",
    placeholder: full ? `at most ${MOST_WORDS} words` : "another word",
    "aria-label": "Add a word",
    disabled: full,
    autocomplete: "off",
    onkeydown: (event: KeyboardEvent) => event.key === "Enter" && add(),
  });
  const known = context.network.content.separations
    .filter((each) => each.label === label.name)
    .flatMap(({ level, other }) => [level, other].filter(Boolean));
  const common = counts.map(({ word }) => word);
  const offered = [...new Set([...chosen, ...known, ...common])]
    .slice(0, OFFERED_WORDS)
    .map((word) => ({ word, count: wordCount(label.texts, word) }));
  const boxes = offered.map(({ word, count }) => {
    const checked = chosen.includes(word);
    return html(
      "label",
      { class: "chip" },
      html("input", {
        type: "checkbox",
        id: `word-${word}`,
        checked,
        disabled: full && !checked,
        onchange: () =>
          change(checked ? chosen.filter((each) => each !== word) : [...chosen, word]),
      }),
      wordsText(word),
      html("span", { class: "count" }, grouped(count)),
    );
  });
  return html(
    "div",
    { class: "words", role: "group", "aria-label": `Words, at most ${MOST_WORDS}` },
    ...boxes,
    field,
    html(
      "datalist",
      { id: "words" },
      ...counts.slice(0, 500).map(({ word }) => html("option", { value: word })),
    ),
    button("add-word", "Add", add, full ? { disabled: true } : {}),
  );
}
