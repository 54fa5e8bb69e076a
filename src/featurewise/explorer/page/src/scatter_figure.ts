// A scatter plot with what belongs to it: tools, legend, counts, explanation, files.

import type { Context } from "./context.ts";
import { button, choices } from "./controls.ts";
import { type Child, html, keepingFocus, replace } from "./dom.ts";
import { fileName, MOST_SVG_POINTS, provenance, savePng, saveSvg, saveText } from "./download.ts";
import { type LegendContent, legendElement, paintLegend } from "./legend.ts";
import type { Network } from "./network.ts";
import { grouped, plural } from "./numbers.ts";
import { type Points, Scatter, type ScatterEvents, type Tool } from "./scatter.ts";
import type { Fact } from "./tooltip.ts";

export interface FigureContent {
  network: Network;
  title: string;
  points: Points;
  selected: Uint8Array | null;
  legend: LegendContent;
  condition(point: number): number;
  facts(point: number): Fact[];
  /** What is shown of how many, as in "16 of 128 features". */
  counts: string;
  explanation: string[];
}

export interface FigureEvents {
  pick(point: number, additive: boolean): void;
  brush(corners: number[], additive: boolean): void;
}

const TOOLS: { value: Tool; text: string }[] = [
  { value: "lasso", text: "Lasso" },
  { value: "rectangle", text: "Rectangle" },
  { value: "pan", text: "Move" },
];

export class ScatterFigure {
  readonly element: HTMLElement;
  private readonly scatter: Scatter;
  private readonly title = html("h3", {});
  private readonly bar = html("div", { class: "bar tools" });
  private readonly legend = html("div", { class: "legend-side" });
  private readonly counts = html("p", { class: "soft counts" });
  private readonly explanation = html("div", { class: "explanation" });
  private readonly footer = html("p", { class: "provenance" });
  private content: FigureContent | null = null;

  constructor(
    private readonly context: Context,
    private readonly what: string,
    private readonly usual: Tool,
    private readonly isMain: boolean,
    events: FigureEvents,
  ) {
    const zooms = isMain;
    const scatterEvents: ScatterEvents = {
      ...events,
      hover: (point, x, y) => this.hover(point, x, y),
      zoom: (text) => zooms && context.store.set({ zoom: text }, true),
      describe: (point) => this.describe(point),
    };
    this.scatter = new Scatter(scatterEvents, context.announce);
    if (!isMain) this.scatter.element.id = "plot-other";
    this.element = html(
      "section",
      { class: "card figure" },
      html("div", { class: "figure-head" }, this.title, this.bar),
      html(
        "div",
        { class: "figure-body" },
        html("div", { class: "figure-plot" }, this.scatter.element, this.counts),
        this.legend,
      ),
      this.explanation,
      this.footer,
    );
  }

  show(content: FigureContent): void {
    this.content = content;
    const { state } = this.context;
    const tool = TOOLS.some((each) => each.value === state.tool)
      ? (state.tool as Tool)
      : this.usual;
    this.scatter.setTool(tool, state.tool !== "");
    keepingFocus(() => {
      this.title.textContent = content.title;
      replace(this.bar, ...this.toolbar(tool));
      replace(
        this.legend,
        legendElement(content.legend, (only) =>
          this.context.store.set({ only: only.sort((a, b) => a - b).join(".") }),
        ),
      );
      this.counts.textContent = this.countText(content);
      replace(this.explanation, ...content.explanation.map((text) => html("p", {}, text)));
      this.footer.textContent = provenance(content.network);
    });
    this.scatter.show(content.points, content.selected, this.isMain ? state.zoom : "");
  }

  /** Repaints the points after a change of the selection alone. */
  select(content: FigureContent): void {
    this.content = content;
    this.counts.textContent = this.countText(content);
    this.scatter.select(content.selected);
  }

  resize(): void {
    this.scatter.resize();
  }

  reset(): void {
    this.scatter.reset();
  }

  private countText(content: FigureContent): string {
    const { points, selected } = content;
    const all = points.x.length;
    let shown = all;
    if (points.visible) shown = points.visible.reduce((sum, each) => sum + each, 0);
    const parts = [`${grouped(shown)} of ${plural(all, "dot")}`, content.counts];
    if (selected) {
      parts.push(`${grouped(selected.reduce((sum, each) => sum + each, 0))} selected`);
    }
    return parts.filter(Boolean).join(" · ");
  }

  private toolbar(tool: Tool): Child[] {
    const { store } = this.context;
    const id = this.isMain ? "tool" : "tool-other";
    const drag = choices(id, "Drag", TOOLS, tool, (value) => store.set({ tool: value }, true));
    const zoom = html(
      "span",
      { class: "segments", role: "group", "aria-label": "Zoom" },
      button(`${id}-in`, "+", () => this.scatter.zoomBy(1.4), { "aria-label": "Zoom in" }),
      button(`${id}-out`, "−", () => this.scatter.zoomBy(1 / 1.4), { "aria-label": "Zoom out" }),
      button(`${id}-reset`, "Reset", () => this.scatter.reset(), { "aria-label": "Reset zoom" }),
    );
    const few = (this.content?.points.x.length ?? 0) <= MOST_SVG_POINTS;
    const files = html(
      "span",
      { class: "segments", role: "group", "aria-label": "Save the figure" },
      button(`${id}-png`, "PNG", () => this.save(false), { "aria-label": "Save as PNG" }),
      few
        ? button(`${id}-svg`, "SVG", () => this.save(true), { "aria-label": "Save as SVG" })
        : null,
      button(`${id}-json`, "JSON", () => this.saveState(), {
        "aria-label": "Save the state of the page as JSON",
      }),
    );
    return [drag, zoom, files];
  }

  private save(asSvg: boolean): void {
    const { content, scatter } = this;
    if (!content) return;
    const { width, height } = scatter.size;
    const figure = {
      width,
      height: height + paintLegend(content.legend, width, 0, null),
      paint: (painter: Parameters<Scatter["paintTo"]>[0]) => {
        scatter.paintTo(painter);
        paintLegend(content.legend, width, height, painter);
      },
    };
    const save = asSvg ? saveSvg : savePng;
    save(figure, content.network, this.what);
  }

  private saveState(): void {
    const { network } = this.content!;
    const { model, seed } = network.content;
    const text = JSON.stringify({ model, seed, state: this.context.state }, null, 2);
    saveText(fileName(network, this.what, "json"), text, "application/json");
  }

  private hover(point: number, x: number, y: number): void {
    const { content } = this;
    if (!content || point < 0) this.context.tooltip.hide();
    else {
      const condition = content.condition(point);
      this.context.tooltip.show(x, y, content.network, condition, content.facts(point));
    }
  }

  private describe(point: number): string {
    const content = this.content!;
    const facts = content.facts(point).map(({ name, value }) => `${name} ${value}`);
    const condition = content.condition(point);
    const label = content.network.labels.find((each) => each.kind === "category");
    const parts = [content.network.text(condition), ...facts];
    if (label) parts.push(`${label.name} ${content.network.labelText(label, condition)}`);
    if (content.selected?.[point]) parts.push("selected");
    return parts.join(", ");
  }
}
