// What a grid of values of one feature holds: colors of answers, and the condition's own values.

import { groupStyle } from "./coloring.ts";
import type { Network } from "./network.ts";
import { answersAt } from "./outputs.ts";
import type { Grid } from "./schema.ts";
import { HUES } from "./theme.ts";

/** A color for each answer that is the largest in some cell; those in most cells come first. */
export function answerColors(network: Network, grid: Grid): Map<number, string> {
  const counts = new Map<number, number>();
  const cells = grid.rows.length * grid.columns.length;
  for (let cell = 0; grid.outputs && cell < cells; cell++) {
    const best = answersAt(network, grid.outputs, cell)[0];
    if (best) counts.set(best.index, (counts.get(best.index) ?? 0) + 1);
  }
  const sorted = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, HUES);
  return new Map(sorted.map(([answer], index) => [answer, groupStyle(index).color]));
}

/** Values of both parameters with the condition itself; null where the page does not hold them. */
export function ownValues(
  network: Network,
  grid: Pick<Grid, "site" | "feature" | "condition" | "across" | "up">,
): [number, number] | null {
  const site = network.sites.find((each) => each.name === grid.site);
  const slot = site?.numbers.indexOf(grid.feature) ?? -1;
  if (!site || slot < 0) return null;
  const value = (name: string) =>
    site.parameters.find((each) => each.name === name)?.values[
      grid.condition * site.features + slot
    ];
  const [a, b] = [value(grid.across), value(grid.up)];
  return a === undefined || b === undefined ? null : [a, b];
}

export function nearestCell(grid: Grid, [a, b]: [number, number]): number {
  const nearest = (values: number[], wanted: number) =>
    values.reduce(
      (best, value, i) => (Math.abs(value - wanted) < Math.abs(values[best]! - wanted) ? i : best),
      0,
    );
  return nearest(grid.rows, b) * grid.columns.length + nearest(grid.columns, a);
}
