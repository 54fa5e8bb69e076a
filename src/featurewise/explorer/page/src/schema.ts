/* Generated from schema.json by npm run types. */

export interface PageData {
  bundles: PageBundle[];
  server: string | null;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "PageBundle".
 */
export interface PageBundle {
  arrays: {
    [k: string]: PackedArray;
  };
  content: Content;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "PackedArray".
 */
export interface PackedArray {
  data: string;
  shape: number[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Content".
 */
export interface Content {
  arithmetic: Arithmetic[];
  axes: AxesStatistics[];
  conditions: Count;
  curves: Curve[];
  data: string;
  format: number;
  grids: Grid[];
  histories: History[];
  interpolations: Interpolation[];
  labels: (CategoryLabel | NumberLabel | TextLabel)[];
  model: Model;
  parameters: ParameterStatistics[];
  projections: Projection[];
  seed: number;
  separations: Separation[];
  sites: SiteValues[];
  thumbnails: Thumbnails | null;
  title: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Arithmetic".
 */
export interface Arithmetic {
  a: number;
  b: number;
  c: number;
  distances: number[];
  expected: string;
  images: string[];
  nearest: number[];
  outputs: Outputs | null;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Outputs".
 */
export interface Outputs {
  array: string;
  names: string[];
  unit: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "AxesStatistics".
 */
export interface AxesStatistics {
  quarters: number[];
  site: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Count".
 */
export interface Count {
  shown: number;
  total: number;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Curve".
 */
export interface Curve {
  name: string;
  steps: number[];
  unit: string;
  values: number[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Grid".
 */
export interface Grid {
  across: string;
  columns: number[];
  condition: number;
  feature: number;
  images: string[];
  outputs: Outputs | null;
  rows: number[];
  site: string;
  up: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "History".
 */
export interface History {
  array: string;
  levels: number[];
  parameter: string;
  site: string;
  steps: number[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Interpolation".
 */
export interface Interpolation {
  end: number;
  images: string[];
  nearest: number[];
  outputs: Outputs | null;
  start: number;
  weights: number[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "CategoryLabel".
 */
export interface CategoryLabel {
  codes: number[];
  kind: "category";
  levels: string[];
  name: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "NumberLabel".
 */
export interface NumberLabel {
  kind: "number";
  name: string;
  values: (number | null)[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "TextLabel".
 */
export interface TextLabel {
  kind: "text";
  name: string;
  texts: string[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Model".
 */
export interface Model {
  digest: string;
  name: string;
  version: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "ParameterStatistics".
 */
export interface ParameterStatistics {
  explained: number;
  maximum: number;
  minimum: number;
  negative: number;
  parameter: string;
  site: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Projection".
 */
export interface Projection {
  array: string;
  explained: number[];
  name: string;
  of: string;
  purity: Purity[];
  seed: number | null;
  settings: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Purity".
 */
export interface Purity {
  label: string;
  neighbours: number;
  random: number;
  share: number;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Separation".
 */
export interface Separation {
  auc: number;
  conditions: number[];
  corrected: number;
  feature: number;
  label: string;
  level: string;
  other: string;
  parameter: string;
  probability: number;
  site: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "SiteValues".
 */
export interface SiteValues {
  effects: Effect[];
  features: Count;
  name: string;
  numbers: number[];
  operation: string;
  parameters: Parameter[];
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Effect".
 */
export interface Effect {
  array: string;
  definition: string;
  name: string;
  unit: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Parameter".
 */
export interface Parameter {
  array: string;
  name: string;
  origin: number | null;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Thumbnails".
 */
export interface Thumbnails {
  alts: string[];
  codes: number[];
  images: string[];
  name: string;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "FeatureEdit".
 */
export interface FeatureEdit {
  feature: number;
  parameter: string;
  site: string;
  value: number;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Neighbour".
 */
export interface Neighbour {
  condition: number;
  distance: number;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Output".
 */
export interface Output {
  name: string;
  value: number;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Reply".
 */
export interface Reply {
  images: string[];
  nearest: Neighbour[];
  outputs: Output[];
  values: {
    [k: string]: {
      [k: string]: number[];
    };
  };
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Request".
 */
export interface Request {
  condition: number;
  edits: FeatureEdit[];
  terms: Term[];
  text: string | null;
}
/**
 * This interface was referenced by `PageData`'s JSON-Schema
 * via the `definition` "Term".
 */
export interface Term {
  condition: number;
  weight: number;
}
