// Which color and shape each condition has: by a category, a number, or words of a text.

import { type MarkStyle, SHAPES } from "./marks.ts";
import type { Label, Network } from "./network.ts";
import { extent, type Range } from "./numbers.ts";
import type { State } from "./state.ts";
import { colors, HUES, viridis } from "./theme.ts";

export const MOST_WORDS = 6;
const MOST_GROUPS = HUES * SHAPES.length;
const SHADES = 64;

export interface Group {
  name: string;
  style: MarkStyle;
  count: number;
}

export interface Coloring {
  title: string;
  groups: Group[];
  /** Values at both ends of the color scale, if the colors stand for numbers. */
  scale: Range | null;
  styles: MarkStyle[];
  /** For each condition a position in ``styles``; the last style is that of all others. */
  codes: Uint16Array;
  /** Name of the conditions with the last style, which lie below the others; empty: none have it. */
  others: string;
}

/** The style whose dots lie below all others; -1 if there is none. */
export function lowest(coloring: Coloring): number {
  return coloring.others && coloring.groups.length > 0 ? coloring.styles.length - 1 : -1;
}

/** The style of group ``index``: six hues, each with its own shape, then other pairs of the two. */
export function groupStyle(index: number): MarkStyle {
  const round = Math.floor(index / HUES);
  return {
    color: colors().hues[index % HUES]!,
    shape: SHAPES[(index + round) % SHAPES.length]!,
  };
}

function otherStyle(): MarkStyle {
  return { color: colors().muted, shape: "circle" };
}

export function colorLabel(network: Network, state: State): Label | undefined {
  return network.labels.find((label) => label.name === state.color) ?? network.labels[0];
}

export function chosenWords(state: State): string[] {
  return state.words ? state.words.split(",").slice(0, MOST_WORDS) : [];
}

export function colorBy(network: Network, state: State): Coloring {
  const label = colorLabel(network, state);
  if (!label) return plain(network);
  if (label.kind === "category") return byCategory(label.name, label.levels, label.codes);
  if (label.kind === "number") return byNumber(label.name, label.values);
  return byWords(label.name, label.texts, chosenWords(state), state.contrast !== "");
}

function plain(network: Network): Coloring {
  return {
    title: "",
    groups: [],
    scale: null,
    styles: [{ color: colors().hues[0]!, shape: "circle" }],
    codes: new Uint16Array(network.count),
    others: "",
  };
}

function byCategory(title: string, levels: string[], labelCodes: number[]): Coloring {
  const shown = Math.min(levels.length, MOST_GROUPS);
  const codes = Uint16Array.from(labelCodes, (code) => (code >= 0 && code < shown ? code : shown));
  return grouped(title, levels.slice(0, shown), codes, levels.length > shown ? "other" : "unknown");
}

function grouped(title: string, names: string[], codes: Uint16Array, others: string): Coloring {
  const counts = new Uint32Array(names.length + 1);
  for (const code of codes) counts[code]!++;
  const groups = names.map((name, index) => ({
    name,
    style: groupStyle(index),
    count: counts[index]!,
  }));
  const styles = [...groups.map((group) => group.style), otherStyle()];
  return { title, groups, scale: null, styles, codes, others: counts[names.length] ? others : "" };
}

function byNumber(title: string, values: (number | null)[]): Coloring {
  const scale = extent(values.map((value) => value ?? Number.NaN));
  const width = scale.high - scale.low || 1;
  const styles: MarkStyle[] = Array.from({ length: SHADES }, (_, index) => ({
    color: viridis(index / (SHADES - 1), colors().dark),
    shape: "circle",
  }));
  const codes = Uint16Array.from(values, (value) =>
    value === null || !Number.isFinite(value)
      ? SHADES
      : Math.min(SHADES - 1, Math.floor(((value - scale.low) / width) * SHADES)),
  );
  const others = codes.includes(SHADES) ? "unknown" : "";
  return { title, groups: [], scale, styles: [...styles, otherStyle()], codes, others };
}

function byWords(title: string, texts: string[], words: string[], contrast: boolean): Coloring {
  const groups = words.map(alternatives);
  const codes = Uint16Array.from(texts, (text) => {
    const found = new Set(wordsOf(text));
    const has = (group: string[]) => group.some((word) => found.has(word));
    const first = groups.findIndex(has);
    const several = contrast && groups.filter(has).length > 1;
    return first < 0 || several ? words.length : first;
  });
  const none = contrast ? "neither, or both" : "none of these words";
  const names = words.map(wordsText);
  return grouped(`word in ${title}`, names, codes, words.length ? none : "all");
}

/** The words of a group, as in "metal|metallic|shiny". */
function alternatives(group: string): string[] {
  return group
    .toLowerCase()
    .split("|")
    .map((word) => word.trim());
}

/** A group of words as a reader sees it. */
export function wordsText(group: string): string {
  return alternatives(group).join(", ");
}

const WORD = /[\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*/gu;

/** The words of a text in lower case, without punctuation, as the library has them. */
export function wordsOf(text: string): string[] {
  return text.toLowerCase().match(WORD) ?? [];
}

/** Number of texts with a word of a group. */
export function wordCount(texts: string[], group: string): number {
  const words = alternatives(group);
  if (words.length === 1) {
    return wordCounts(texts).find((each) => each.word === words[0])?.count ?? 0;
  }
  return texts.filter((text) => wordsOf(text).some((word) => words.includes(word))).length;
}

export interface WordCount {
  word: string;
  count: number;
}

const counted = new WeakMap<string[], WordCount[]>();

/** Words by the number of texts that contain them; those in nearly all texts come last. */
export function wordCounts(texts: string[]): WordCount[] {
  let found = counted.get(texts);
  if (!found) {
    const counts = new Map<string, number>();
    for (const text of texts) {
      for (const word of new Set(wordsOf(text))) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    const worth = (count: number): number => Math.min(count, texts.length - count);
    found = [...counts]
      .map(([word, count]) => ({ word, count }))
      .sort((a, b) => worth(b.count) - worth(a.count) || (a.word < b.word ? -1 : 1));
    counted.set(texts, found);
  }
  return found;
}
