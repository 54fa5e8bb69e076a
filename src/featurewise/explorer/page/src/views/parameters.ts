// Two parameters of a site against each other: of many features, or of one.

import { colorControls } from "../color_controls.ts";
import { colorBy } from "../coloring.ts";
import type { Context, MountedView, View } from "../context.ts";
import { button, card, choices, menu } from "../controls.ts";
import { type Child, html, keepingFocus, replace } from "../dom.ts";
import { provenance } from "../download.ts";
import { axesOf, shownSlots, siteOf, slotOf, USUAL_FEATURES } from "../features.ts";
import { Findings } from "../findings.ts";
import { legendElement, legendOf } from "../legend.ts";
import type { Network, Site } from "../network.ts";
import { grouped, plural } from "../numbers.ts";
import {
  conditionsInside,
  figureContent,
  modeOf,
  pointsOf,
  sameFeatures,
  tableContent,
} from "../parameter_figures.ts";
import { type Marked, markedOf, questionAnswer, questionText } from "../question.ts";
import { insideRegion, type Points, sameAxes } from "../scatter.ts";
import { type FigureContent, ScatterFigure } from "../scatter_figure.ts";
import { axesText, smallMultiples } from "../small_multiples.ts";
import { decodeList, type Key, whole } from "../state.ts";
import { DataTable } from "../table.ts";

export const parametersView: View = {
  id: "parameters",
  title: "Parameters",
  isAvailable: (network) => network.sites.length > 0,
  mount: (host, context) => new ParametersView(host, context),
};

