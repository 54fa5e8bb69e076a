// One feature: what the network answers for other values of its parameters, and what it is worth.

import type { Context, MountedView, View } from "../context.ts";
import { button, card, menu } from "../controls.ts";
import { type Child, html, image, keepingFocus, replace } from "../dom.ts";
import { csv, fileName, provenance, saveText } from "../download.ts";
import { answerColors, nearestCell, ownValues } from "../grids.ts";
import { LivePlane } from "../live_plane.ts";
import { type Network, type Site, symbol } from "../network.ts";
import { format, grouped, plainNumber, plural } from "../numbers.ts";
import { answersAt, conditionBlock, outputBars, track } from "../outputs.ts";
import type { Effect, Grid } from "../schema.ts";
import { type Key, whole } from "../state.ts";
import { colors } from "../theme.ts";

const FEW_EFFECTS = 20;

export const featureView: View = {
  id: "feature",
  title: "One feature",
  isAvailable: (network, server) =>
    network.content.grids.length > 0 ||
    network.sites.some((site) => site.effects.length > 0 || server !== null),
  mount: (host, context) => new FeatureView(host, context),
};

class FeatureView implements MountedView {
  private readonly plane = html("div", {});
  private readonly effects = html("div", {});
  private readonly live: LivePlane | null;
  private allEffects = false;

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    const answer = context.network.sites.length > 0 ? context.live("plane") : null;
    this.live =
      answer && new LivePlane(context, answer, (site, feature) => this.open(site, feature));
    if (this.live) this.plane.append(this.live.element);
    host.append(this.plane, this.effects);
    this.update();
  }

  update(changed?: Set<Key>): void {
    const { network } = this.context;
    keepingFocus(() => {
      if (this.live) this.live.update(changed);
      else replace(this.plane, network.content.grids.length > 0 && this.planeCard());
      if (!changed || [...changed].some((key) => key !== "cell" && key !== "at")) {
        this.paintEffects();
      }
    });
  }

  resize(): void {
    this.live?.update();
  }

  reset(): void {
    if (this.live) this.context.store.set({ at: "" });
  }

  private get grid(): Grid {
    const { network, state } = this.context;
    const { grids } = network.content;
    return grids[whole(state.grid, grids.length)]!;
  }

  private planeCard(): HTMLElement {
    const { context, grid } = this;
    const { network, store } = context;
    const { grids } = network.content;
    const own = ownValues(network, grid);
    const ownCell = own && nearestCell(grid, own);
    const count = grid.rows.length * grid.columns.length;
    const chosen = Number.parseInt(context.state.cell, 10);
    const cell = chosen >= 0 && chosen < count ? chosen : (ownCell ?? 0);
    const row = Math.floor(cell / grid.columns.length);
    const [a, b] = [symbol(grid.across), symbol(grid.up)];
    const here = `${a} = ${plainNumber(grid.columns[cell % grid.columns.length]!)}, ${b} = ${plainNumber(grid.rows[row]!)}`;
    const options = grids.map((each, index) => ({
      value: String(index),
      text: `feature ${each.feature} of ${each.site}, ${network.text(each.condition)}`,
    }));
    return card(
      "Other values of one feature",
      html(
        "div",
        { class: "bar controls" },
        menu(
          "grid",
          `Feature and condition, ${grouped(grids.length)} in this page`,
          options,
          String(grids.indexOf(grid)),
          (next) => store.set({ grid: next, cell: "" }),
        ),
      ),
      conditionBlock(context, "condition", grid.condition, "select-condition"),
      html(
        "div",
        { class: "split" },
        html("div", {}, this.table(network, grid, cell, ownCell ?? -1), this.legend(network, grid)),
        html(
          "div",
          { class: "large" },
          html("h4", { id: "here" }, here),
          image(grid.images[cell], `what the network generates with ${here}`),
          grid.outputs && outputBars(network, grid.outputs, cell),
          button("open-feature", `Feature ${grid.feature} in Parameters`, () =>
            this.open(grid.site, grid.feature),
          ),
        ),
      ),
      html(
        "p",
        {},
        `${a} and ${b} of this one feature are set to other values; all other parameters stay those of the condition. ` +
          (own
            ? `With the condition itself, ${a} = ${format(own[0])} and ${b} = ${format(own[1])}: the cell marked ◆ is nearest to that.`
            : "") +
          " Click a cell or drag over the cells.",
      ),
      html("p", { class: "provenance" }, provenance(network)),
    );
  }

  private table(network: Network, grid: Grid, current: number, own: number): HTMLElement {
    const [a, b] = [symbol(grid.across), symbol(grid.up)];
    const order = grid.rows.map((_, index) => index).sort((p, q) => grid.rows[q]! - grid.rows[p]!);
    const styles = answerColors(network, grid);
    const body = order.map((row) =>
      html(
        "tr",
        {},
        html("th", { scope: "row" }, plainNumber(grid.rows[row]!)),
        ...grid.columns.map((_, column) => {
          const cell = row * grid.columns.length + column;
          return html(
            "td",
            {},
            this.tile(network, grid, cell, cell === current, cell === own, styles),
          );
        }),
      ),
    );
    const table = html(
      "table",
      { class: "plane" },
      html("caption", { class: "hidden" }, `Answers for values of ${a} (columns) and ${b} (rows)`),
      html("colgroup", {}, html("col"), ...grid.columns.map(() => html("col"))),
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          html("th", { class: "axis-name", scope: "col" }, `${b} ↑`),
          html(
            "th",
            { class: "axis-name", colspan: grid.columns.length, scope: "colgroup" },
            `${a} →`,
          ),
        ),
        html(
          "tr",
          {},
          html("td"),
          ...grid.columns.map((value) => html("th", { scope: "col" }, plainNumber(value))),
        ),
      ),
      html("tbody", {}, ...body),
    );
    const follow = (event: PointerEvent) => {
      if (!(event.buttons & 1)) return;
      const under = document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-cell]");
      const cell = under?.getAttribute("data-cell");
      if (cell) this.context.store.set({ cell }, true);
    };
    table.addEventListener("pointermove", follow);
    table.addEventListener("keydown", (event) => this.arrow(event, grid, order));
    return table;
  }

  private tile(
    network: Network,
    grid: Grid,
    cell: number,
    current: boolean,
    own: boolean,
    styles: Map<number, string>,
  ): HTMLElement {
    const best = grid.outputs && answersAt(network, grid.outputs, cell)[0];
    const shade = html("span", { class: "shade" });
    if (best) {
      shade.style.background = styles.get(best.index) ?? colors().muted;
      shade.style.opacity = String(0.08 + 0.3 * Math.min(1, Math.max(0, best.value)));
    }
    return html(
      "button",
      {
        type: "button",
        id: `cell-${cell}`,
        "data-cell": cell,
        "aria-pressed": String(current),
        onclick: () => this.context.store.set({ cell: String(cell) }, true),
      },
      best && shade,
      html(
        "span",
        { class: "tile" },
        own &&
          html(
            "span",
            { class: "own" },
            "◆",
            html("span", { class: "hidden" }, "nearest to the condition's own values"),
          ),
        best && html("span", { class: "answer" }, best.name),
        best && html("span", {}, best.value.toFixed(2)),
        image(grid.images[cell], `cell ${cell + 1}`, 64),
      ),
    );
  }

  private arrow(event: KeyboardEvent, grid: Grid, order: number[]): void {
    const moves: Record<string, [number, number]> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const move = moves[event.key];
    const from = Number((event.target as Element).getAttribute("data-cell") ?? Number.NaN);
    if (!move || Number.isNaN(from)) return;
    event.preventDefault();
    const columns = grid.columns.length;
    const column = Math.min(columns - 1, Math.max(0, (from % columns) + move[0]));
    const place = order.indexOf(Math.floor(from / columns)) + move[1];
    const row = order[Math.min(order.length - 1, Math.max(0, place))]!;
    const cell = row * columns + column;
    document.getElementById(`cell-${cell}`)?.focus();
    this.context.store.set({ cell: String(cell) }, true);
    this.context.announce(document.getElementById("here")?.textContent ?? "");
  }

  private legend(network: Network, grid: Grid): Child {
    if (!grid.outputs) return null;
    const names = grid.outputs.names;
    return html(
      "ul",
      { class: "chart-legend" },
      ...[...answerColors(network, grid)].map(([answer, color]) => {
        const box = html("span", { class: "box" });
        box.style.background = color;
        return html("li", {}, box, names[answer]!);
      }),
    );
  }

  private open(site: string, feature: number): void {
    this.context.store.set({
      view: "parameters",
      mode: "one",
      site,
      feature: String(feature),
      zoom: "",
      brush: "",
      only: "",
    });
    scrollTo({ top: 0 });
  }

  private paintEffects(): void {
    const { network, state, store } = this.context;
    const all = network.sites.flatMap((site) => site.effects.map((effect) => ({ site, effect })));
    if (all.length === 0) {
      replace(this.effects);
      return;
    }
    const index = whole(state.effect, all.length);
    const { site, effect } = all[index]!;
    const options = all.map((each, position) => ({
      value: String(position),
      text: `${each.site.name}: ${each.effect.name}`,
    }));
    replace(
      this.effects,
      card(
        "What each feature is worth",
        html(
          "div",
          { class: "bar controls" },
          menu("effect", "Measure", options, String(index), (next) => store.set({ effect: next })),
          button("effects-csv", "Save CSV", () => saveEffects(network, site, effect)),
        ),
        html("p", {}, effect.definition),
        this.effectBars(network, site, effect),
        html("p", { class: "provenance" }, provenance(network)),
      ),
    );
  }

  private effectBars(network: Network, site: Site, effect: Effect): HTMLElement {
    const sorted = sortedEffects(network, site, effect);
    const shown = this.allEffects ? sorted : sorted.slice(0, FEW_EFFECTS);
    const largest = Math.max(...sorted.map((each) => Math.abs(each.value)), 1e-9);
    return html(
      "div",
      {},
      html(
        "div",
        { class: "bars effects" },
        ...shown.flatMap(({ number, value }) => [
          html(
            "button",
            {
              type: "button",
              id: `effect-${number}`,
              "aria-label": `Feature ${number} in Parameters`,
              onclick: () => this.open(site.name, number),
            },
            `feature ${number}`,
          ),
          track(Math.abs(value) / largest, value < 0),
          html("span", { class: "value" }, `${format(value)} ${effect.unit}`),
        ]),
      ),
      html(
        "div",
        { class: "bar" },
        html(
          "span",
          { class: "soft" },
          `${grouped(shown.length)} of ${plural(sorted.length, "feature")} of ${site.name}, largest first`,
        ),
        sorted.length > FEW_EFFECTS &&
          button(
            "all-effects",
            this.allEffects ? `Show ${FEW_EFFECTS} only` : "Show all",
            () => {
              this.allEffects = !this.allEffects;
              keepingFocus(() => this.paintEffects());
            },
            { class: "quiet" },
          ),
      ),
    );
  }
}

function sortedEffects(network: Network, site: Site, effect: Effect) {
  const values = network.array(effect.array);
  return site.numbers
    .map((number, slot) => ({ number, value: values[slot]! }))
    .sort((a, b) => b.value - a.value);
}

function saveEffects(network: Network, site: Site, effect: Effect): void {
  const rows = sortedEffects(network, site, effect).map(({ number, value }) => [number, value]);
  const text = csv([["feature", `${effect.name} (${effect.unit})`], ...rows]);
  saveText(fileName(network, `effects ${site.name}`, "csv"), text, "text/csv");
}
