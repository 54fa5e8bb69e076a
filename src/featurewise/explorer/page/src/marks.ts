// Marker shapes: as outlines for SVG, and as sprites that are written into pixels.

export const SHAPES = ["circle", "square", "diamond", "triangle", "down", "plus"] as const;
export type Shape = (typeof SHAPES)[number];

export interface MarkStyle {
  color: string;
  shape: Shape;
}

/** Outlines of a marker of radius 1; all shapes cover about the same area. */
const OUTLINES: Record<Exclude<Shape, "circle">, [number, number][]> = {
  square: [
    [-0.88, -0.88],
    [0.88, -0.88],
    [0.88, 0.88],
    [-0.88, 0.88],
  ],
  diamond: [
    [0, -1.28],
    [1.28, 0],
    [0, 1.28],
    [-1.28, 0],
  ],
  triangle: [
    [0, -1.3],
    [1.25, 0.9],
    [-1.25, 0.9],
  ],
  down: [
    [0, 1.3],
    [1.25, -0.9],
    [-1.25, -0.9],
  ],
  plus: [
    [-0.45, -1.25],
    [0.45, -1.25],
    [0.45, -0.45],
    [1.25, -0.45],
    [1.25, 0.45],
    [0.45, 0.45],
    [0.45, 1.25],
    [-0.45, 1.25],
    [-0.45, 0.45],
    [-1.25, 0.45],
    [-1.25, -0.45],
    [-0.45, -0.45],
  ],
};

export function outline(shape: Exclude<Shape, "circle">, radius: number): [number, number][] {
  return OUTLINES[shape].map(([x, y]) => [x * radius, y * radius]);
}

export function path(shape: Shape, x: number, y: number, radius: number): string {
  if (shape === "circle") {
    return `M${x - radius} ${y}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0Z`;
  }
  const corners = outline(shape, radius).map(([dx, dy]) => `${round(x + dx)} ${round(y + dy)}`);
  return `M${corners.join("L")}Z`;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

export function insidePolygon(x: number, y: number, corners: ArrayLike<number>): boolean {
  let inside = false;
  for (let i = 0, j = corners.length - 2; i < corners.length; j = i, i += 2) {
    const yi = corners[i + 1]!;
    const yj = corners[j + 1]!;
    if (yi > y !== yj > y) {
      const xi = corners[i]!;
      if (x < ((corners[j]! - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
  }
  return inside;
}

interface Sprite {
  dx: Int16Array;
  dy: Int16Array;
  /** Coverage, 0 to 256, of the gap in the background's color around the marker, and of itself. */
  gap: Uint16Array;
  fill: Uint16Array;
}

const sprites = new Map<string, Sprite>();

function sprite(shape: Shape, radius: number, gap: number): Sprite {
  const key = `${shape} ${radius} ${gap}`;
  let found = sprites.get(key);
  if (!found) {
    found = render(shape, radius, gap);
    sprites.set(key, found);
  }
  return found;
}

function render(shape: Shape, radius: number, gap: number): Sprite {
  const reach = Math.ceil((radius + gap) * 1.4) + 1;
  const inner = shape === "circle" ? null : outline(shape, radius).flat();
  const outer = shape === "circle" ? null : outline(shape, radius + gap).flat();
  const cells: [number, number, number, number][] = [];
  const STEPS = 4;
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      let fill = 0;
      let around = 0;
      for (let i = 0; i < STEPS * STEPS; i++) {
        const sx = x + ((i % STEPS) + 0.5) / STEPS - 0.5;
        const sy = y + (Math.floor(i / STEPS) + 0.5) / STEPS - 0.5;
        const distance = sx * sx + sy * sy;
        if (inner ? insidePolygon(sx, sy, inner) : distance < radius * radius) fill++;
        if (outer ? insidePolygon(sx, sy, outer) : distance < (radius + gap) ** 2) around++;
      }
      if (around) cells.push([x, y, gap > 0 ? around * 16 : 0, fill * 16]);
    }
  }
  return {
    dx: Int16Array.from(cells, (cell) => cell[0]),
    dy: Int16Array.from(cells, (cell) => cell[1]),
    gap: Uint16Array.from(cells, (cell) => cell[2]),
    fill: Uint16Array.from(cells, (cell) => cell[3]),
  };
}

/** A marker of one style as it is written into pixels. */
interface Stamp {
  offsets: Int32Array;
  gap: Uint16Array;
  fill: Uint16Array;
  color: number;
  back: number;
}

/** Pixels that markers are written into; far faster than one canvas call a marker. */
export class Pixels {
  private readonly values: Uint32Array;
  private readonly width: number;

  constructor(image: ImageData) {
    this.values = new Uint32Array(image.data.buffer);
    this.width = image.width;
  }

  stamp(style: MarkStyle, radius: number, gap: number, background: string): Stamp {
    const { dx, dy, gap: around, fill } = sprite(style.shape, radius, gap);
    return {
      offsets: Int32Array.from(dx, (each, index) => dy[index]! * this.width + each),
      gap: around,
      fill,
      color: packed(style.color),
      back: packed(background),
    };
  }

  /** Writes a marker around the pixel with index ``target``; what is outside is left out. */
  put({ offsets, gap, fill, color, back }: Stamp, target: number): void {
    const { values } = this;
    for (let i = 0; i < offsets.length; i++) {
      const at = target + offsets[i]!;
      const cover = fill[i]!;
      if (cover === 256) {
        values[at] = color;
        continue;
      }
      let below = values[at]!;
      if (gap[i]) below = mixed(below, back, gap[i]!);
      values[at] = cover ? mixed(below, color, cover) : below;
    }
  }
}

function packed(color: string): number {
  const value = Number.parseInt(color.slice(1), 16);
  return (0xff000000 | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

function mixed(below: number, above: number, share: number): number {
  const rest = 256 - share;
  const even = (((below & 0xff00ff) * rest + (above & 0xff00ff) * share) >>> 8) & 0xff00ff;
  const odd = (((below >>> 8) & 0xff) * rest + ((above >>> 8) & 0xff) * share) & 0xff00;
  return (0xff000000 | even | odd) >>> 0;
}
