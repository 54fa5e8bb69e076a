// Training curves, parameters over training, and statistics of each site.

import { type ChartContent, chart } from "../charts.ts";
import { groupStyle } from "../coloring.ts";
import type { Context, MountedView, View } from "../context.ts";
import { button, card, menu } from "../controls.ts";
import { type Child, html, keepingFocus, replace } from "../dom.ts";
import { csv, fileName, provenance, saveChart, saveText } from "../download.ts";
import { swatch } from "../legend.ts";
import { type Network, type SiteParameter, symbol } from "../network.ts";
import {
  extent,
  format,
  grouped,
  padded,
  percent,
  plainNumber,
  quantile,
  type Range,
} from "../numbers.ts";
import { readableChart } from "../readout.ts";
import type { Curve, History } from "../schema.ts";
import { type Key, whole } from "../state.ts";
import { colors, HUES } from "../theme.ts";

const BINS = 40;
const QUARTERS = ["0–45°", "45–90°", "90–135°", "135–180°"];

export const trainingView: View = {
  id: "training",
  title: "Training and sites",
  isAvailable: ({ sites, content }) =>
    sites.length + content.curves.length + content.histories.length + content.parameters.length > 0,
  mount: (host, context) => new TrainingView(host, context),
};

class TrainingView implements MountedView {
  private readonly controls = html("div", { class: "bar controls" });
  private readonly body = html("div", { class: "figures" });

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    host.append(this.controls, this.body);
    this.update(new Set(["compare"]));
  }

  update(changed: Set<Key>): void {
    if (!changed.has("compare") && !changed.has("selected")) return;
    const { networks, network, state, store } = this.context;
    const chosen =
      state.compare === "" ? undefined : networks[whole(state.compare, networks.length)];
    const other = chosen && chosen !== network ? chosen : null;
    keepingFocus(() => {
      if (networks.length > 1) {
        const options = networks
          .map((each, index) => ({ value: String(index), text: each.content.model.name }))
          .filter((_, index) => networks[index] !== network);
        replace(
          this.controls,
          menu(
            "compare",
            "Compare with",
            [{ value: "", text: "–" }, ...options],
            state.compare,
            (compare) => store.set({ compare }),
          ),
        );
      }
      const shown = other ? [network, other] : [network];
      const axes = new SharedAxes(shown);
      this.body.classList.toggle("two", other !== null);
      const columns = shown.map((each, index) => this.column(each, index, axes, other !== null));
      replace(this.body, ...columns);
    });
  }

  private column(network: Network, index: number, axes: SharedAxes, titled: boolean): HTMLElement {
    const { context } = this;
    const shared = network === context.network || network.sharesConditions(context.network);
    const selected = shared ? context.selected : null;
    return html(
      "div",
      {},
      titled && html("h3", {}, network.content.model.name),
      curvesCard(network, index, axes),
      historiesCard(network, axes),
      histogramsCard(network, axes, selected),
      statisticsCard(network, index),
      axesCard(network),
    );
  }
}

/** Ranges of axes, the same in all networks that are shown. */
class SharedAxes {
  private readonly centers = new Map<string, Range>();
  private readonly parameters = new Map<string, Range>();
  /** Highest bar of the histograms of all networks; null where each has its own. */
  readonly highest: number | null = null;

  constructor(private readonly networks: Network[]) {
    for (const { sites } of networks) {
      for (const { name, values } of sites.flatMap((site) => site.parameters)) {
        this.centers.set(name, joined(this.centers.get(name), centralRange(values)));
      }
    }
    const histories = networks.flatMap((network) =>
      network.content.histories.map((each) => ({ network, ...each })),
    );
    for (const { network, parameter, array } of histories) {
      const found = extent(network.array(array));
      this.parameters.set(parameter, joined(this.parameters.get(parameter), found));
    }
    if (networks.length > 1) {
      const heights = networks.flatMap(({ sites }) =>
        sites.flatMap((site) =>
          site.parameters.map(({ name, values }) =>
            Math.max(...binned(values, this.center(name)).heights),
          ),
        ),
      );
      this.highest = Math.max(...heights, 0);
    }
  }

  /** Of nearly all values of a parameter. */
  center(parameter: string): Range {
    return this.centers.get(parameter) ?? { low: 0, high: 1 };
  }

