// A scatter plot on a canvas: axes, points, selection by brush, zoom, hover and keyboard.

import { html } from "./dom.ts";
import { insidePolygon, type MarkStyle, Pixels } from "./marks.ts";
import { extent, padded, type Range, shuffled, type Tick, ticks } from "./numbers.ts";
import { CanvasPainter, FONT, type Painter } from "./painter.ts";
import { PointGrid } from "./point_grid.ts";
import { colors } from "./theme.ts";

export interface Axis {
  label: string;
  /** Value at which a line marks the network without a condition. */
  origin?: number | null;
  /** Positions with names instead of numbers. */
  names?: Tick[];
}

export interface Ellipse {
  name: string;
  color: string;
  mean: [number, number];
  /** Variance across, covariance, variance up. */
  covariance: [number, number, number];
}

/** A point that is none of the dots, such as a new condition. */
export interface Extra {
  name: string;
  x: number;
  /** Null where the plot has no second value: the mark is a line. */
  y: number | null;
  color: string;
}

export interface Points {
  x: Float32Array;
  y: Float32Array;
  styles: MarkStyle[];
  codes: Uint16Array;
  /** The style whose dots lie below all others; -1: none. */
  lowest: number;
  /** 0 for points that are left out, as when a group of the legend is isolated. */
  visible: Uint8Array | null;
  across: Axis;
  up: Axis;
  ellipses: Ellipse[];
  extras: Extra[];
  label: string;
  /** Ranges of the axes; by default those of the points. */
  ranges?: [Range, Range];
}

export type Tool = "pan" | "rectangle" | "lasso";

export interface ScatterEvents {
  hover(point: number, x: number, y: number): void;
  pick(point: number, additive: boolean): void;
  /** Corners of the brushed region in the units of the axes: x, y, x, y, ... */
  brush(corners: number[], additive: boolean): void;
  zoom(text: string): void;
  describe(point: number): string;
}

interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

const ELLIPSE_SIGMAS = 2;
const REACH = 18;
const MANY_POINTS = 200_000;

export class Scatter {
  readonly element: HTMLElement;
  private readonly base = html("canvas", { class: "layer" });
  private readonly above = html("canvas", { class: "layer" });
  private readonly plot: HTMLElement;
  private readonly context: CanvasRenderingContext2D;
  private readonly overlay: CanvasRenderingContext2D;
  private readonly painter: Painter;
  private points: Points | null = null;
  private selected: Uint8Array | null = null;
  private order: Uint32Array = new Uint32Array(0);
  private frame: Frame = { left: 0, top: 0, width: 1, height: 1 };
  private width = 0;
  private height = 0;
  private density = 1;
  private full: [Range, Range] = [
    { low: 0, high: 1 },
    { low: 0, high: 1 },
  ];
  private shown: [Range, Range] = this.full;
  private screenX = new Float32Array(0);
  private screenY = new Float32Array(0);
  private targets = new Int32Array(0);
  private orderedCodes = new Uint16Array(0);
  private grid: PointGrid | null = null;
  private current = -1;
  private outlined: Float32Array | null = null;
  private tool: Tool = "lasso";
  private chosen = false;
  private gesture: Gesture | null = null;
  private readonly touches = new Map<number, [number, number]>();

  constructor(
    private readonly events: ScatterEvents,
    private readonly announce: (text: string) => void,
  ) {
    this.plot = html(
      "div",
      {
        class: "plot",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "scatter plot",
        id: "plot",
      },
      this.base,
      this.above,
    );
    this.element = this.plot;
    this.context = this.base.getContext("2d", { willReadFrequently: true })!;
    this.overlay = this.above.getContext("2d")!;
    this.painter = new CanvasPainter(this.context);
    this.listen();
  }

  get size(): { width: number; height: number } {
    return { width: this.width, height: this.height };
  }

  /** What a drag does. Unless the reader chose it, a finger that drags moves the page instead. */
  setTool(tool: Tool, chosen: boolean): void {
    this.tool = tool;
    this.chosen = chosen;
    this.plot.dataset.tool = tool;
    this.plot.style.touchAction = chosen ? "none" : "pan-y";
  }

