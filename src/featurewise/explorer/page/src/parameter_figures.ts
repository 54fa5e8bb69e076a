// Parameters of a site as dots: of many features, or of one, with the rows of their table.

import { colorBy, colorLabel, groupStyle, lowest } from "./coloring.ts";
import { axesOf, covariance, moments, shownSlots, siteOf, slotOf } from "./features.ts";
import { legendOf } from "./legend.ts";
import { SHAPES } from "./marks.ts";
import type { Network, Site, SiteParameter } from "./network.ts";
import { format, grouped, jitter, plural } from "./numbers.ts";
import type { Marked } from "./question.ts";
import { type Ellipse, type Extra, insideRegion } from "./scatter.ts";
import type { FigureContent } from "./scatter_figure.ts";
import { decodeList, type State } from "./state.ts";
import type { Column, TableContent } from "./table.ts";
import { colors, HUES } from "./theme.ts";

const MOST_COLORED = HUES * SHAPES.length;

/** Selected conditions as selected points. */
export function pointsOf(content: FigureContent, conditions: Uint8Array | null): Uint8Array | null {
  if (!conditions) return null;
  return Uint8Array.from(content.points.x, (_, point) => conditions[content.condition(point)] ?? 0);
}

/** Conditions with a dot inside a region. */
export function conditionsInside(content: FigureContent, corners: number[]): Uint8Array {
  const inside = insideRegion(content.points, corners);
  const members = new Uint8Array(content.network.count);
  for (let i = 0; i < inside.length; i++) if (inside[i]) members[content.condition(i)] = 1;
  return members;
}

/** The state with site and features by name, so that another network shows the same ones. */
export function sameFeatures(network: Network, state: State): State {
  const site = siteOf(network, state)!;
  const numbers = shownSlots(site, state.features).map((slot) => site.numbers[slot]);
  return {
    ...state,
    site: site.name,
    feature: String(site.numbers[slotOf(network, site, state)]),
    features: state.features === "all" ? "all" : numbers.join(","),
  };
}

export type Mode = "all" | "each" | "one";

export function modeOf(state: State, site: Site): Mode {
  if (state.mode === "one") return "one";
  return state.mode === "each" && site.parameters.length > 1 ? "each" : "all";
}

export function figureContent(
  network: Network,
  state: State,
  marked: Marked | null = null,
): FigureContent {
  const site = siteOf(network, state);
  if (!site) throw new Error("no site");
  return state.mode === "one"
    ? oneFeature(network, state, site, marked)
    : manyFeatures(network, state, site, marked);
}

function facts(site: Site, condition: number, slot: number) {
  return [
    { name: "site", value: site.name },
    { name: "feature", value: String(site.numbers[slot]) },
    ...site.parameters.map((each) => ({
      name: each.symbol,
      value: format(each.values[condition * site.features + slot]!),
    })),
  ];
}

