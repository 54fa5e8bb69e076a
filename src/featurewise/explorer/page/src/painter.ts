// The few shapes that a figure consists of, on a canvas or as SVG: one code for screen and files.

import { svg } from "./dom.ts";
import { type MarkStyle, path } from "./marks.ts";

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

export interface Stroke {
  color: string;
  width: number;
  dash?: number[];
}

export interface Writing {
  color: string;
  size: number;
  anchor?: "start" | "middle" | "end";
  weight?: number;
  upright?: boolean;
  /** Color of a line around the letters, which sets them apart from what is below. */
  halo?: string;
}

export interface Painter {
  rectangle(x: number, y: number, width: number, height: number, fill: string): void;
  /** Paints what ``paint`` does, but only inside a rectangle. */
  within(x: number, y: number, width: number, height: number, paint: () => void): void;
  line(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void;
  polygon(corners: ArrayLike<number>, stroke: Stroke): void;
  ellipse(x: number, y: number, rx: number, ry: number, angle: number, stroke: Stroke): void;
  text(x: number, y: number, text: string, writing: Writing): void;
  mark(x: number, y: number, radius: number, style: MarkStyle): void;
}

export class CanvasPainter implements Painter {
  private readonly context: CanvasRenderingContext2D;

  constructor(context: CanvasRenderingContext2D) {
    this.context = context;
  }

  rectangle(x: number, y: number, width: number, height: number, fill: string): void {
    this.context.fillStyle = fill;
    this.context.fillRect(x, y, width, height);
  }

  within(x: number, y: number, width: number, height: number, paint: () => void): void {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
    paint();
    this.context.restore();
  }

  private stroke(build: () => void, { color, width, dash }: Stroke): void {
    const { context } = this;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash(dash ?? []);
    context.beginPath();
    build();
    context.stroke();
    context.setLineDash([]);
  }

  line(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    this.stroke(() => {
      this.context.moveTo(x1, y1);
      this.context.lineTo(x2, y2);
    }, stroke);
  }

  polygon(corners: ArrayLike<number>, stroke: Stroke): void {
    this.stroke(() => {
      for (let i = 0; i < corners.length; i += 2) {
        this.context.lineTo(corners[i]!, corners[i + 1]!);
      }
      this.context.closePath();
    }, stroke);
  }

  ellipse(x: number, y: number, rx: number, ry: number, angle: number, stroke: Stroke): void {
    this.stroke(() => this.context.ellipse(x, y, rx, ry, angle, 0, 2 * Math.PI), stroke);
  }

  text(x: number, y: number, text: string, writing: Writing): void {
    const { context } = this;
    context.save();
    context.font = `${writing.weight ?? 400} ${writing.size}px ${FONT}`;
    context.textAlign = writing.anchor === "middle" ? "center" : (writing.anchor ?? "start");
    context.textBaseline = "middle";
    context.translate(x, y);
    if (writing.upright) context.rotate(-Math.PI / 2);
    if (writing.halo) {
      context.strokeStyle = writing.halo;
      context.lineWidth = 4;
      context.lineJoin = "round";
      context.strokeText(text, 0, 0);
    }
    context.fillStyle = writing.color;
    context.fillText(text, 0, 0);
    context.restore();
  }

  mark(x: number, y: number, radius: number, style: MarkStyle): void {
    this.context.fillStyle = style.color;
    this.context.fill(new Path2D(path(style.shape, x, y, radius)));
  }
}

export class SvgPainter implements Painter {
  readonly root: SVGSVGElement;
  private parent: SVGElement;

  constructor(width: number, height: number) {
    this.root = svg("svg", {
      xmlns: "http://www.w3.org/2000/svg",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      "font-family": FONT,
    });
    this.parent = this.root;
  }

  rectangle(x: number, y: number, width: number, height: number, fill: string): void {
    this.parent.append(svg("rect", { x, y, width, height, fill }));
  }

  within(x: number, y: number, width: number, height: number, paint: () => void): void {
    const outside = this.parent;
    const id = `inside-${outside.childElementCount}`;
    const group = svg("g", { "clip-path": `url(#${id})` });
    outside.append(svg("clipPath", { id }, svg("rect", { x, y, width, height })), group);
    this.parent = group;
    paint();
    this.parent = outside;
  }

  private stroked(stroke: Stroke): Record<string, string | number | undefined> {
    return {
      fill: "none",
      stroke: stroke.color,
      "stroke-width": stroke.width,
      "stroke-dasharray": stroke.dash?.join(" "),
    };
  }

  line(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    this.parent.append(svg("line", { x1, y1, x2, y2, ...this.stroked(stroke) }));
  }

  polygon(corners: ArrayLike<number>, stroke: Stroke): void {
    const points = Array.from(corners, (each) => each.toFixed(1)).join(" ");
    this.parent.append(svg("polygon", { points, ...this.stroked(stroke) }));
  }

  ellipse(x: number, y: number, rx: number, ry: number, angle: number, stroke: Stroke): void {
    const transform = `translate(${x} ${y}) rotate(${(angle * 180) / Math.PI})`;
    this.parent.append(svg("ellipse", { rx, ry, transform, ...this.stroked(stroke) }));
  }

  text(x: number, y: number, text: string, writing: Writing): void {
    this.parent.append(
      svg(
        "text",
        {
          transform: `translate(${x} ${y})${writing.upright ? " rotate(-90)" : ""}`,
          fill: writing.color,
          "font-size": writing.size,
          "font-weight": writing.weight ?? 400,
          "text-anchor": writing.anchor ?? "start",
          "dominant-baseline": "central",
          ...(writing.halo
            ? { stroke: writing.halo, "stroke-width": 4, "paint-order": "stroke" }
            : {}),
        },
        text,
      ),
    );
  }

  mark(x: number, y: number, radius: number, style: MarkStyle): void {
    this.parent.append(svg("path", { d: path(style.shape, x, y, radius), fill: style.color }));
  }
}
