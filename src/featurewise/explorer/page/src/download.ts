// Files that the reader saves. Each names the network, seed and version that it comes from.

import { html } from "./dom.ts";
import { type LegendEntry, paintLegend } from "./legend.ts";
import type { Network } from "./network.ts";
import { grouped } from "./numbers.ts";
import { CanvasPainter, type Painter, SvgPainter } from "./painter.ts";
import { colors } from "./theme.ts";

export const MOST_SVG_POINTS = 2000;
const SCALE = 2;

export function provenance(network: Network): string {
  const { model, seed, conditions } = network.content;
  const shown = `${grouped(conditions.shown)} of ${grouped(conditions.total)} conditions`;
  return `${model.name} · ${model.digest} · seed ${seed} · featurewise ${model.version} · ${shown}`;
}

export function fileName(network: Network, what: string, ending: string): string {
  const { model, seed } = network.content;
  const parts = [model.name, what, model.digest.slice(0, 8), `seed${seed}`, `v${model.version}`];
  const safe = parts.map((part) => part.replace(/[^\p{L}\p{N}.]+/gu, "-").replace(/^-|-$/g, ""));
  return `${safe.join("_")}.${ending}`;
}

export function save(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  html("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export function saveText(name: string, text: string, type: string): void {
  save(name, new Blob([text], { type: `${type};charset=utf-8` }));
}

/** One cell of a CSV file: quoted, and never a formula for a spreadsheet. */
function cell(value: string | number): string {
  const text = String(value).replace("−", "-");
  const number = text.trim() !== "" && Number.isFinite(Number(text));
  const safe = !number && /^[\s]*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replace(/"/g, '""')}"`;
}

export function csv(rows: (string | number)[][]): string {
  return `${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** A figure that can be painted into a file. */
export interface Paintable {
  width: number;
  height: number;
  paint(painter: Painter): void;
}

const FOOTER = 26;

function paintAll(figure: Paintable, network: Network, painter: Painter): void {
  const { card, soft } = colors();
  painter.rectangle(0, 0, figure.width, figure.height + FOOTER, card);
  figure.paint(painter);
  const text = provenance(network);
  painter.text(12, figure.height + FOOTER / 2, text, { color: soft, size: 11 });
}

export function savePng(figure: Paintable, network: Network, what: string): void {
  const canvas = html("canvas", {
    width: figure.width * SCALE,
    height: (figure.height + FOOTER) * SCALE,
  });
  const context = canvas.getContext("2d")!;
  context.scale(SCALE, SCALE);
  paintAll(figure, network, new CanvasPainter(context));
  canvas.toBlob((blob) => blob && save(fileName(network, what, "png"), blob));
}

export function saveSvg(figure: Paintable, network: Network, what: string): void {
  const painter = new SvgPainter(figure.width, figure.height + FOOTER);
  paintAll(figure, network, painter);
  saveText(fileName(network, what, "svg"), svgText(painter.root), "image/svg+xml");
}

function svgText(root: SVGSVGElement): string {
  return new XMLSerializer().serializeToString(root);
}

const STYLED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity"];
const STYLED_TEXT = ["font-size", "font-weight", "text-anchor", "dominant-baseline"];

/** A chart of the page as a file of its own: what the style sheet says becomes attributes. */
export function saveChart(
  chart: SVGSVGElement,
  names: LegendEntry[],
  network: Network,
  what: string,
  png: boolean,
): void {
  const { width, height: chartHeight } = chart.viewBox.baseVal;
  const legend = { title: "", entries: names, scale: null, only: [] };
  const height = chartHeight + paintLegend(legend, width, 0, null);
  const painter = new SvgPainter(width, height + FOOTER);
  paintAll(
    { width, height, paint: (each) => void paintLegend(legend, width, chartHeight, each) },
    network,
    painter,
  );
  const copy = chart.cloneNode(true) as SVGSVGElement;
  for (const each of copy.querySelectorAll("[data-reading]")) each.replaceChildren();
  const originals = chart.querySelectorAll(":not([data-reading] *)");
  copy.querySelectorAll("*").forEach((element, index) => {
    const style = getComputedStyle(originals[index]!);
    for (const name of [...STYLED, ...(element.tagName === "text" ? STYLED_TEXT : [])]) {
      element.setAttribute(name, style.getPropertyValue(name));
    }
    element.removeAttribute("class");
  });
  painter.root.append(...copy.childNodes);
  if (!png) {
    saveText(fileName(network, what, "svg"), svgText(painter.root), "image/svg+xml");
    return;
  }
  const rendered = new Image();
  rendered.onload = () => {
    const canvas = html("canvas", { width: width * SCALE, height: (height + FOOTER) * SCALE });
    canvas.getContext("2d")!.drawImage(rendered, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => blob && save(fileName(network, what, "png"), blob));
  };
  rendered.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(painter.root))}`;
}