function manyFeatures(
  network: Network,
  state: State,
  site: Site,
  marked: Marked | null,
): FigureContent {
  const slots = shownSlots(site, state.features);
  const [across, up] = axesOf(site, state);
  const single = across === up;
  const count = network.count * slots.length;
  const x = new Float32Array(count);
  const y = new Float32Array(count);
  const codes = new Uint16Array(count);
  const colored = slots.length <= MOST_COLORED;
  // Strips stand in the order of the features' means, so that the plot reads as one curve.
  const ranks = single ? ranksByMean(across, site, slots) : [];
  for (let condition = 0; condition < network.count; condition++) {
    for (let k = 0; k < slots.length; k++) {
      const point = condition * slots.length + k;
      const at = condition * site.features + slots[k]!;
      x[point] = across.values[at]!;
      y[point] = single ? ranks[k]! + (jitter(condition) - 0.5) * 0.6 : up.values[at]!;
      codes[point] = colored ? k : 0;
    }
  }
  const only = colored ? decodeList(state.only) : [];
  const styles = slots.map((_, index) => groupStyle(index));
  const entries = slots.map((slot, index) => ({
    name: `feature ${site.numbers[slot]}`,
    style: styles[index]!,
    count: null,
  }));
  const names = slots.map((slot, k) => ({ at: ranks[k]!, text: String(site.numbers[slot]) }));
  const shown = slots.length;
  return {
    network,
    title: `${site.name}: ${shown} of ${plural(site.total, "feature")}`,
    points: {
      x,
      y,
      codes,
      lowest: -1,
      styles: colored ? styles : [{ color: colors().accent, shape: "circle" }],
      visible:
        only.length > 0 ? Uint8Array.from(codes, (code) => (only.includes(code) ? 1 : 0)) : null,
      across: { label: across.symbol, origin: across.origin },
      up: single
        ? { label: "feature", names: names.sort((a, b) => a.at - b.at) }
        : { label: up.symbol, origin: up.origin },
      ellipses: colored && !single ? ellipses(site, slots, across, up, only) : [],
      extras: slots.flatMap((slot, k): Extra[] => {
        const at = markedAt(marked, site, slot, across, up);
        if (!at || (only.length > 0 && !only.includes(k))) return [];
        const color = colored ? styles[k]!.color : colors().accent;
        return [{ name: "", x: at[0], y: single ? ranks[k]! : at[1], color }];
      }),
      label: `${across.symbol} across${single ? "" : `, ${up.symbol} up`}, ${shown} features of ${site.name}. Arrow keys go from dot to dot.`,
    },
    selected: null,
    legend: {
      title: colored ? "Feature" : "Too many features for a color each",
      entries: colored ? entries : [],
      scale: null,
      only,
    },
    condition: (point) => Math.floor(point / shown),
    facts: (point) => facts(site, Math.floor(point / shown), slots[point % shown]!),
    counts: `${grouped(shown)} of ${plural(site.total, "feature")} × ${grouped(network.count)} of ${plural(network.content.conditions.total, "condition")}`,
    explanation: [...explain(site, [across, up], true, false), ...markedText(marked)],
  };
}

const NEW = "new condition";

/** Values of both parameters of a condition that is not among those of the page. */
export function markedAt(
  marked: Marked | null,
  site: Site,
  slot: number,
  across: SiteParameter,
  up: SiteParameter,
): [number, number] | null {
  const values = marked?.values[site.name];
  const x = values?.[across.name]?.[slot];
  const y = values?.[up.name]?.[slot];
  return x === undefined || y === undefined ? null : [x, y];
}

function placeText(across: SiteParameter, up: SiteParameter, [x, y]: [number, number]): string {
  const first = `, ${across.symbol} = ${format(x)}`;
  return across === up ? first : `${first}, ${up.symbol} = ${format(y)}`;
}

function markedText(marked: Marked | null, values = ""): string[] {
  return marked ? [`◆ in a ring: the new condition “${marked.name}”${values}.`] : [];
}

function ranksByMean(parameter: SiteParameter, site: Site, slots: number[]): number[] {
  const means = slots.map((slot) => moments(parameter.values, site.features, slot).mean);
  const sorted = slots.map((_, k) => k).sort((a, b) => means[a]! - means[b]!);
  const ranks = new Array<number>(slots.length);
  sorted.forEach((k, rank) => {
    ranks[k] = rank;
  });
  return ranks;
}

function ellipses(
  site: Site,
  slots: number[],
  across: SiteParameter,
  up: SiteParameter,
  only: number[],
): Ellipse[] {
  return slots
    .map((slot, index): Ellipse => {
      const a = moments(across.values, site.features, slot);
      const b = moments(up.values, site.features, slot);
      const both = covariance(across, up, site.features, slot, [a.mean, b.mean]);
      return {
        name: String(site.numbers[slot]),
        color: groupStyle(index).color,
        mean: [a.mean, b.mean],
        covariance: [a.variance, both, b.variance],
      };
    })
    .filter((_, index) => only.length === 0 || only.includes(index));
}

