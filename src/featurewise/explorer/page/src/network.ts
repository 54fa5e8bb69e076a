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
  private readonly arrays: Map<string, Float32Array>;

  private constructor(bundle: PageBundle, arrays: Map<string, Float32Array>) {
    this.content = bundle.content;
    this.arrays = arrays;
    this.count = bundle.content.conditions.shown;
    this.sites = bundle.content.sites.map((site) => this.site(site));
  }

  static async read(bundle: PageBundle): Promise<Network> {
    const named = Object.entries(bundle.arrays).map(
      async ([name, packed]) => [name, await unpack(packed)] as const,
    );
    return new Network(bundle, new Map(await Promise.all(named)));
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
    const values = this.arrays.get(name);
    if (!values) throw new Error(`the page's data has no array "${name}"`);
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

async function unpack(packed: PackedArray): Promise<Float32Array> {
  const compressed = Uint8Array.from(atob(packed.data), (character) => character.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 4;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < 4; plane++) {
    for (let i = 0; i < count; i++) bytes[4 * i + plane] = planes[plane * count + i]!;
  }
  return new Float32Array(bytes.buffer);
}

export const FORMAT = 2;

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