  /** Of the histories of a parameter. */
  history(parameter: string): Range {
    return padded(this.parameters.get(parameter) ?? { low: 0, high: 1 });
  }

  /** Of the steps of curves and histories; where one network is shown, each has its own. */
  get steps(): { range?: Range } {
    if (this.networks.length < 2) return {};
    const all = this.networks.flatMap(({ content: { curves, histories } }) =>
      [...curves, ...histories].flatMap((each) => each.steps),
    );
    return { range: extent(all) };
  }

  /** Of the values of curves with a unit. */
  curve(unit: string): { range?: Range } {
    if (this.networks.length < 2) return {};
    const all = this.networks.flatMap(({ content }) =>
      content.curves.filter((curve) => curve.unit === unit).flatMap((curve) => curve.values),
    );
    return { range: padded(extent(all)) };
  }
}

function joined(one: Range | undefined, other: Range): Range {
  if (!one) return other;
  return { low: Math.min(one.low, other.low), high: Math.max(one.high, other.high) };
}

function figure(content: ChartContent, caption: Child[]): HTMLElement {
  return html("figure", {}, chart(content), html("figcaption", {}, ...caption));
}

function curvesCard(network: Network, index: number, axes: SharedAxes): HTMLElement | null {
  const { curves } = network.content;
  if (curves.length === 0) return null;
  const units = [...new Set(curves.map((curve) => curve.unit))];
  const figures = units.flatMap((unit) => {
    const all = curves.filter((curve) => curve.unit === unit);
    const parts: Curve[][] = [];
    for (let i = 0; i < all.length; i += HUES) parts.push(all.slice(i, i + HUES));
    return parts.map((part, number) =>
      curveFigure(network, part, unit, axes, `${index}-${unit}-${number}`),
    );
  });
  return card(
    "Training curves",
    html("div", { class: "charts large-charts" }, ...figures),
    html("p", { class: "provenance" }, provenance(network)),
  );
}

function curveFigure(
  network: Network,
  curves: Curve[],
  unit: string,
  axes: SharedAxes,
  key: string,
): HTMLElement {
  const names = curves.map((curve) => curve.name).join(", ");
  const lines = curves.map((curve, index) => ({
    ...groupStyle(index),
    name: curve.name,
    x: curve.steps,
    y: curve.values,
  }));
  const { svg: plot, element } = readableChart(
    {
      label: `${names} over training steps; the table below has the numbers`,
      width: 460,
      height: 270,
      x: { label: "training step", ...axes.steps },
      y: { label: unit || "value", ...axes.curve(unit) },
      lines,
    },
    lines,
  );
  const entries = curves.map(({ name }, index) => ({
    name,
    style: groupStyle(index),
    count: null,
  }));
  const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
  const at = (curve: Curve, step: number) => curve.values[curve.steps.indexOf(step)];
  const rows = () => steps.map((step) => [step, ...curves.map((curve) => at(curve, step) ?? "")]);
  const heads = ["step", ...curves.map((curve) => (unit ? `${curve.name} (${unit})` : curve.name))];
  return html(
    "figure",
    {},
    element,
    html(
      "ul",
      { class: "chart-legend" },
      ...curves.map((curve, index) => html("li", {}, swatch(groupStyle(index)), curve.name)),
    ),
    html(
      "div",
      { class: "bar" },
      button(`curve-png-${key}`, "PNG", () => saveChart(plot, entries, network, names, true), {
        "aria-label": `Save ${names} as PNG`,
      }),
      button(`curve-svg-${key}`, "SVG", () => saveChart(plot, entries, network, names, false), {
        "aria-label": `Save ${names} as SVG`,
      }),
      button(
        `curve-csv-${key}`,
        "CSV",
        () => saveText(fileName(network, names, "csv"), csv([heads, ...rows()]), "text/csv"),
        { "aria-label": `Save ${names} as CSV` },
      ),
    ),
    numbersTable(heads, rows, names),
  );
}

const MOST_ROWS = 200;

