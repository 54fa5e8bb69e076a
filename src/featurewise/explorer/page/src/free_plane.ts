// The plane of two parameters of one feature, with a point that the reader moves freely.

import { plot } from "./charts.ts";
import { html, replace, svg } from "./dom.ts";
import { path } from "./marks.ts";
import { plainNumber, type Range } from "./numbers.ts";

export interface PlaneAxis {
  symbol: string;
  range: Range;
  origin: number | null;
}

export interface Shade {
  across: Range;
  up: Range;
  color: string;
  opacity: number;
}

export interface PlaneContent {
  label: string;
  width: number;
  across: PlaneAxis;
  /** Null where the operation has one parameter. */
  up: PlaneAxis | null;
  /** Values of all conditions, x and y in turn. */
  dots: number[];
  shades: Shade[];
  own: [number, number] | null;
  /** The values of the condition itself, as a mark. */
  point: [number, number];
}

const STEPS = 100;
const LARGE = 10;

export class FreePlane {
  readonly element: HTMLElement;
  private content: PlaneContent | null = null;
  private point: [number, number] = [0, 0];
  private paint: () => void = () => {};
  private unit: (x: number, y: number) => [number, number] = () => this.point;

  constructor(private readonly moved: (point: [number, number]) => void) {
    this.element = html("div", {
      class: "free-plane",
      id: "plane",
      tabindex: 0,
      role: "application",
      "aria-roledescription": "plane with a movable point",
      onkeydown: (event: KeyboardEvent) => this.key(event),
      onpointerdown: (event: PointerEvent) => {
        if (event.button !== 0) return;
        this.element.setPointerCapture(event.pointerId);
        this.drag(event);
      },
      onpointermove: (event: PointerEvent) => {
        if (this.element.hasPointerCapture(event.pointerId)) this.drag(event);
      },
    });
  }

  show(content: PlaneContent): void {
    this.content = content;
    const { across, up, own, width } = content;
    const flat = up === null;
    const height = flat ? 130 : Math.round(Math.min(width * 0.8, 460));
    const { root, px, py, frame } = plot({
      label: content.label,
      width,
      height,
      x: { label: across.symbol, range: across.range, origin: across.origin },
      y: up
        ? { label: up.symbol, range: up.range, origin: up.origin }
        : { label: "", range: { low: -1, high: 1 }, hidden: true },
    });
    root.setAttribute("aria-hidden", "true");
    const clip = svg(
      "clipPath",
      { id: "plane-frame" },
      svg("rect", {
        x: frame.left,
        y: frame.top,
        width: frame.right - frame.left,
        height: frame.bottom - frame.top,
      }),
    );
    const inside = svg("g", { "clip-path": "url(#plane-frame)" });
    for (const shade of content.shades) {
      const [left, right] = [px(shade.across.low), px(shade.across.high)];
      const [top, bottom] = [py(shade.up.high), py(shade.up.low)];
      inside.append(
        svg("rect", {
          x: left,
          y: top,
          width: right - left,
          height: bottom - top,
          fill: shade.color,
          "fill-opacity": shade.opacity,
        }),
      );
    }
    let marks = "";
    for (let i = 0; i < content.dots.length; i += 2) {
      marks += path("circle", px(content.dots[i]!), flat ? py(0) : py(content.dots[i + 1]!), 2);
    }
    inside.append(svg("path", { class: "dots", d: marks }));
    if (own) {
      const y = flat ? py(0) : py(own[1]);
      inside.append(svg("path", { class: "own-mark", d: path("diamond", px(own[0]), y, 7) }));
    }
    const handle = svg("g", { class: "handle" });
    this.paint = () => {
      const [x, y] = [px(this.point[0]), flat ? py(0) : py(this.point[1])];
      replace(
        handle,
        svg("line", { x1: frame.left, x2: frame.right, y1: y, y2: y }),
        svg("line", { x1: x, x2: x, y1: frame.top, y2: frame.bottom }),
        svg("circle", { cx: x, cy: y, r: 9 }),
      );
    };
    this.unit = (x, y) => {
      const share = (x - frame.left) / (frame.right - frame.left);
      const shareUp = (frame.bottom - y) / (frame.bottom - frame.top);
      return [within(across.range, share), up ? within(up.range, shareUp) : 0];
    };
    root.append(clip, inside, handle);
    this.element.setAttribute(
      "aria-label",
      `${content.label}. Arrow keys move the point, with Shift in larger steps.`,
    );
    replace(this.element, root);
    this.place(content.point);
  }

  /** Moves the point without telling. */
  place(point: [number, number]): void {
    this.point = point;
    this.element.dataset.at = point.map(plainNumber).join(" ");
    this.paint();
  }

  private move(point: [number, number]): void {
    const rounded = point.map((value) => Number(value.toPrecision(4))) as [number, number];
    this.place(rounded);
    this.moved(rounded);
  }

  private drag(event: PointerEvent): void {
    const root = this.element.firstElementChild;
    if (!root || !this.content) return;
    const place = root.getBoundingClientRect();
    const scale = this.content.width / place.width;
    this.move(this.unit((event.clientX - place.left) * scale, (event.clientY - place.top) * scale));
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, 1],
      ArrowDown: [0, -1],
    };
    const move = moves[event.key];
    if (!move || !this.content || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const factor = (event.shiftKey ? LARGE : 1) / STEPS;
    const { across, up } = this.content;
    const width = ({ low, high }: Range) => (high - low) * factor;
    this.move([
      this.point[0] + move[0] * width(across.range),
      up ? this.point[1] + move[1] * width(up.range) : 0,
    ]);
  }
}

function within({ low, high }: Range, share: number): number {
  return low + (high - low) * Math.min(1, Math.max(0, share));
}