  show(points: Points, selected: Uint8Array | null, zoom: string): void {
    this.order = paintingOrder(points);
    const same = this.points?.x === points.x && this.points?.y === points.y;
    this.points = points;
    this.selected = selected;
    this.plot.setAttribute("aria-label", points.label);
    if (!same) this.current = -1;
    this.full = points.ranges ?? rangesOf(points);
    this.shown = parseZoom(zoom) ?? this.full;
    this.resize();
  }

  select(selected: Uint8Array | null): void {
    this.selected = selected;
    this.paint();
  }

  /** Fits the canvas to the room there is, and paints. */
  resize(): void {
    if (!this.points) return;
    const width = Math.max(240, this.plot.clientWidth);
    const rows = this.points.up.names?.length ?? 0;
    const height = Math.round(
      Math.max(Math.min(width * 0.68, 560), 300, Math.min(rows * 18 + 60, 640)),
    );
    this.width = width;
    this.height = height;
    this.density = Math.min(2, Math.max(1, devicePixelRatio || 1));
    this.plot.style.height = `${height}px`;
    for (const canvas of [this.base, this.above]) {
      const [columns, lines] = [width * this.density, height * this.density].map(Math.round);
      if (canvas.width !== columns) canvas.width = columns!;
      if (canvas.height !== lines) canvas.height = lines!;
    }
    this.place();
    this.paint();
  }

  private place(): void {
    const points = this.points!;
    this.frame = frameOf(points, this.width, this.height, this.shown);
    const count = points.x.length;
    if (this.screenX.length !== count) {
      this.screenX = new Float32Array(count);
      this.screenY = new Float32Array(count);
    }
    const [a, b, c, d] = transform(this.frame, this.shown);
    for (let i = 0; i < count; i++) {
      this.screenX[i] = a + b * points.x[i]!;
      this.screenY[i] = c + d * points.y[i]!;
    }
    this.grid = null;
    this.aim(points);
  }

  /** Which pixel each marker is written to, in the order of painting; -1: it is not shown. */
  private aim({ visible, codes }: Points): void {
    const { order, screenX, screenY, density, base } = this;
    const { left, top, width, height } = this.frame;
    const [right, bottom] = [left + width, top + height];
    if (this.targets.length !== order.length) {
      this.targets = new Int32Array(order.length);
      this.orderedCodes = new Uint16Array(order.length);
    }
    for (let i = 0; i < order.length; i++) {
      const point = order[i]!;
      const x = screenX[point]!;
      const y = screenY[point]!;
      const inside = x >= left && x <= right && y >= top && y <= bottom;
      const shown = inside && (!visible || visible[point] === 1);
      this.targets[i] = shown ? Math.round(y * density) * base.width + Math.round(x * density) : -1;
      this.orderedCodes[i] = codes[point]!;
    }
  }

  paint(): void {
    const points = this.points;
    if (!points) return;
    const { context, density } = this;
    context.setTransform(density, 0, 0, density, 0, 0);
    paintBack(this.painter, points, this.frame, this.shown, this.width, this.height);
    this.stampPoints(points);
    context.setTransform(density, 0, 0, density, 0, 0);
    paintFront(this.painter, points, this.frame, this.shown);
    this.paintAbove();
  }

  private stampPoints(points: Points): void {
    const { base, context, selected, order, targets, orderedCodes } = this;
    const image = context.getImageData(0, 0, base.width, base.height);
    const pixels = new Pixels(image);
    const { radius, gap } = this.markSize();
    const { card, faded } = colors();
    const stamps = points.styles.map((style) => pixels.stamp(style, radius, gap, card));
    const muted = points.styles.map(({ shape }) =>
      pixels.stamp({ shape, color: faded }, radius, 0, card),
    );
    const above: number[] = [];
    for (let i = 0; i < targets.length; i++) {
      const target = targets[i]!;
      if (target < 0) continue;
      if (!selected) pixels.put(stamps[orderedCodes[i]!]!, target);
      else if (selected[order[i]!]) above.push(i);
      else pixels.put(muted[orderedCodes[i]!]!, target);
    }
    for (const i of above) pixels.put(stamps[orderedCodes[i]!]!, targets[i]!);
    context.putImageData(image, 0, 0);
  }

