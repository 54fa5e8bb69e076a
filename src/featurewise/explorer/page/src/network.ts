// One network of the page's data, its arrays decoded.

import type {
  CategoryLabel,
  Content,
  Effect,
  NumberLabel,
  PackedArray,
  PageBundle,
  PageData,
  SiteValues,
  TextLabel,
} from "./schema.ts";

export type Label = CategoryLabel | NumberLabel | TextLabel;

export interface SiteParameter {
  name: string;
  symbol: string;
  origin: number | null;
  /** (conditions, features), row by row. */
  values: Float32Array;
}

export interface Site {
  name: string;
  operation: string;
  /** Index in the site of each feature that the page holds. */
  numbers: number[];
  features: number;
  total: number;
  parameters: SiteParameter[];
  effects: Effect[];
}

const SYMBOLS: Record<string, string> = {
  gamma: "γ",
  beta: "β",
  alpha: "α",
  sigma: "σ",
  mu: "μ",
  mean: "mean",
};

export function symbol(parameter: string): string {
  return SYMBOLS[parameter] ?? parameter;
}

export class Network {
  readonly content: Content;
  readonly count: number;
  readonly sites: Site[];
  private readonly packed: Record<string, PackedArray>;
  private readonly decoded = new Map<string, Float32Array>();

  constructor(bundle: PageBundle) {
    this.content = bundle.content;
    this.packed = bundle.arrays;
    this.count = bundle.content.conditions.shown;
    this.sites = bundle.content.sites.map((site) => this.site(site));
  }

  private site(site: SiteValues): Site {
    return {
      name: site.name,
      operation: site.operation,
      numbers: site.numbers,
      features: site.numbers.length,
      total: site.features.total,
      parameters: site.parameters.map((each) => ({
        name: each.name,
        symbol: symbol(each.name),
        origin: each.origin ?? null,
        values: this.array(each.array),
      })),
      effects: site.effects ?? [],
    };
  }

  array(name: string): Float32Array {
    let values = this.decoded.get(name);
    if (!values) {
      const packed = this.packed[name];
      if (!packed) throw new Error(`the page's data has no array "${name}"`);
      values = decode(packed.data);
      this.decoded.set(name, values);
    }
    return values;
  }

  get labels(): Label[] {
    return this.content.labels;
  }

  get textLabel(): TextLabel | undefined {
    return this.labels.find((label) => label.kind === "text");
  }

  /** What a reader calls a condition: its text, or its number. */
  text(condition: number): string {
    return this.textLabel?.texts[condition] ?? `condition ${condition}`;
  }

  /** Unit of what the network answers; it is the same everywhere. */
  get unit(): string {
    const { interpolations, arithmetic, grids } = this.content;
    const known = [...interpolations, ...arithmetic, ...grids].find((each) => each.outputs);
    return known?.outputs?.unit ?? "value";
  }

  labelText(label: Label, condition: number): string {
    if (label.kind === "text") return label.texts[condition] ?? "";
    if (label.kind === "category") return label.levels[label.codes[condition] ?? -1] ?? "–";
    const value = label.values[condition];
    return value === null || value === undefined ? "–" : String(+value.toPrecision(6));
  }

  thumbnail(condition: number): { url: string; alt: string } | null {
    const thumbnails = this.content.thumbnails;
    const code = thumbnails?.codes[condition] ?? -1;
    const url = thumbnails?.images[code];
    return url ? { url, alt: thumbnails?.alts[code] ?? thumbnails?.name ?? "" } : null;
  }

  /** Whether both networks are seen through the same conditions. */
  sharesConditions(other: Network): boolean {
    const mine = this.textLabel?.texts;
    const theirs = other.textLabel?.texts;
    return (
      this.count === other.count &&
      (!mine || !theirs || mine.every((text, index) => text === theirs[index]))
    );
  }
}

function decode(base64: string): Float32Array {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return new Float32Array(bytes.buffer);
}

export const FORMAT = 1;

export function readPage(): PageData {
  const text = document.getElementById("data")?.textContent ?? "";
  const data = JSON.parse(text) as PageData;
  const wrong = data.bundles.find((bundle) => bundle.content.format !== FORMAT);
  if (wrong) {
    throw new Error(
      `the data has format ${wrong.content.format}, the page reads format ${FORMAT}; ` +
        "write the file again with the same version of featurewise",
    );
  }
  if (data.bundles.length === 0) throw new Error("the data holds no network");
  return data;
}
