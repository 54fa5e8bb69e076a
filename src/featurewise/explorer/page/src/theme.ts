// Light, dark, or as the system has it; and the colors of the style sheet as canvas needs them.

export type Scheme = "auto" | "light" | "dark";

export interface Colors {
  card: string;
  ink: string;
  soft: string;
  line: string;
  faded: string;
  muted: string;
  accent: string;
  hues: string[];
  dark: boolean;
}

export const HUES = 6;

const STORED = "featurewise-scheme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners: (() => void)[] = [];
let known: Colors | null = null;

export function scheme(): Scheme {
  const set = document.documentElement.dataset.scheme;
  return set === "light" || set === "dark" ? set : "auto";
}

export function setScheme(next: Scheme): void {
  if (next === "auto") delete document.documentElement.dataset.scheme;
  else document.documentElement.dataset.scheme = next;
  try {
    localStorage.setItem(STORED, next);
  } catch {
    // Pages without storage keep the scheme until they are closed.
  }
  renew();
}

export function restoreScheme(): void {
  try {
    const stored = localStorage.getItem(STORED);
    if (stored === "light" || stored === "dark") setScheme(stored);
  } catch {
    // As above.
  }
  system.addEventListener("change", renew);
}

export function onScheme(listener: () => void): void {
  listeners.push(listener);
}

function renew(): void {
  known = null;
  for (const listener of listeners) listener();
}

export function colors(): Colors {
  if (known) return known;
  const probe = document.createElement("span");
  document.body.append(probe);
  const resolved = (name: string): string => {
    probe.style.color = `var(--${name})`;
    return hex(getComputedStyle(probe).color);
  };
  const current = scheme();
  known = {
    card: resolved("card"),
    ink: resolved("ink"),
    soft: resolved("soft"),
    line: resolved("line"),
    faded: resolved("faded"),
    muted: resolved("muted"),
    accent: resolved("accent"),
    hues: Array.from({ length: HUES }, (_, index) => resolved(`hue-${index}`)),
    dark: current === "dark" || (current === "auto" && system.matches),
  };
  probe.remove();
  return known;
}

function hex(color: string): string {
  const parts = color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
  return `#${parts
    .slice(0, 3)
    .map((part) => Math.round(part).toString(16).padStart(2, "0"))
    .join("")}`;
}

const VIRIDIS = [
  0x440154, 0x482878, 0x3e4989, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6ece58, 0xb5de2b,
  0xfde725,
];

/** Viridis at ``share``, without the end that is too near to the background. */
export function viridis(share: number, dark: boolean): string {
  const [low, high] = dark ? [0.22, 1] : [0, 0.86];
  const at = (low + (high - low) * Math.min(1, Math.max(0, share))) * (VIRIDIS.length - 1);
  const from = VIRIDIS[Math.floor(at)]!;
  const to = VIRIDIS[Math.ceil(at)]!;
  let mixed = 0;
  for (const shift of [16, 8, 0]) {
    const a = (from >> shift) & 255;
    const b = (to >> shift) & 255;
    mixed |= Math.round(a + (b - a) * (at % 1)) << shift;
  }
  return `#${mixed.toString(16).padStart(6, "0")}`;
}