  /** Radius of a marker and width of the gap around it, in pixels of the canvas. */
  private markSize(): { radius: number; gap: number } {
    const count = this.points!.x.length;
    const usual = count > MANY_POINTS ? 0.9 : count > 20_000 ? 1.8 : count > 3000 ? 2.6 : 4.2;
    const radius = this.width < 500 ? usual * 0.75 : usual;
    const gap = count > 8000 ? 0 : 0.8;
    return { radius: radius * this.density, gap: gap * this.density };
  }

  private paintAbove(): void {
    const { overlay, density, outlined } = this;
    overlay.setTransform(density, 0, 0, density, 0, 0);
    overlay.clearRect(0, 0, this.width, this.height);
    const painter = new CanvasPainter(overlay);
    const ink = colors().ink;
    if (outlined && outlined.length >= 4) {
      painter.polygon(outlined, { color: ink, width: 1.5, dash: [5, 4] });
    }
    if (this.current >= 0 && this.points) {
      const x = this.screenX[this.current]!;
      const y = this.screenY[this.current]!;
      const { radius } = this.markSize();
      const around = radius / density + 4;
      painter.ellipse(x, y, around, around, 0, { color: colors().card, width: 5 });
      painter.ellipse(x, y, around, around, 0, { color: ink, width: 2 });
    }
  }

  /** Paints axes and points by ``painter``, as for a file. */
  paintTo(painter: Painter): void {
    const points = this.points!;
    paintBack(painter, points, this.frame, this.shown, this.width, this.height);
    const radius = this.markSize().radius / this.density;
    const { left, top, width, height } = this.frame;
    for (const chosen of this.selected ? [0, 1] : [1]) {
      for (const point of this.order) {
        const x = this.screenX[point]!;
        const y = this.screenY[point]!;
        const inside = x >= left && x <= left + width && y >= top && y <= top + height;
        if (!inside || (points.visible && !points.visible[point])) continue;
        if (this.selected && this.selected[point] !== chosen) continue;
        const style = points.styles[points.codes[point]!]!;
        const color = chosen ? style.color : colors().faded;
        painter.mark(x, y, radius, { shape: style.shape, color });
      }
    }
    paintFront(painter, points, this.frame, this.shown);
  }

  private allowed = (point: number): boolean => {
    const { left, top, width, height } = this.frame;
    const x = this.screenX[point]!;
    const y = this.screenY[point]!;
    return (
      this.points?.visible?.[point] !== 0 &&
      x >= left &&
      x <= left + width &&
      y >= top &&
      y <= top + height
    );
  };

  private find(x: number, y: number): number {
    if (!this.points) return -1;
    this.grid ??= new PointGrid(this.screenX, this.screenY, this.width, this.height);
    const { selected } = this;
    const found = selected
      ? this.grid.nearest(x, y, REACH / 2, (point) => selected[point] === 1 && this.allowed(point))
      : -1;
    return found >= 0 ? found : this.grid.nearest(x, y, REACH, this.allowed);
  }

  private focusPoint(point: number, announced: boolean): void {
    if (point === this.current && !announced) return;
    this.current = point;
    this.paintAbove();
    const place = this.plot.getBoundingClientRect();
    const x = place.left + (this.screenX[point] ?? 0);
    const y = place.top + (this.screenY[point] ?? 0);
    this.events.hover(point, x, y);
    if (announced && point >= 0) this.announce(this.events.describe(point));
  }

