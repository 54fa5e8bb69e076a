// What the colors mean. A click on a group shows it alone.

import type { Coloring } from "./coloring.ts";
import { html, svg } from "./dom.ts";
import { type MarkStyle, path } from "./marks.ts";
import { format, grouped } from "./numbers.ts";
import type { Painter } from "./painter.ts";
import { shortened, textWidth } from "./scatter.ts";
import { colors, viridis } from "./theme.ts";

export interface LegendEntry {
  name: string;
  style: MarkStyle;
  count: number | null;
}

export interface LegendContent {
  title: string;
  entries: LegendEntry[];
  scale: { low: number; high: number } | null;
  /** Positions of the entries that are shown alone; empty: all. */
  only: number[];
}

export function legendOf(coloring: Coloring, only: number[]): LegendContent {
  const entries: LegendEntry[] = [...coloring.groups];
  if (coloring.others) {
    const style = coloring.styles[coloring.styles.length - 1]!;
    const others = coloring.styles.length - 1;
    const count = coloring.codes.reduce((sum, code) => sum + (code === others ? 1 : 0), 0);
    entries.push({ name: coloring.others, style, count });
  }
  return { title: coloring.title, entries, scale: coloring.scale, only };
}

export function swatch(style: MarkStyle): SVGSVGElement {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true", class: "swatch" },
    svg("path", { d: path(style.shape, 8, 8, 5), fill: style.color }),
  );
}

export function legendElement(
  content: LegendContent,
  isolate: (only: number[]) => void,
): HTMLElement {
  const { title, entries, scale, only } = content;
  const list = html("div", { class: "legend", role: "group", "aria-label": `Legend: ${title}` });
  if (title) list.append(html("p", { class: "legend-title" }, title));
  if (scale) {
    const stops = Array.from({ length: 11 }, (_, i) => viridis(i / 10, colors().dark));
    const bar = html("span", { class: "scale-bar" });
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    list.append(html("div", { class: "scale" }, format(scale.low), bar, format(scale.high)));
  }
  entries.forEach((entry, index) => {
    const chosen = only.includes(index);
    list.append(
      html(
        "button",
        {
          type: "button",
          id: `legend-${index}`,
          class: "legend-entry",
          "aria-pressed": String(chosen),
          title: chosen ? "Show all groups again" : `Show ${entry.name} alone`,
          "data-off": only.length > 0 && !chosen,
          onclick: (event: MouseEvent) => {
            const others = only.filter((each) => each !== index);
            if (chosen) isolate(others);
            else isolate(event.shiftKey ? [...only, index] : [index]);
          },
        },
        swatch(entry.style),
        html("span", { class: "legend-name" }, entry.name),
        entry.count === null ? null : html("span", { class: "count" }, grouped(entry.count)),
      ),
    );
  });
  if (only.length > 0) {
    list.append(
      html(
        "button",
        { type: "button", class: "quiet", id: "legend-all", onclick: () => isolate([]) },
        "Show all groups",
      ),
    );
  }
  return list;
}

const ROW = 20;

/** Height of the legend in a file of a given width; paints it where a painter is given. */
export function paintLegend(
  content: LegendContent,
  width: number,
  top: number,
  painter: Painter | null,
): number {
  const { ink, soft } = colors();
  let x = 14;
  let y = top + ROW / 2;
  if (content.title) {
    painter?.text(x, y, content.title, { color: soft, size: 12, weight: 600 });
    x += textWidth(content.title, 12, 600) + 16;
  }
  if (content.scale) {
    const text = format(content.scale.low);
    painter?.text(x, y, text, { color: ink, size: 12 });
    x += textWidth(text, 12) + 8;
    for (let i = 0; i < 60; i++) {
      painter?.rectangle(x + 2 * i, y - 6, 2, 12, viridis(i / 59, colors().dark));
    }
    painter?.text(x + 128, y, format(content.scale.high), { color: ink, size: 12 });
    x += 190;
  }
  for (const [index, entry] of content.entries.entries()) {
    if (content.only.length > 0 && !content.only.includes(index)) continue;
    const name = shortened(entry.name, 12, width - 60);
    const room = 18 + textWidth(name, 12) + 16;
    if (x + room > width && x > 14) {
      x = 14;
      y += ROW;
    }
    painter?.mark(x + 6, y, 5, entry.style);
    painter?.text(x + 18, y, name, { color: ink, size: 12 });
    x += room;
  }
  return y + ROW / 2 + 6 - top;
}
