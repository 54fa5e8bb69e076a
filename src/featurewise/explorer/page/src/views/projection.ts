// Every condition as a point in the plane: near points have similar parameters.

import { colorControls } from "../color_controls.ts";
import { colorBy, lowest } from "../coloring.ts";
import type { Context, MountedView, View } from "../context.ts";
import { card, menu } from "../controls.ts";
import { html, keepingFocus, replace } from "../dom.ts";
import { legendOf } from "../legend.ts";
import { format, grouped, percent, plural } from "../numbers.ts";
import { insideRegion } from "../scatter.ts";
import { type FigureContent, ScatterFigure } from "../scatter_figure.ts";
import type { Projection } from "../schema.ts";
import { decodeList, type Key, whole } from "../state.ts";
import { type Column, DataTable } from "../table.ts";

export const projectionView: View = {
  id: "projection",
  title: "Projection",
  isAvailable: (network) => network.content.projections.length > 0,
  mount: (host, context) => new ProjectionView(host, context),
};

class ProjectionView implements MountedView {
  private readonly controls = html("div", { class: "bar controls" });
  private readonly settings = html("div", {});
  private readonly figure: ScatterFigure;
  private readonly table: DataTable;
  private content: FigureContent | null = null;

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    this.figure = new ScatterFigure(context, "projection", "pan", true, {
      pick: (point, additive) => context.toggle(point, additive),
      brush: (corners, additive) => {
        this.table.showSelected(true);
        context.select(insideRegion(this.content!.points, corners), additive);
      },
    });
    this.table = new DataTable(context, "projection");
    host.append(this.controls, this.figure.element, this.settings, this.table.element);
    this.renew();
  }

  update(changed: Set<Key>): void {
    if ([...changed].every((key) => key === "zoom")) return;
    if ([...changed].every((key) => key === "selected" || key === "brush") && this.content) {
      this.content.selected = this.context.selected;
      this.figure.select(this.content);
      this.showTable();
    } else {
      this.renew();
    }
  }

  resize(): void {
    this.figure.resize();
  }

  reset(): void {
    this.figure.reset();
  }

  private get projection(): Projection {
    const { network, state } = this.context;
    const { projections } = network.content;
    return projections[whole(state.projection, projections.length)]!;
  }

  private renew(): void {
    const { context } = this;
    const { network, state, store } = context;
    const { projections } = network.content;
    keepingFocus(() => {
      replace(
        this.controls,
        menu(
          "projection",
          "Projection",
          projections.map((each, index) => ({
            value: String(index),
            text: `${each.name} of ${each.of}`,
          })),
          String(projections.indexOf(this.projection)),
          (projection) => store.set({ projection, zoom: "" }),
        ),
        ...colorControls(context),
      );
      replace(this.settings, settingsCard(this.projection));
    });
    const coloring = colorBy(network, state);
    const only = decodeList(state.only);
    const { projection } = this;
    const values = network.array(projection.array);
    const axis = (index: number) => ({
      label:
        projection.explained[index] === undefined
          ? `${projection.name} ${index + 1}`
          : `axis ${index + 1}, ${percent(projection.explained[index]!)} of the variance`,
    });
    this.content = {
      network,
      title: `${projection.name} of ${projection.of}`,
      points: {
        x: Float32Array.from({ length: network.count }, (_, i) => values[2 * i]!),
        y: Float32Array.from({ length: network.count }, (_, i) => values[2 * i + 1]!),
        codes: coloring.codes,
        lowest: lowest(coloring),
        styles: coloring.styles,
        visible:
          only.length > 0
            ? Uint8Array.from(coloring.codes, (code) => (only.includes(code) ? 1 : 0))
            : null,
        across: axis(0),
        up: axis(1),
        ellipses: [],
        extras: [],
        label: `${projection.name} of ${projection.of}, one dot for each condition. Arrow keys go from dot to dot.`,
      },
      selected: context.selected,
      legend: legendOf(coloring, only),
      condition: (point) => point,
      facts: (point) => [
        { name: axis(0).label.split(",")[0]!, value: format(values[2 * point]!) },
        { name: axis(1).label.split(",")[0]!, value: format(values[2 * point + 1]!) },
      ],
      counts: `${grouped(network.count)} of ${plural(network.content.conditions.total, "condition")}`,
      explanation: [
        "A dot is one condition. Dots are near to each other where the conditions give the network " +
          `similar parameters (${projection.of}). ` +
          (projection.explained.length > 0
            ? "The axes are the directions of largest variance."
            : "Only near distances mean something: the size of a group and the gap between groups do not."),
      ],
    };
    this.figure.show(this.content);
    this.showTable();
  }

  private showTable(): void {
    const { network, context } = { network: this.context.network, context: this.context };
    const values = network.array(this.projection.array);
    const columns: Column[] = network.labels.map((label) => ({
      title: label.name,
      text: (row) => network.labelText(label, row),
      ...(label.kind === "number"
        ? { value: (row: number) => label.values[row] ?? Number.NaN }
        : {}),
    }));
    for (const index of [0, 1]) {
      const value = (row: number) => values[2 * row + index]!;
      columns.push({ title: `axis ${index + 1}`, text: (row) => format(value(row)), value });
    }
    this.table.show({
      noun: "condition",
      count: network.count,
      visible: this.content!.points.visible,
      selected: context.selected,
      condition: (row) => row,
      columns,
    });
  }
}

function settingsCard(projection: Projection): HTMLElement {
  const seed = projection.seed === null ? "no seed needed" : `seed ${projection.seed}`;
  const parts = [projection.name, projection.settings, seed].filter(Boolean);
  const rows = projection.purity.map(({ label, neighbours, share, random }) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, label),
      html("td", { class: "n" }, neighbours),
      html("td", { class: "n" }, percent(share)),
      html("td", { class: "n" }, percent(random)),
    ),
  );
  const heads = ["label", "nearest dots", "same label", "same label, random dots"];
  return card(
    "How the dots were placed",
    html("p", {}, `${parts.join(", ")}.`),
    rows.length > 0 &&
      html(
        "p",
        { class: "soft" },
        "How often the nearest dots of a dot have the same label as it:",
      ),
    rows.length > 0 &&
      html(
        "div",
        { class: "wide", tabindex: 0, role: "region", "aria-label": "Purity" },
        html(
          "table",
          {},
          html(
            "thead",
            {},
            html(
              "tr",
              {},
              ...heads.map((text, index) =>
                html("th", { scope: "col", class: index ? "n" : "" }, text),
              ),
            ),
          ),
          html("tbody", {}, ...rows),
        ),
      ),
  );
}