  private listen(): void {
    const { plot } = this;
    plot.addEventListener("pointerdown", (event) => this.press(event));
    plot.addEventListener("pointermove", (event) => this.move(event));
    plot.addEventListener("pointerup", (event) => this.release(event));
    plot.addEventListener("pointercancel", (event) => {
      this.touches.delete(event.pointerId);
      this.gesture = null;
      this.outlined = null;
      this.paintAbove();
    });
    plot.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && !this.gesture) this.focusPoint(-1, false);
    });
    plot.addEventListener("dblclick", () => this.reset());
    plot.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && document.activeElement !== plot) return;
        event.preventDefault();
        const [x, y] = this.position(event);
        this.zoomBy(Math.exp(-event.deltaY * 0.0015), x, y);
      },
      { passive: false },
    );
    plot.addEventListener("keydown", (event) => this.key(event));
    plot.addEventListener("blur", () => this.focusPoint(-1, false));
  }

  private position(event: MouseEvent): [number, number] {
    const place = this.plot.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  }

  private press(event: PointerEvent): void {
    if (event.button !== 0 || !this.points) return;
    const [x, y] = this.position(event);
    this.touches.set(event.pointerId, [x, y]);
    if (event.pointerType !== "touch" || this.chosen) this.plot.setPointerCapture(event.pointerId);
    this.gesture = { startX: x, startY: y, moved: false, track: [x, y], shown: this.shown };
  }

  private move(event: PointerEvent): void {
    const [x, y] = this.position(event);
    if (this.touches.size === 2 && this.touches.has(event.pointerId)) {
      this.pinch(event.pointerId, x, y);
      return;
    }
    const { gesture } = this;
    if (!gesture) {
      if (event.pointerType === "mouse") this.focusPoint(this.find(x, y), false);
      return;
    }
    if (Math.hypot(x - gesture.startX, y - gesture.startY) > 4) gesture.moved = true;
    if (!gesture.moved || (event.pointerType === "touch" && !this.chosen)) return;
    if (this.tool === "pan") {
      this.shown = rounded(shifted(gesture, x, y, this.frame));
      this.place();
      this.paint();
      return;
    }
    gesture.track.push(x, y);
    this.outlined = this.brushOutline(gesture, x, y);
    this.paintAbove();
  }

  private brushOutline(gesture: Gesture, x: number, y: number): Float32Array {
    if (this.tool === "lasso") return Float32Array.from(gesture.track);
    const { startX, startY } = gesture;
    return Float32Array.from([startX, startY, x, startY, x, y, startX, y]);
  }

  private pinch(pointer: number, x: number, y: number): void {
    const [one, two] = [...this.touches.values()] as [[number, number], [number, number]];
    const before = Math.hypot(one[0] - two[0], one[1] - two[1]);
    this.touches.set(pointer, [x, y]);
    const [a, b] = [...this.touches.values()] as [[number, number], [number, number]];
    const after = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (before > 0) this.zoomBy(after / before, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    this.gesture = null;
  }

  private release(event: PointerEvent): void {
    this.touches.delete(event.pointerId);
    const { gesture } = this;
    this.gesture = null;
    this.outlined = null;
    if (!gesture) return;
    const [x, y] = this.position(event);
    const additive = event.shiftKey || event.ctrlKey || event.metaKey;
    if (!gesture.moved) {
      const before = this.current;
      const point = this.find(x, y);
      this.focusPoint(point, true);
      // The first tap of a finger shows the point, the second selects it.
      const meant = event.pointerType !== "touch" || point === before;
      if (meant && point >= 0) this.events.pick(point, additive);
      return;
    }
    if (event.pointerType === "touch" && !this.chosen) return;
    if (this.tool === "pan") this.events.zoom(zoomText(this.shown));
    else this.finishBrush(gesture, x, y, additive);
  }

  private finishBrush(gesture: Gesture, x: number, y: number, additive: boolean): void {
    const start = performance.now();
    const corners = thinned(this.brushOutline(gesture, x, y));
    const [a, b, c, d] = transform(this.frame, this.shown);
    const inUnits = Array.from(corners, (each, index) =>
      index % 2 ? (each - c) / d : (each - a) / b,
    );
    this.events.brush(inUnits, additive);
    performance.measure("brush", { start });
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const directions: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const direction = directions[event.key];
    if (direction) this.step(...direction);
    else if (event.key === "Enter" || event.key === " ") {
      if (this.current >= 0) this.events.pick(this.current, event.key === " " || event.shiftKey);
    } else if (event.key === "+" || event.key === "=") this.zoomBy(1.4);
    else if (event.key === "-") this.zoomBy(1 / 1.4);
    else return;
    event.preventDefault();
  }

  /** Goes to the nearest point in a direction, at most 45 degrees off. */
  private step(dx: number, dy: number): void {
    const { frame } = this;
    const from = this.current;
    if (from < 0) {
      this.grid ??= new PointGrid(this.screenX, this.screenY, this.width, this.height);
      const [x, y] = [frame.left + frame.width / 2, frame.top + frame.height / 2];
      const point = this.grid.nearest(x, y, Math.hypot(frame.width, frame.height), this.allowed);
      if (point >= 0) this.focusPoint(point, true);
      return;
    }
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < this.screenX.length; i++) {
      const x = this.screenX[i]! - this.screenX[from]!;
      const y = this.screenY[i]! - this.screenY[from]!;
      const along = x * dx + y * dy;
      const off = Math.abs(x * dy) + Math.abs(y * dx);
      if (along <= 0.01 || off > along) continue;
      const distance = along + 2 * off;
      if (distance < least && this.allowed(i)) {
        least = distance;
        best = i;
      }
    }
    if (best >= 0) this.focusPoint(best, true);
    else this.announce("no further dot in this direction");
  }

  zoomBy(factor: number, x?: number, y?: number): void {
    const { frame } = this;
    const shareX = ((x ?? frame.left + frame.width / 2) - frame.left) / frame.width;
    const shareY = 1 - ((y ?? frame.top + frame.height / 2) - frame.top) / frame.height;
    this.shown = rounded([
      scaled(this.shown[0], factor, shareX),
      scaled(this.shown[1], factor, shareY),
    ]);
    this.place();
    this.paint();
    this.events.zoom(zoomText(this.shown));
  }

  reset(): void {
    this.shown = this.full;
    this.place();
    this.paint();
    this.events.zoom("");
  }
}