class ParametersView implements MountedView {
  private readonly controls = html("div", { class: "bar controls" });
  private readonly figures = html("div", { class: "figures" });
  private readonly findings: Findings;
  private readonly figure: ScatterFigure;
  private readonly other: ScatterFigure;
  private readonly table: DataTable;
  private content: FigureContent | null = null;
  private marked: Marked | null = null;
  private secondContent: FigureContent | null = null;

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    this.figure = new ScatterFigure(context, "parameters", "lasso", true, {
      pick: (point, additive) => context.toggle(this.content!.condition(point), additive),
      brush: (corners, additive) => this.brush(corners, additive),
    });
    this.other = new ScatterFigure(context, "parameters", "lasso", false, {
      pick: (point, additive) => this.pickOther(point, additive),
      brush: (corners, additive) => this.brushOther(corners, additive),
    });
    this.findings = new Findings(context);
    this.table = new DataTable(context, "parameters");
    host.append(this.controls, this.figures, this.findings.element, this.table.element);
    this.renew();
  }

  update(changed: Set<Key>): void {
    if ([...changed].every((key) => key === "zoom")) return;
    const selectionOnly = [...changed].every((key) => key === "selected" || key === "brush");
    if (selectionOnly && this.content && this.figure.element.isConnected && !this.otherNetwork()) {
      this.content.selected = this.selectedPoints(this.content.points);
      this.figure.select(this.content);
      this.showTable();
    } else {
      this.renew();
    }
  }

  resize(): void {
    for (const figure of [this.figure, this.other]) {
      if (figure.element.isConnected) figure.resize();
    }
  }

  reset(): void {
    this.figure.reset();
  }

  step(by: number): void {
    const { network, state, store } = this.context;
    const site = siteOf(network, state)!;
    const slot = slotOf(network, site, state) + (state.mode === "one" ? by : 0);
    const next = site.numbers[(slot + site.features) % site.features]!;
    store.set({ mode: "one", feature: String(next), zoom: "", brush: "", only: "" });
    this.context.announce(`feature ${next}`);
  }

  /** The new condition, if it is to be shown; where it must be computed first, it comes later. */
  private markedNow(): Marked | null {
    if (this.context.state.marked === "") return null;
    const answer = questionAnswer(this.context);
    if (answer) {
      answer.changed = () => {
        if (this.controls.isConnected) this.renew();
      };
    }
    return markedOf(this.context);
  }

  private markedControl(): Child {
    const { context } = this;
    if (context.state.marked === "" || context.state.question === "") return null;
    const answer = context.live("ask");
    if (!answer) return null;
    const state = answer.problem || (answer.isCurrent ? "" : "computing …");
    return html(
      "p",
      { class: "marked", id: "marked" },
      "◆ New condition: ",
      html("strong", {}, questionText(context)),
      state ? html("span", { class: "soft" }, ` ${state}`) : null,
      button("unmark", "Remove", () => context.store.set({ marked: "" }), { class: "quiet" }),
    );
  }

  private otherNetwork(): Network | null {
    const { state, networks, network } = this.context;
    const other =
      state.compare === "" ? undefined : networks[whole(state.compare, networks.length)];
    return other && other !== network ? other : null;
  }

  private renew(): void {
    const { context } = this;
    const { network, state } = context;
    const other = this.otherNetwork();
    keepingFocus(() => {
      replace(this.controls, ...this.controlList());
      this.findings.paint();
    });
    this.marked = this.markedNow();
    this.content = figureContent(network, state, this.marked);
    this.content.selected = this.selectedPoints(this.content.points);
    this.figures.classList.toggle("two", other !== null);
    if (modeOf(state, siteOf(network, state)!) === "each") {
      const cards = [network, ...(other ? [other] : [])].map((each) =>
        this.multiplesCard(each, other !== null),
      );
      keepingFocus(() => replace(this.figures, ...cards));
    } else {
      this.showFigures(other);
    }
    this.showTable();
  }

  private showFigures(other: Network | null): void {
    const { context } = this;
    const content = this.content!;
    const wanted = other ? [this.figure.element, this.other.element] : [this.figure.element];
    const shown = [...this.figures.children];
    if (shown.length !== wanted.length || shown[0] !== wanted[0]) replace(this.figures, ...wanted);
    if (other) {
      const second = figureContent(other, sameFeatures(context.network, context.state));
      const shared = other.sharesConditions(context.network) ? context.selected : null;
      second.selected = pointsOf(second, shared);
      for (const each of [content, second])
        each.title = `${each.network.content.model.name}, ${each.title}`;
      sameAxes(content.points, second.points);
      this.secondContent = second;
      this.other.show(second);
    }
    this.figure.show(content);
  }

  private multiplesCard(network: Network, compared: boolean): HTMLElement {
    const { store, selected } = this.context;
    const state = sameFeatures(this.context.network, this.context.state);
    const site = siteOf(network, state)!;
    const slots = shownSlots(site, state.features);
    const coloring = colorBy(network, state);
    const only = decodeList(state.only);
    const axes = axesOf(site, state);
    const content = {
      site,
      slots,
      axes,
      coloring,
      only,
      selected: network.sharesConditions(this.context.network) ? selected : null,
      marked: network === this.context.network ? this.marked : null,
      open: (feature: number) =>
        store.set({ mode: "one", site: site.name, feature: String(feature), zoom: "" }),
    };
    const legend = legendElement(legendOf(coloring, only), (next) =>
      store.set({ only: next.sort((a, b) => a - b).join(".") }),
    );
    return card(
      `${compared ? `${network.content.model.name}, ` : ""}${site.name}: ${slots.length} of ${plural(site.total, "feature")}`,
      html("div", { class: "figure-body" }, smallMultiples(content), html("div", {}, legend)),
      html(
        "p",
        {},
        `A dot is one condition. ${axesText(content)} Open a feature to brush and to read values.`,
      ),
      html("p", { class: "provenance" }, provenance(network)),
    );
  }

  private selectedPoints(points: Points): Uint8Array | null {
    const { selected, state } = this.context;
    const corners = state.brush.split(",").map(Number);
    if (selected && state.mode !== "one" && corners.length >= 6 && corners.every(Number.isFinite)) {
      return insideRegion(points, corners);
    }
    return pointsOf(this.content!, selected);
  }

  private brush(corners: number[], additive: boolean): void {
    const content = this.content!;
    const members = conditionsInside(content, corners);
    const region = corners.map((each) => Number(each.toPrecision(4))).join(",");
    const many = this.context.state.mode !== "one";
    this.table.showSelected(true);
    this.context.select(members, additive, many && !additive && members.includes(1) ? region : "");
  }

  private pickOther(point: number, additive: boolean): void {
    const second = this.secondContent!;
    if (!second.network.sharesConditions(this.context.network)) return;
    this.context.toggle(second.condition(point), additive);
  }

  private brushOther(corners: number[], additive: boolean): void {
    const second = this.secondContent!;
    if (!second.network.sharesConditions(this.context.network)) {
      this.context.announce("these networks have other conditions: brush the first figure");
      return;
    }
    this.table.showSelected(true);
    this.context.select(conditionsInside(second, corners), additive);
  }

  private controlList(): Child[] {
    const { network, networks, state, store } = this.context;
    const site = siteOf(network, state)!;
    const sites = network.sites.map(({ name, operation }) => ({
      value: name,
      text: `${name} (${operation})`,
    }));
    const fresh = { zoom: "", brush: "", only: "" };
    const list: Child[] = [
      menu("site", "Site", sites, site.name, (name) =>
        store.set({
          ...fresh,
          site: name,
          feature: "",
          across: "",
          up: "",
          features: USUAL_FEATURES,
        }),
      ),
      choices(
        "mode",
        "Show",
        [
          { value: "all", text: "Many features" },
          ...(site.parameters.length > 1 ? [{ value: "each", text: "Small multiples" }] : []),
          { value: "one", text: "One feature" },
        ],
        modeOf(state, site),
        (mode) => store.set({ ...fresh, mode }),
      ),
    ];
    if (site.parameters.length > 2) list.push(...this.axisMenus(site));
    const mode = modeOf(state, site);
    if (mode === "one") list.push(this.featureControl(site));
    else list.push(...this.featuresControl(site));
    if (mode !== "all") list.push(...colorControls(this.context));
    list.push(this.markedControl());
    if (networks.length > 1) {
      const others = networks
        .map((each, index) => ({ value: String(index), text: each.content.model.name }))
        .filter((_, index) => networks[index] !== network);
      list.push(
        menu(
          "compare",
          "Compare with",
          [{ value: "", text: "–" }, ...others],
          state.compare,
          (compare) => store.set({ compare }),
        ),
      );
    }
    return list;
  }

  private axisMenus(site: Site): HTMLElement[] {
    const { state, store } = this.context;
    const [across, up] = axesOf(site, state);
    const options = site.parameters.map((each) => ({ value: each.name, text: each.symbol }));
    const fresh = { zoom: "", brush: "" };
    return [
      menu("across", "Across", options, across.name, (name) =>
        store.set({ ...fresh, across: name }),
      ),
      menu("up", "Up", options, up.name, (name) => store.set({ ...fresh, up: name })),
    ];
  }

  private featureControl(site: Site): HTMLElement {
    const { network, state, store } = this.context;
    const number = site.numbers[slotOf(network, site, state)]!;
    const field = html("input", {
      type: "number",
      id: "feature",
      min: Math.min(...site.numbers),
      max: Math.max(...site.numbers),
      value: number,
      onchange: (event: Event) => {
        const wanted = Number((event.target as HTMLInputElement).value);
        const nearest = site.numbers.reduce((best, each) =>
          Math.abs(each - wanted) < Math.abs(best - wanted) ? each : best,
        );
        store.set({ feature: String(nearest), zoom: "", brush: "" });
      },
    });
    return html(
      "div",
      { class: "field", role: "group", "aria-label": "Feature" },
      html("label", { for: "feature" }, "Feature"),
      html(
        "span",
        { class: "segments" },
        button("feature-before", "[", () => this.step(-1), { "aria-label": "Previous feature" }),
        field,
        button("feature-next", "]", () => this.step(1), { "aria-label": "Next feature" }),
      ),
    );
  }

  private featuresControl(site: Site): Child[] {
    const { state, store } = this.context;
    const choose = (features: string) => store.set({ features, zoom: "", brush: "", only: "" });
    const counts = [8, 16, 32].filter((count) => count < site.features);
    const options = [
      ...counts.map((count) => ({ value: `apart${count}`, text: `${count} that overlap least` })),
      ...counts.map((count) => ({ value: `top${count}`, text: `${count} with most variance` })),
      { value: "all", text: `all ${grouped(site.features)}` },
    ];
    const listed = !/^((top|apart)\d+|all)$/.test(state.features);
    if (listed) options.push({ value: state.features, text: `features ${state.features}` });
    const known = options.some((option) => option.value === state.features);
    const field = html("input", {
      id: "feature-list",
      placeholder: "such as 3, 17, 40-44",
      value: listed ? state.features : "",
      autocomplete: "off",
      onchange: (event: Event) => {
        const text = (event.target as HTMLInputElement).value.replace(/[^\d,\-–]/g, "");
        choose(text || USUAL_FEATURES);
      },
    });
    return [
      menu("features", "Features", options, known ? state.features : "all", choose),
      html("label", { class: "field", for: "feature-list" }, html("span", {}, "Numbers"), field),
    ];
  }

  private showTable(): void {
    this.table.show(tableContent(this.context.network, this.context.state, this.content!));
  }
}
