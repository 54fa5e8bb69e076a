// A chart whose values can be read: at the step under the pointer, or by arrow keys.

import { type ChartContent, plot } from "./charts.ts";
import { type Child, html, svg } from "./dom.ts";
import { path } from "./marks.ts";
import { format, grouped } from "./numbers.ts";

export interface Series {
  name: string;
  color: string;
  x: ArrayLike<number>;
  y: ArrayLike<number>;
}

export interface ReadableChart {
  svg: SVGSVGElement;
  element: HTMLElement;
}

/** The chart, its caption, and below it what is read. */
export function readableChart(
  content: ChartContent,
  series: Series[],
  caption: Child = null,
): ReadableChart {
  const { root, px, py, frame } = plot(content);
  const steps = [...new Set(series.flatMap(({ x }) => Array.from(x)))].sort((a, b) => a - b);
  const cursor = svg("g", { class: "reading", "data-reading": "" });
  const text = html("p", { class: "readout" });
  root.setAttribute("aria-hidden", "true");
  root.append(cursor);
  const slider = html(
    "div",
    {
      class: "readable",
      tabindex: 0,
      role: "slider",
      "aria-label": content.label,
      "aria-valuemin": 0,
      "aria-valuemax": Math.max(0, steps.length - 1),
      "aria-valuenow": 0,
      "aria-valuetext": "arrow keys read the values",
      onpointermove: (event: PointerEvent) => follow(event),
      onpointerdown: (event: PointerEvent) => follow(event),
      onpointerleave: (event: PointerEvent) => event.pointerType === "mouse" && hide(),
      onblur: () => hide(),
      onkeydown: (event: KeyboardEvent) => key(event),
    },
    root,
  );
  let current = -1;

  function hide(): void {
    current = -1;
    cursor.replaceChildren();
    text.textContent = "";
  }

  function show(index: number): void {
    if (index === current) return;
    current = index;
    const step = steps[index]!;
    const at = px(step);
    cursor.replaceChildren(
      svg("line", { class: "cursor", x1: at, x2: at, y1: frame.top, y2: frame.bottom }),
    );
    const values = series.flatMap(({ name, color, x, y }) => {
      const place = Array.prototype.indexOf.call(x, step);
      const value = y[place];
      if (value === undefined) return [];
      if (Number.isFinite(value)) {
        cursor.append(svg("path", { d: path("circle", at, py(value), 4), fill: color }));
      }
      return [`${name} ${format(value)}`];
    });
    text.textContent = `step ${grouped(step)}: ${values.join(", ")}`;
    slider.setAttribute("aria-valuenow", String(index));
    slider.setAttribute("aria-valuetext", text.textContent);
  }

  function follow(event: PointerEvent): void {
    const box = root.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * content.width;
    let nearest = 0;
    steps.forEach((step, index) => {
      if (Math.abs(px(step) - x) < Math.abs(px(steps[nearest]!) - x)) nearest = index;
    });
    if (steps.length > 0) show(nearest);
  }

  function key(event: KeyboardEvent): void {
    const moves: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 };
    const move = moves[event.key];
    if (move === undefined || steps.length === 0) return;
    event.preventDefault();
    show(Math.min(steps.length - 1, Math.max(0, current + move)));
  }

  return { svg: root, element: html("div", {}, slider, caption, text) };
}