interface Gesture {
  startX: number;
  startY: number;
  moved: boolean;
  track: number[];
  shown: [Range, Range];
}

function rangesOf(points: Points): [Range, Range] {
  const { extras } = points;
  const across = extras.map(({ x }) => x);
  const up = extras.flatMap(({ y }) => (y === null ? [] : [y]));
  return [
    padded(including(range(points.x, points.across), across)),
    padded(including(range(points.y, points.up), up)),
  ];
}

/** Gives two plots the same axes, so that they can be compared. */
export function sameAxes(one: Points, other: Points): void {
  const [a, b] = [rangesOf(one), rangesOf(other)];
  const both = (index: 0 | 1): Range => ({
    low: Math.min(a[index].low, b[index].low),
    high: Math.max(a[index].high, b[index].high),
  });
  one.ranges = [both(0), both(1)];
  other.ranges = one.ranges;
}

function including({ low, high }: Range, values: number[]): Range {
  return { low: Math.min(low, ...values), high: Math.max(high, ...values) };
}

function range(values: Float32Array, axis: Axis): Range {
  if (axis.names) return { low: -0.5, high: axis.names.length - 0.5 };
  const found = extent(values);
  const { origin } = axis;
  if (origin === null || origin === undefined) return found;
  // The origin is shown where that does not squeeze the points into less than half of the axis.
  const low = Math.min(found.low, origin);
  const high = Math.max(found.high, origin);
  return high - low <= 2 * (found.high - found.low) ? { low, high } : found;
}

/** Always the same random order, so that no style hides another; the lowest style comes first. */
function paintingOrder({ codes, lowest }: Points): Uint32Array {
  const order = shuffled(codes.length);
  if (lowest < 0) return order;
  const isLowest = (point: number) => codes[point] === lowest;
  const rest = order.filter((point) => !isLowest(point));
  const sorted = new Uint32Array(order.length);
  sorted.set(order.filter(isLowest));
  sorted.set(rest, order.length - rest.length);
  return sorted;
}

/** Numbers a, b, c, d of x = a + b * value and y = c + d * value. */
function transform(frame: Frame, [across, up]: [Range, Range]): [number, number, number, number] {
  const b = frame.width / (across.high - across.low);
  const d = -frame.height / (up.high - up.low);
  return [frame.left - b * across.low, b, frame.top - d * up.high, d];
}

function scaled({ low, high }: Range, factor: number, share: number): Range {
  const at = low + (high - low) * share;
  return { low: at - (at - low) / factor, high: at + (high - at) / factor };
}

