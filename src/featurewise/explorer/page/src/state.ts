// What the page shows. The fragment of its address holds all of it, so every figure has a link.

/** Default of each part of the state; a part at its default is left out of the address. */
const DEFAULTS = {
  view: "",
  model: "0",
  compare: "",
  site: "",
  mode: "all",
  feature: "",
  features: "apart16",
  across: "",
  up: "",
  color: "",
  words: "",
  only: "",
  selected: "",
  brush: "",
  zoom: "",
  tool: "",
  projection: "0",
  pair: "0",
  step: "0",
  sum: "0",
  grid: "0",
  cell: "",
  contrast: "",
  at: "",
  on: "",
  question: "",
  marked: "",
  a: "",
  b: "",
  c: "",
  weight: "",
  effect: "0",
};

export type State = typeof DEFAULTS;
export type Key = keyof State;

function parse(fragment: string): State {
  const state = { ...DEFAULTS };
  for (const [name, value] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    if (Object.hasOwn(DEFAULTS, name)) state[name as Key] = value;
  }
  return state;
}

export function fragment(state: State): string {
  const changed = (Object.keys(DEFAULTS) as Key[]).filter((key) => state[key] !== DEFAULTS[key]);
  return `#${changed
    .map(
      (key) => `${key}=${encodeURIComponent(state[key]).replace(/%2C/g, ",").replace(/%20/g, "+")}`,
    )
    .join("&")}`;
}

export type Listener = (changed: Set<Key>) => void;

export class Store {
  private current = parse(location.hash);
  private readonly listeners: Listener[] = [];

  constructor() {
    addEventListener("popstate", () => this.follow());
    addEventListener("hashchange", () => this.follow());
  }

  get state(): Readonly<State> {
    return this.current;
  }

  listen(listener: Listener): void {
    this.listeners.push(listener);
  }

  /** Changes parts of the state; ``quiet`` changes, such as a zoom, get no entry in the history. */
  set(patch: Partial<State>, quiet = false): void {
    const next = { ...this.current, ...patch };
    const changed = this.adopt(next);
    if (changed.size === 0) return;
    const address = fragment(next);
    try {
      if (quiet) history.replaceState(null, "", address);
      else history.pushState(null, "", address);
    } catch {
      // A page inside another one may have no history of its own; it works without permalinks.
    }
    this.notify(changed);
  }

  private follow(): void {
    const changed = this.adopt(parse(location.hash));
    if (changed.size > 0) this.notify(changed);
  }

  private adopt(next: State): Set<Key> {
    const keys = Object.keys(DEFAULTS) as Key[];
    const changed = new Set(keys.filter((key) => next[key] !== this.current[key]));
    this.current = next;
    return changed;
  }

  private notify(changed: Set<Key>): void {
    for (const listener of this.listeners) listener(changed);
  }
}

/** Positions of the set members as ranges in base 36, as in "0-4.9". */
export function encodeSet(members: Uint8Array): string {
  const parts: string[] = [];
  for (let i = 0; i < members.length; i++) {
    if (!members[i]) continue;
    const start = i;
    while (members[i + 1]) i++;
    parts.push(start === i ? start.toString(36) : `${start.toString(36)}-${i.toString(36)}`);
  }
  return parts.join(".");
}

export function decodeSet(text: string, count: number): Uint8Array {
  const members = new Uint8Array(count);
  for (const part of text ? text.split(".") : []) {
    const [start, end = start] = part.split("-").map((each) => Number.parseInt(each, 36));
    if (start !== undefined && end !== undefined && start >= 0) {
      members.fill(1, start, Math.min(end, count - 1) + 1);
    }
  }
  return members;
}

export function decodeList(text: string): number[] {
  return text ? text.split(".").map(Number).filter(Number.isInteger) : [];
}

/** A position below ``count``, or the usual one. */
export function positionOf(text: string, count: number, usual: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : -1;
  return value >= 0 && value < count ? value : usual;
}

export function whole(text: string, count: number): number {
  const value = Number.parseInt(text, 10);
  return value >= 0 && value < count ? value : 0;
}
