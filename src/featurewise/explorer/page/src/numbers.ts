// Numbers as text, ranges, ticks and a fixed random order.

export interface Range {
  low: number;
  high: number;
}

/** Three significant digits, as a reader writes them. */
export function format(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(2) : significant(value, 3);
  return text.replace("-", "−");
}

function significant(value: number, digits: number): string {
  const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  return places <= 0 ? value.toFixed(0) : value.toFixed(places);
}

/** A value that was chosen, such as a weight or a level: no more digits than it has. */
export function plainNumber(value: number): string {
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function grouped(count: number): string {
  return count.toLocaleString("en-US");
}

export function plural(count: number, noun: string): string {
  return `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;
}

export function extent(values: ArrayLike<number>): Range {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value < low && value > Number.NEGATIVE_INFINITY) low = value;
    if (value > high && value < Number.POSITIVE_INFINITY) high = value;
  }
  return low <= high ? { low, high } : { low: 0, high: 1 };
}

export function padded({ low, high }: Range, share = 0.05): Range {
  const pad = high > low ? (high - low) * share : Math.abs(high) * 0.1 || 0.5;
  return { low: low - pad, high: high + pad };
}

export interface Tick {
  at: number;
  text: string;
}

/** About ``count`` ticks at 1, 2 or 5 times a power of ten. */
export function ticks({ low, high }: Range, count: number): Tick[] {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0) || !Number.isFinite(raw)) return [];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5, 10].find((each) => each * power >= raw) ?? 10);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found: Tick[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    const at = i * step;
    const text =
      Math.abs(at) >= 1e5 ? at.toExponential(1) : at.toFixed(places).replace(/^-(0\.?0*)$/, "$1");
    found.push({ at, text: text.replace("-", "−") });
  }
  return found;
}

let lastShuffled: Uint32Array = new Uint32Array(0);

/** The numbers below ``count`` in an order that looks random and is always the same. */
export function shuffled(count: number): Uint32Array {
  if (lastShuffled.length === count) return lastShuffled;
  const order = new Uint32Array(count);
  let state = 0x9e3779b9;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const j = (state >>> 0) % (i + 1);
    order[i] = order[j]!;
    order[j] = i;
  }
  lastShuffled = order;
  return order;
}

/** A number in [0, 1) that depends on ``index`` alone. */
export function jitter(index: number): number {
  let x = Math.imul(index + 1, 0x9e3779b1);
  x ^= x >>> 15;
  x = Math.imul(x, 0x85ebca6b);
  x ^= x >>> 13;
  return (x >>> 0) / 4294967296;
}

export function quantile(sorted: ArrayLike<number>, level: number): number {
  const at = (sorted.length - 1) * level;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at % 1);
}