function shifted(gesture: Gesture, x: number, y: number, frame: Frame): [Range, Range] {
  const [across, up] = gesture.shown;
  const dx = ((gesture.startX - x) / frame.width) * (across.high - across.low);
  const dy = ((y - gesture.startY) / frame.height) * (up.high - up.low);
  return [
    { low: across.low + dx, high: across.high + dx },
    { low: up.low + dy, high: up.high + dy },
  ];
}

function zoomText(ranges: [Range, Range]): string {
  return ranges
    .flatMap(({ low, high }) => [low, high])
    .map((value) => Number(value.toPrecision(6)))
    .join(",");
}

/** What a permalink holds, so that it shows the same pixels. */
function rounded(ranges: [Range, Range]): [Range, Range] {
  return parseZoom(zoomText(ranges)) ?? ranges;
}

function parseZoom(text: string): [Range, Range] | null {
  const [a, b, c, d] = text.split(",").map(Number);
  if (a === undefined || b === undefined || c === undefined || d === undefined) return null;
  if (!(a < b && c < d)) return null;
  return [
    { low: a, high: b },
    { low: c, high: d },
  ];
}

/** At most 40 corners, so that a permalink stays short. */
function thinned(corners: Float32Array): Float32Array {
  const count = corners.length / 2;
  const step = Math.max(1, Math.ceil(count / 40));
  return corners.filter((_, index) => Math.floor(index / 2) % step === 0);
}

export function insideRegion(points: Points, corners: number[]): Uint8Array {
  const inside = new Uint8Array(points.x.length);
  const across = extent(corners.filter((_, index) => index % 2 === 0));
  const up = extent(corners.filter((_, index) => index % 2 === 1));
  for (let i = 0; i < inside.length; i++) {
    const x = points.x[i]!;
    const y = points.y[i]!;
    if (x < across.low || x > across.high || y < up.low || y > up.high) continue;
    if (points.visible?.[i] === 0) continue;
    if (insidePolygon(x, y, corners)) inside[i] = 1;
  }
  return inside;
}

const measure = document.createElement("canvas").getContext("2d")!;

export function textWidth(text: string, size: number, weight = 400): number {
  measure.font = `${weight} ${size}px ${FONT}`;
  return measure.measureText(text).width;
}