/** A table that is made when it is opened. */
function numbersTable(
  heads: string[],
  rows: () => (number | string)[][],
  names: string,
): HTMLElement {
  const details = html("details", {}, html("summary", {}, `Numbers of ${names}`));
  details.addEventListener(
    "toggle",
    () => {
      const all = rows();
      const step = Math.ceil(all.length / MOST_ROWS);
      const shown = all.filter((_, index) => index % step === 0);
      details.append(
        html("p", { class: "soft" }, `${grouped(shown.length)} of ${grouped(all.length)} rows`),
        plainTable(
          `Numbers of ${names}`,
          heads,
          shown.map((row) => row.map((each) => (typeof each === "number" ? format(each) : each))),
        ),
      );
    },
    { once: true },
  );
  return details;
}

function plainTable(name: string, heads: string[], rows: Child[][]): HTMLElement {
  const numeric = (index: number) =>
    rows.every((row) => /^[\d−<–]/.test(String(row[index] ?? "–")));
  const side = (index: number) => (index > 0 && numeric(index) ? "n" : "");
  return html(
    "div",
    { class: "wide", tabindex: 0, role: "region", "aria-label": name },
    html(
      "table",
      {},
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          ...heads.map((text, i) => html("th", { scope: "col", class: side(i) }, text)),
        ),
      ),
      html(
        "tbody",
        {},
        ...rows.map((row) =>
          html(
            "tr",
            {},
            ...row.map((each, i) =>
              i === 0 ? html("th", { scope: "row" }, each) : html("td", { class: side(i) }, each),
            ),
          ),
        ),
      ),
    ),
  );
}

function historiesCard(network: Network, axes: SharedAxes): HTMLElement | null {
  const { histories } = network.content;
  if (histories.length === 0) return null;
  return card(
    "Parameters over training",
    html(
      "div",
      { class: "charts" },
      ...histories.map((history) => historyFigure(network, history, axes)),
    ),
    html(
      "p",
      {},
      `The line is the median over conditions and features; the areas hold the values between the quantiles ${histories[0]!.levels
        .map(plainNumber)
        .join(", ")}. Dashed: the value of a network that was not trained.`,
    ),
    html("p", { class: "provenance" }, provenance(network)),
  );
}

function historyFigure(network: Network, history: History, axes: SharedAxes): HTMLElement {
  const { levels, steps } = history;
  const values = network.array(history.array);
  const column = (index: number) => steps.map((_, step) => values[step * levels.length + index]!);
  const color = colors().hues[0]!;
  const pairs = Math.floor(levels.length / 2);
  const areas = Array.from({ length: pairs }, (_, index) => ({
    color,
    opacity: 0.22,
    x: steps,
    low: column(index),
    high: column(levels.length - 1 - index),
  }));
  const middle = levels.length % 2 ? [{ color, x: steps, y: column(pairs) }] : [];
  const name = symbol(history.parameter);
  const { element } = readableChart(
    {
      label: `quantiles of ${name} of ${history.site} over training`,
      width: 320,
      height: 210,
      x: { label: "training step", range: axes.steps.range ?? extent(steps) },
      y: {
        label: name,
        range: axes.history(history.parameter),
        origin: originOf(network, history),
      },
      areas,
      lines: middle,
    },
    levels.map((level, index) => ({
      name: level === 0.5 ? "median" : `${plainNumber(100 * level)} %`,
      color,
      x: steps,
      y: column(index),
    })),
    html("p", { class: "caption" }, `${history.site}: ${name}`),
  );
  return html("figure", {}, element);
}

function originOf(network: Network, history: History): number | null {
  const site = network.sites.find((each) => each.name === history.site);
  return site?.parameters.find((each) => each.name === history.parameter)?.origin ?? null;
}

function histogramsCard(
  network: Network,
  axes: SharedAxes,
  selected: Uint8Array | null,
): HTMLElement | null {
  if (network.sites.length === 0) return null;
  return card(
    "Histograms",
    html(
      "div",
      { class: "charts" },
      ...network.sites.flatMap((site) =>
        site.parameters.map((each) =>
          histogramFigure(site.name, each, site.features, axes, selected),
        ),
      ),
    ),
    html(
      "p",
      {},
      "Values over all conditions and features of the page. Dashed: the value of a network that was not trained. " +
        "Values beyond the axis are counted in the first or the last bar." +
        (selected ? " The line is that of the selected conditions." : ""),
    ),
    html("p", { class: "provenance" }, provenance(network)),
  );
}

