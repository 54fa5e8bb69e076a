// One small scatter plot a feature, all with the same axes: a hairball taken apart.

import { type Coloring, lowest } from "./coloring.ts";
import { type Child, html } from "./dom.ts";
import { Pixels } from "./marks.ts";
import type { Site, SiteParameter } from "./network.ts";
import { extent, format, padded, type Range, shuffled } from "./numbers.ts";
import { CanvasPainter } from "./painter.ts";
import { markedAt } from "./parameter_figures.ts";
import type { Marked } from "./question.ts";
import { colors } from "./theme.ts";

const WIDTH = 320;
const HEIGHT = 280;
const RADIUS = 4;
const MANY = 2000;

export interface MultiplesContent {
  site: Site;
  slots: number[];
  axes: [SiteParameter, SiteParameter];
  coloring: Coloring;
  only: number[];
  selected: Uint8Array | null;
  marked: Marked | null;
  open(feature: number): void;
}

export function smallMultiples(content: MultiplesContent): HTMLElement {
  const ranges = content.axes.map((parameter) => rangeOf(parameter, content)) as [Range, Range];
  const plots = content.slots.map((slot): Child => {
    const canvas = html("canvas", { width: WIDTH, height: HEIGHT, "aria-hidden": "true" });
    paint(canvas, content, slot, ranges);
    const number = content.site.numbers[slot]!;
    return html(
      "button",
      {
        type: "button",
        id: `small-${number}`,
        "aria-label": `Open feature ${number}`,
        onclick: () => content.open(number),
      },
      canvas,
      `feature ${number}`,
    );
  });
  return html("div", { class: "multiples" }, ...plots);
}

/** What the shared axes are, in words. */
export function axesText(content: MultiplesContent): string {
  const [across, up] = content.axes.map((parameter) => {
    const { low, high } = rangeOf(parameter, content);
    return `${parameter.symbol} from ${format(low)} to ${format(high)}`;
  });
  return `All have the same axes: across, ${across}; up, ${up}.`;
}

function rangeOf({ values, origin }: SiteParameter, { site, slots }: MultiplesContent): Range {
  const rows = values.length / site.features;
  const found = extent(
    Float32Array.from({ length: rows * slots.length }, (_, i) => {
      const row = Math.floor(i / slots.length);
      return values[row * site.features + slots[i % slots.length]!]!;
    }),
  );
  if (origin === null) return padded(found);
  return padded({ low: Math.min(found.low, origin), high: Math.max(found.high, origin) });
}

function paint(
  canvas: HTMLCanvasElement,
  { site, axes, coloring, only, selected, marked }: MultiplesContent,
  slot: number,
  [across, up]: [Range, Range],
): void {
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  const painter = new CanvasPainter(context);
  const { accent, card, faded, ink, line, soft } = colors();
  const px = (value: number) => ((value - across.low) / (across.high - across.low)) * WIDTH;
  const py = (value: number) => HEIGHT - ((value - up.low) / (up.high - up.low)) * HEIGHT;
  painter.rectangle(0, 0, WIDTH, HEIGHT, card);
  painter.polygon([0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT], { color: line, width: 3 });
  const dashed = { color: soft, width: 2, dash: [10, 8] };
  const [x, y] = axes;
  if (x.origin !== null) painter.line(px(x.origin), 0, px(x.origin), HEIGHT, dashed);
  if (y.origin !== null) painter.line(0, py(y.origin), WIDTH, py(y.origin), dashed);
  const data = context.getImageData(0, 0, WIDTH, HEIGHT);
  const pixels = new Pixels(data);
  const count = coloring.codes.length;
  const radius = count > MANY ? RADIUS / 2 : RADIUS;
  const stamps = coloring.styles.map((style) => pixels.stamp(style, radius, 0, card));
  const muted = pixels.stamp({ color: faded, shape: "circle" }, radius, 0, card);
  const below = lowest(coloring);
  const rank = (condition: number) => (coloring.codes[condition] === below ? 0 : 1);
  const order = Array.from(shuffled(count)).sort((a, b) => rank(a) - rank(b));
  for (const chosen of selected ? [false, true] : [true]) {
    for (const condition of order) {
      const code = coloring.codes[condition]!;
      if (only.length > 0 && !only.includes(code)) continue;
      if (selected && (selected[condition] === 1) !== chosen) continue;
      const at = condition * site.features + slot;
      const target = Math.round(py(y.values[at]!)) * WIDTH + Math.round(px(x.values[at]!));
      pixels.put(chosen ? stamps[code]! : muted, target);
    }
  }
  context.putImageData(data, 0, 0);
  const at = markedAt(marked, site, slot, x, y);
  if (at) {
    const [mx, my] = [px(at[0]), py(at[1])];
    painter.mark(mx, my, 22, { shape: "circle", color: card });
    painter.ellipse(mx, my, 18, 18, 0, { color: ink, width: 4 });
    painter.mark(mx, my, 11, { shape: "diamond", color: accent });
  }
}