export function shortened(text: string, size: number, room: number): string {
  if (textWidth(text, size) <= room) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`, size) > room) end--;
  return `${text.slice(0, end)}…`;
}

const TICK = 12;
/** An axis label this short is readable without being turned. */
const SHORT = 2;

function frameOf(points: Points, width: number, height: number, shown: [Range, Range]): Frame {
  const right = 16;
  const top = 14;
  const bottom = 50;
  const names = points.up.names;
  const labels = names ?? ticks(shown[1], 6);
  const widest = Math.max(0, ...labels.map((tick) => textWidth(tick.text, TICK)));
  const left = Math.min(width * 0.36, widest + 14) + 24;
  return { left, top, width: width - left - right, height: height - top - bottom };
}

function paintBack(
  painter: Painter,
  points: Points,
  frame: Frame,
  shown: [Range, Range],
  width: number,
  height: number,
): void {
  const { card, line, soft } = colors();
  const [a, b, c, d] = transform(frame, shown);
  painter.rectangle(0, 0, width, height, card);
  const right = frame.left + frame.width;
  const bottom = frame.top + frame.height;
  const thin = { color: line, width: 1 };
  for (const tick of ticks(shown[0], Math.max(3, frame.width / 90))) {
    const x = crisp(a + b * tick.at);
    painter.line(x, frame.top, x, bottom, thin);
    painter.text(x, bottom + 14, tick.text, { color: soft, size: TICK, anchor: "middle" });
  }
  const names = points.up.names;
  const room = frame.left - 32;
  let last = Number.POSITIVE_INFINITY;
  for (const tick of names ?? ticks(shown[1], Math.max(3, frame.height / 70))) {
    const y = crisp(c + d * tick.at);
    if (y < frame.top - 1 || y > bottom + 1) continue;
    painter.line(frame.left, y, right, y, thin);
    if (Math.abs(last - y) < 13) continue;
    last = y;
    const text = names ? shortened(tick.text, TICK, room) : tick.text;
    painter.text(frame.left - 8, y, text, { color: soft, size: TICK, anchor: "end" });
  }
  const marked = { color: soft, width: 1.5, dash: [6, 4] };
  for (const [origin, up] of [
    [points.across.origin, false],
    [points.up.origin, true],
  ] as const) {
    if (origin === null || origin === undefined) continue;
    const at = crisp(up ? c + d * origin : a + b * origin);
    if (up && at >= frame.top && at <= bottom) painter.line(frame.left, at, right, at, marked);
    if (!up && at >= frame.left && at <= right) painter.line(at, frame.top, at, bottom, marked);
  }
}

function crisp(value: number): number {
  return Math.round(value) + 0.5;
}

function paintFront(painter: Painter, points: Points, frame: Frame, shown: [Range, Range]): void {
  const { ink, card } = colors();
  const bottom = frame.top + frame.height;
  const label = { color: ink, size: 14, anchor: "middle" as const, weight: 500 };
  painter.text(frame.left + frame.width / 2, bottom + 36, points.across.label, label);
  painter.text(12, frame.top + frame.height / 2, points.up.label, {
    ...label,
    upright: points.up.label.length > SHORT,
  });
  const scales = transform(frame, shown);
  const [a, b, c, d] = scales;
  const written: [number, number, number][] = [];
  for (const { mean, covariance, color, name } of points.ellipses) {
    const x = a + b * mean[0];
    const y = c + d * mean[1];
    const [rx, ry, angle] = principal(covariance, b, d);
    if (x < frame.left || y < frame.top || x > frame.left + frame.width || y > bottom) continue;
    painter.within(frame.left, frame.top, frame.width, frame.height, () => {
      painter.ellipse(x, y, rx, ry, angle, { color: card, width: 4 });
      painter.ellipse(x, y, rx, ry, angle, { color, width: 2 });
    });
    const half = textWidth(name, 12, 650) / 2 + 3;
    const top = Math.max(frame.top + 8, y - ry - 8);
    const taken = written.some(
      ([tx, ty, th]) => Math.abs(tx - x) < th + half && Math.abs(ty - top) < 14,
    );
    if (taken) continue;
    written.push([x, top, half]);
    painter.text(x, top, name, { color: ink, size: 12, anchor: "middle", weight: 650, halo: card });
  }
  paintExtras(painter, points, frame, scales);
}

function paintExtras(
  painter: Painter,
  { extras }: Points,
  { left, top, width, height }: Frame,
  [a, b, c, d]: [number, number, number, number],
): void {
  const { ink, card } = colors();
  for (const { name, x: across, y: up, color } of extras) {
    const x = a + b * across;
    const y = up === null ? top + 22 : c + d * up;
    if (x < left || x > left + width || y < top || y > top + height) continue;
    if (up === null) painter.line(x, top, x, top + height, { color: ink, width: 2 });
    painter.ellipse(x, y, 11, 11, 0, { color: card, width: 5 });
    painter.ellipse(x, y, 11, 11, 0, { color: ink, width: 2 });
    painter.mark(x, y, 8, { shape: "diamond", color: card });
    painter.mark(x, y, 6, { shape: "diamond", color });
    if (!name) continue;
    const right = x + 16 + textWidth(name, 13, 650) < left + width;
    painter.text(right ? x + 16 : x - 16, y, name, {
      color: ink,
      size: 13,
      anchor: right ? "start" : "end",
      weight: 650,
      halo: card,
    });
  }
}

/** Radii and angle, on the screen, of the ellipse of a covariance. */
function principal(
  [xx, xy, yy]: [number, number, number],
  b: number,
  d: number,
): [number, number, number] {
  const p = xx * b * b;
  const q = xy * b * d;
  const r = yy * d * d;
  const middle = (p + r) / 2;
  const off = Math.hypot((p - r) / 2, q);
  return [
    ELLIPSE_SIGMAS * Math.sqrt(Math.max(0, middle + off)),
    ELLIPSE_SIGMAS * Math.sqrt(Math.max(0, middle - off)),
    0.5 * Math.atan2(2 * q, p - r),
  ];
}