/** The range of nearly all values, so that a few do not squeeze the others. */
function centralRange(values: Float32Array): Range {
  const step = Math.max(1, Math.floor(values.length / 20_000));
  const sample = values
    .filter((value, index) => index % step === 0 && Number.isFinite(value))
    .sort();
  if (sample.length === 0) return { low: 0, high: 1 };
  return padded({ low: quantile(sample, 0.002), high: quantile(sample, 0.998) });
}

/** Share of the values in each bin, in percent; ``chosen`` leaves values out. */
function binned(
  values: Float32Array,
  range: Range,
  chosen: (index: number) => boolean = () => true,
) {
  const width = (range.high - range.low) / BINS;
  const counts = new Float64Array(BINS);
  let [count, negative] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value) || !chosen(i)) continue;
    counts[Math.min(BINS - 1, Math.max(0, Math.floor((value - range.low) / width)))]!++;
    count++;
    if (value < 0) negative++;
  }
  const heights = counts.map((each) => (100 * each) / (count || 1));
  return { heights, count, negative: negative / (count || 1) };
}

function histogramFigure(
  site: string,
  parameter: SiteParameter,
  features: number,
  axes: SharedAxes,
  selected: Uint8Array | null,
): HTMLElement {
  const range = axes.center(parameter.name);
  const width = (range.high - range.low) / BINS;
  const { heights, negative } = binned(parameter.values, range);
  const chosen = selected
    ? binned(parameter.values, range, (index) => selected[Math.floor(index / features)] === 1)
    : null;
  const edges = Array.from({ length: BINS + 1 }, (_, index) => range.low + index * width);
  const centers = edges.slice(0, -1).map((edge) => edge + width / 2);
  const line = chosen && chosen.count > 0 ? chosen.heights : null;
  const highest = Math.max(...heights, ...(line ?? []), axes.highest ?? 0);
  return figure(
    {
      label: `histogram of ${parameter.symbol} of ${site}, ${percent(negative)} negative`,
      width: 320,
      height: 200,
      x: { label: parameter.symbol, range, origin: parameter.origin },
      y: { label: "% of values", range: { low: 0, high: highest * 1.06 } },
      bars: { color: colors().hues[0]!, edges, heights },
      lines: line ? [{ color: colors().ink, x: centers, y: line }] : [],
    },
    [`${site}: ${parameter.symbol}, ${percent(negative)} negative`],
  );
}

function statisticsCard(network: Network, index: number): HTMLElement | null {
  const { parameters } = network.content;
  if (parameters.length === 0) return null;
  const heads = ["site", "parameter", "explained by feature", "negative", "least", "greatest"];
  const rows = parameters.map((each) => [
    each.site,
    symbol(each.parameter),
    percent(each.explained),
    percent(each.negative),
    format(each.minimum),
    format(each.maximum),
  ]);
  return card(
    "Statistics",
    plainTable(`Statistics, ${network.content.model.name}`, heads, rows),
    html(
      "p",
      {},
      "Explained by feature: share of the variance of a parameter that is explained by which feature it belongs to. " +
        "The rest is what the condition changes.",
    ),
    button(`statistics-csv-${index}`, "Save CSV", () =>
      saveText(fileName(network, "statistics", "csv"), csv([heads, ...rows]), "text/csv"),
    ),
  );
}

function axesCard(network: Network): HTMLElement | null {
  const { axes } = network.content;
  if (axes.length === 0) return null;
  const rows = axes.map(({ site, quarters }) => {
    const bar = html("span", { class: "quarters" });
    quarters.forEach((share, index) => {
      const part = html("span");
      part.style.width = `${100 * share}%`;
      part.style.background = colors().hues[index]!;
      bar.append(part);
    });
    return [site, bar, ...quarters.map(percent)];
  });
  return card(
    "Main axes of the scatters of γ and β",
    html(
      "ul",
      { class: "chart-legend" },
      ...QUARTERS.map((name, index) =>
        html("li", {}, swatch({ color: colors().hues[index]!, shape: "square" }), name),
      ),
    ),
    plainTable(`Main axes, ${network.content.model.name}`, ["site", "shares", ...QUARTERS], rows),
    html(
      "p",
      {},
      "In each feature the dots of all conditions have a main axis, the direction in which they vary most. The table " +
        "gives the share of features by the angle of that axis to the γ axis.",
    ),
  );
}