function oneFeature(
  network: Network,
  state: State,
  site: Site,
  marked: Marked | null,
): FigureContent {
  const slot = slotOf(network, site, state);
  const number = site.numbers[slot]!;
  const [across, up] = axesOf(site, state);
  const single = across === up;
  const coloring = colorBy(network, state);
  const only = decodeList(state.only);
  const column = (parameter: SiteParameter) =>
    Float32Array.from(
      { length: network.count },
      (_, c) => parameter.values[c * site.features + slot]!,
    );
  const legend = legendOf(coloring, only);
  const rows = legend.entries.map((entry, at) => ({ at, text: entry.name }));
  const place = markedAt(marked, site, slot, across, up);
  const named = single && rows.length > 0;
  const label = colorLabel(network, state);
  const numbers = label?.kind === "number" ? label.values : null;
  const strips = (): Float32Array =>
    Float32Array.from(coloring.codes, (code, condition) => {
      if (numbers) return numbers[condition] ?? Number.NaN;
      const row = named ? Math.min(code, rows.length - 1) : 0;
      return row + (jitter(condition) - 0.5) * 0.6;
    });
  const names = named ? rows : [{ at: 0, text: "" }];
  const stripAxis = numbers ? { label: coloring.title } : { label: coloring.title, names };
  return {
    network,
    title: `${site.name}: feature ${number}`,
    points: {
      x: column(across),
      y: single ? strips() : column(up),
      codes: coloring.codes,
      lowest: lowest(coloring),
      styles: coloring.styles,
      visible:
        only.length > 0
          ? Uint8Array.from(coloring.codes, (code) => (only.includes(code) ? 1 : 0))
          : null,
      across: { label: `${across.symbol} of feature ${number}`, origin: across.origin },
      up: single ? stripAxis : { label: `${up.symbol} of feature ${number}`, origin: up.origin },
      ellipses: [],
      extras: place
        ? [{ name: NEW, x: place[0], y: single ? null : place[1], color: colors().accent }]
        : [],
      label: `${across.symbol} across${single ? "" : `, ${up.symbol} up`}, feature ${number} of ${site.name}. Arrow keys go from dot to dot.`,
    },
    selected: null,
    legend,
    condition: (point) => point,
    facts: (point) => facts(site, point, slot),
    counts: `${grouped(network.count)} of ${plural(network.content.conditions.total, "condition")}`,
    explanation: [
      ...explain(site, [across, up], false, numbers !== null),
      ...markedText(marked, place ? placeText(across, up, place) : ""),
    ],
  };
}

const MEANING: Record<string, string> = {
  gamma: "γ multiplies a feature map of the network",
  beta: "β is added to it",
};

function explain(
  site: Site,
  axes: [SiteParameter, SiteParameter],
  many: boolean,
  upIsNumber: boolean,
): string[] {
  const shown = axes[0] === axes[1] ? [axes[0]] : axes;
  const meanings = shown.map(({ name }) => MEANING[name]).filter(Boolean);
  const dot = many
    ? "A dot is one condition in one feature; a color is a feature."
    : "A dot is one condition, in this feature.";
  const meaning =
    meanings.length > 0
      ? `${meanings.join("; ")}.`
      : `The operation at this site is ${site.operation}.`;
  const origins = shown
    .filter(({ origin }) => origin !== null)
    .map(({ symbol: name, origin }) => `${name} = ${origin}`);
  const dashed =
    origins.length > 0
      ? ` Dashed: ${origins.join(" and ")}, where the condition changes nothing.`
      : "";
  const ellipse =
    many && shown.length > 1
      ? " An ellipse is centered on the mean of a feature and reaches two standard deviations."
      : "";
  const height =
    shown.length === 1 && !upIsNumber ? " The height of a dot within its row means nothing." : "";
  return [`${dot} ${meaning}${dashed}${ellipse}${height}`];
}

export function tableContent(network: Network, state: State, content: FigureContent): TableContent {
  const site = siteOf(network, state)!;
  const one = state.mode === "one";
  const slots = one ? [slotOf(network, site, state)] : shownSlots(site, state.features);
  const count = slots.length;
  const condition = (row: number) => Math.floor(row / count);
  const at = (row: number) => condition(row) * site.features + slots[row % count]!;
  const labels = one ? network.labels : network.labels.filter((each) => each.kind !== "number");
  const columns: Column[] = labels.map((label) => ({
    title: label.name,
    text: (row) => network.labelText(label, condition(row)),
    ...(label.kind === "number"
      ? { value: (row: number) => label.values[condition(row)] ?? Number.NaN }
      : {}),
  }));
  if (labels.length === 0) {
    columns.push({ title: "condition", text: (row) => network.text(condition(row)) });
  }
  const feature = (row: number) => site.numbers[slots[row % count]!]!;
  if (!one) columns.push({ title: "feature", text: (row) => String(feature(row)), value: feature });
  for (const parameter of site.parameters) {
    const value = (row: number) => parameter.values[at(row)]!;
    columns.push({ title: parameter.symbol, text: (row) => format(value(row)), value });
  }
  return {
    noun: one ? "condition" : "dot",
    count: network.count * count,
    visible: content.points.visible,
    selected: content.selected,
    condition,
    columns,
  };
}
