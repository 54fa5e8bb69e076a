// Which features of a site are shown.

import type { Network, Site, SiteParameter } from "./network.ts";
import type { State } from "./state.ts";

export interface Moments {
  mean: number;
  variance: number;
}

export function moments(values: Float32Array, features: number, slot: number): Moments {
  let count = 0;
  let mean = 0;
  let squares = 0;
  for (let i = slot; i < values.length; i += features) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    count++;
    const off = value - mean;
    mean += off / count;
    squares += off * (value - mean);
  }
  return { mean, variance: count > 1 ? squares / (count - 1) : 0 };
}

export function covariance(
  a: SiteParameter,
  b: SiteParameter,
  features: number,
  slot: number,
  means: [number, number],
): number {
  let sum = 0;
  let count = 0;
  for (let i = slot; i < a.values.length; i += features) {
    const product = (a.values[i]! - means[0]) * (b.values[i]! - means[1]);
    if (!Number.isFinite(product)) continue;
    sum += product;
    count++;
  }
  return count > 1 ? sum / (count - 1) : 0;
}

const ranked = new WeakMap<Site, number[]>();

/** Positions of the features, those that the condition changes most first. */
export function byVariance(site: Site): number[] {
  let found = ranked.get(site);
  if (!found) {
    const score = new Float64Array(site.features);
    for (const { values } of site.parameters) {
      const each = Array.from(score, (_, slot) => moments(values, site.features, slot).variance);
      const total = each.reduce((sum, value) => sum + value, 0) || 1;
      each.forEach((value, slot) => {
        score[slot]! += value / total;
      });
    }
    found = Array.from(score.keys()).sort((a, b) => score[b]! - score[a]! || a - b);
    ranked.set(site, found);
  }
  return found;
}

/**
 * Positions of features whose dots overlap least: each next one is as far as can be, in standard
 * deviations, from those before. The half that the condition changes least is left out.
 */
export function farApart(site: Site, wanted: number): number[] {
  const all = site.parameters.map(({ values }) =>
    site.numbers.map((_, slot) => moments(values, site.features, slot)),
  );
  const changed = byVariance(site).slice(0, Math.max(wanted, Math.ceil(site.features / 2)));
  const distance = (a: number, b: number): number =>
    Math.hypot(
      ...all.map((each) => {
        const [p, q] = [each[a]!, each[b]!];
        const width = Math.sqrt(p.variance) + Math.sqrt(q.variance);
        return (p.mean - q.mean) / (width || 1);
      }),
    );
  const found = changed.slice(0, 1);
  const gaps = changed.map((slot) => distance(slot, found[0]!));
  while (found.length < Math.min(wanted, changed.length)) {
    gaps.forEach((_, index) => {
      if (found.includes(changed[index]!)) gaps[index] = -1;
    });
    const next = changed[gaps.indexOf(Math.max(...gaps))]!;
    found.push(next);
    changed.forEach((slot, index) => {
      gaps[index] = Math.min(gaps[index]!, distance(slot, next));
    });
  }
  return found;
}

export function siteOf(network: Network, state: State): Site | undefined {
  return network.sites.find((site) => site.name === state.site) ?? firstSite(network);
}

/** Unless the reader chose a site: the one of the best separation, else the first. */
function firstSite(network: Network): Site | undefined {
  const best = network.content.separations[0]?.site;
  return network.sites.find((site) => site.name === best) ?? network.sites[0];
}

export const USUAL_FEATURES = "apart16";

/** Positions of the shown features: "apart16", "top16", "all", or numbers such as "3,17,40-44". */
export function shownSlots(site: Site, text: string): number[] {
  if (text === "all") return site.numbers.map((_, slot) => slot);
  const [, which, count] = /^(apart|top)(\d+)$/.exec(text) ?? [];
  if (which) {
    const wanted = Number(count);
    const slots = which === "top" ? byVariance(site).slice(0, wanted) : farApart(site, wanted);
    return slots.sort((a, b) => a - b);
  }
  const slots = new Set<number>();
  for (const [, from, to = from] of text.matchAll(/(\d+)(?:\s*[-–]\s*(\d+))?/g)) {
    site.numbers.forEach((number, slot) => {
      if (number >= Number(from) && number <= Number(to)) slots.add(slot);
    });
  }
  return slots.size > 0 ? [...slots].sort((a, b) => a - b) : shownSlots(site, USUAL_FEATURES);
}

export function slotOf(network: Network, site: Site, state: State): number {
  const chosen = site.numbers.indexOf(Number.parseInt(state.feature, 10));
  if (chosen >= 0) return chosen;
  const best = network.content.separations.find((each) => each.site === site.name);
  const slot = best ? site.numbers.indexOf(best.feature) : -1;
  return slot >= 0 ? slot : (byVariance(site)[0] ?? 0);
}

/** The parameters across and up; twice the same where there is one. */
export function axesOf(site: Site, state: State): [SiteParameter, SiteParameter] {
  const find = (name: string) => site.parameters.find((each) => each.name === name);
  const across = find(state.across) ?? site.parameters[0]!;
  const up = find(state.up) ?? site.parameters.find((each) => each !== across) ?? across;
  return [across, up];
}
