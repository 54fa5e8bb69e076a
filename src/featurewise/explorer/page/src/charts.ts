// Small charts as SVG: lines, areas between quantiles, histograms.

import { svg } from "./dom.ts";
import { path, type Shape } from "./marks.ts";
import { extent, padded, type Range, ticks } from "./numbers.ts";
import { textWidth } from "./scatter.ts";

export interface ChartAxis {
  label: string;
  range?: Range;
  origin?: number | null;
  /** The axis means nothing and has no ticks. */
  hidden?: boolean;
}

export interface Line {
  color: string;
  shape?: Shape;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
}

export interface Area {
  color: string;
  opacity: number;
  x: ArrayLike<number>;
  low: ArrayLike<number>;
  high: ArrayLike<number>;
}

export interface Bars {
  color: string;
  edges: ArrayLike<number>;
  heights: ArrayLike<number>;
}

export interface ChartContent {
  label: string;
  width: number;
  height: number;
  x: ChartAxis;
  y: ChartAxis;
  bars?: Bars;
  areas?: Area[];
  lines?: Line[];
  cursor?: number;
}

/** A chart with the scales of its axes, in the units of its view box. */
export interface Plotted {
  root: SVGSVGElement;
  px(value: number): number;
  py(value: number): number;
  across: Range;
  up: Range;
  frame: { left: number; right: number; top: number; bottom: number };
}

export function chart(content: ChartContent): SVGSVGElement {
  return plot(content).root;
}

export function plot(content: ChartContent): Plotted {
  const { width, height, x, y, bars, areas = [], cursor } = content;
  const lines = (content.lines ?? []).map(withoutGaps);
  const across = x.range ?? extent(lines.flatMap((line) => Array.from(line.x)));
  const up =
    y.range ??
    padded(
      extent([
        ...lines.flatMap((line) => Array.from(line.y)),
        ...areas.flatMap((area) => [...Array.from(area.low), ...Array.from(area.high)]),
      ]),
    );
  const upTicks = y.hidden ? [] : ticks(up, Math.max(2, height / 60));
  const left = Math.max(...upTicks.map((tick) => textWidth(tick.text, 12)), 8) + 30;
  const top = 10;
  const right = width - 14;
  const bottom = height - 42;
  const px = (value: number): number =>
    round(left + ((value - across.low) / (across.high - across.low || 1)) * (right - left));
  const py = (value: number): number =>
    round(bottom - ((value - up.low) / (up.high - up.low || 1)) * (bottom - top));
  const root = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": content.label,
  });
  for (const tick of upTicks) {
    const at = py(tick.at);
    root.append(
      svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
      svg("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, tick.text),
    );
  }
  for (const tick of ticks(across, Math.max(2, (right - left) / 50))) {
    const at = px(tick.at);
    const text = tick.at >= 10_000 ? `${+(tick.at / 1000).toPrecision(4)}k` : tick.text;
    root.append(
      svg("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom }),
      svg("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, text),
    );
  }
  const middle = (top + bottom) / 2;
  root.append(
    svg(
      "text",
      { class: "axis-name", x: (left + right) / 2, y: height - 6, "text-anchor": "middle" },
      x.label,
    ),
    svg(
      "text",
      {
        class: "axis-name",
        "text-anchor": "middle",
        transform: `translate(13 ${middle}) rotate(-90)`,
      },
      y.label,
    ),
  );
  if (bars) {
    for (let i = 0; i < bars.heights.length; i++) {
      const from = px(bars.edges[i]!);
      const to = px(bars.edges[i + 1]!);
      const at = py(bars.heights[i]!);
      const barWidth = Math.max(0.5, to - from - 0.5);
      root.append(
        svg("rect", {
          x: from,
          y: at,
          width: barWidth,
          height: Math.max(0, bottom - at),
          fill: bars.color,
        }),
      );
    }
  }
  for (const area of areas) {
    const there = Array.from(area.x, (value, i) => `${px(value)} ${py(area.high[i]!)}`);
    const back = Array.from(area.x, (value, i) => `${px(value)} ${py(area.low[i]!)}`).reverse();
    const d = `M${[...there, ...back].join("L")}Z`;
    root.append(svg("path", { d, fill: area.color, "fill-opacity": area.opacity }));
  }
  for (const line of lines) {
    const points = Array.from(line.x, (value, i) => [px(value), py(line.y[i]!)] as const);
    const d = `M${points.map(([a, b]) => `${a} ${b}`).join("L")}`;
    root.append(svg("path", { d, fill: "none", stroke: line.color, "stroke-width": 2 }));
    if (!line.shape || points.length > 60) continue;
    for (const [a, b] of points) {
      root.append(svg("path", { d: path(line.shape, a, b, 3), fill: line.color }));
    }
  }
  for (const [origin, vertical] of [
    [x.origin, true],
    [y.origin, false],
  ] as const) {
    if (origin === null || origin === undefined) continue;
    const { low, high } = vertical ? across : up;
    if (origin < low || origin > high) continue;
    const at = vertical ? px(origin) : py(origin);
    const ends = vertical
      ? { x1: at, x2: at, y1: top, y2: bottom }
      : { x1: left, x2: right, y1: at, y2: at };
    root.append(svg("line", { class: "origin", ...ends }));
  }
  if (cursor !== undefined) {
    const at = px(cursor);
    root.append(svg("line", { class: "cursor", x1: at, x2: at, y1: top, y2: bottom }));
  }
  return { root, px, py, across, up, frame: { left, right, top, bottom } };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** The line without steps that have no value, as where a loss was not finite. */
function withoutGaps(line: Line): Line {
  const kept = Array.from(line.x, (_, i) => i).filter((i) => Number.isFinite(line.y[i]));
  return { ...line, x: kept.map((i) => line.x[i]!), y: kept.map((i) => line.y[i]!) };
}
