// The page: header, navigation, the current view, and keys that work everywhere.

import { Context, type MountedView, type View } from "./context.ts";
import { button, choices, menu } from "./controls.ts";
import { html, keepingFocus, replace } from "./dom.ts";
import { helpDialog } from "./help.ts";
import { Network, readPage } from "./network.ts";
import { grouped, plural } from "./numbers.ts";
import { fragment, type Key, Store } from "./state.ts";
import { onScheme, restoreScheme, type Scheme, scheme, setScheme } from "./theme.ts";
import { Tooltip } from "./tooltip.ts";
import { arithmeticView } from "./views/arithmetic.ts";
import { askView } from "./views/ask.ts";
import { featureView } from "./views/feature.ts";
import { interpolationView } from "./views/interpolation.ts";
import { parametersView } from "./views/parameters.ts";
import { projectionView } from "./views/projection.ts";
import { trainingView } from "./views/training.ts";

const VIEWS: View[] = [
  parametersView,
  projectionView,
  interpolationView,
  arithmeticView,
  featureView,
  askView,
  trainingView,
];

/** What belongs to the conditions and features of one network. */
const FRESH = {
  compare: "",
  selected: "",
  brush: "",
  zoom: "",
  at: "",
  on: "",
  marked: "",
  a: "",
  b: "",
  c: "",
};

class Page {
  private readonly navigation = html("nav", { "aria-label": "Views" });
  private readonly head = html("header", {});
  private readonly selection = html("div", { class: "selection", role: "status" });
  private readonly main = html("main", { id: "view" });
  private readonly live = html("div", { class: "hidden", "aria-live": "polite" });
  private readonly help = helpDialog();
  private readonly context: Context;
  private readonly store = new Store();
  private mounted: MountedView | null = null;
  private view: View | null = null;

  constructor(networks: Network[], server: string | null) {
    const tooltip = new Tooltip();
    this.context = new Context(this.store, networks, server, tooltip, (text) => {
      this.live.textContent = text;
    });
    const skip = html(
      "a",
      { class: "skip", href: "#view", onclick: (event: Event) => this.skip(event) },
      "Skip to the figures",
    );
    document.body.append(
      skip,
      this.head,
      this.navigation,
      this.selection,
      this.main,
      this.live,
      tooltip.element,
      this.help,
    );
    this.store.listen((changed) => this.follow(changed));
    onScheme(() => this.mount());
    document.addEventListener("keydown", (event) => this.key(event));
    addEventListener("scroll", () => tooltip.hide(), { passive: true });
    this.watchWidth();
    this.mount();
  }

  private skip(event: Event): void {
    event.preventDefault();
    (
      document.getElementById("plot") ?? this.main.querySelector<HTMLElement>("button, select")
    )?.focus();
  }

  private watchWidth(): void {
    let width = innerWidth;
    new ResizeObserver(() => {
      if (this.main.clientWidth === width) return;
      width = this.main.clientWidth;
      this.mounted?.resize?.();
    }).observe(this.main);
  }

  private available(): View[] {
    const { network, server } = this.context;
    return VIEWS.filter((view) => view.isAvailable(network, server));
  }

  private current(): View {
    const views = this.available();
    return views.find((view) => view.id === this.context.state.view) ?? views[0]!;
  }

  private follow(changed: Set<Key>): void {
    if (changed.has("model") || this.current() !== this.view) {
      this.mount();
    } else {
      this.mounted?.update(changed);
      this.paintSelection();
      this.paintNavigation();
    }
  }

  private mount(): void {
    const { context } = this;
    const { title } = context.network.content;
    document.title = title;
    this.view = this.current();
    context.tooltip.hide();
    keepingFocus(() => {
      this.paintHead();
      this.paintNavigation();
      this.paintSelection();
      replace(this.main, html("h2", { class: "hidden" }, this.view!.title));
      this.mounted = this.view!.mount(this.main, context);
    });
    const link = this.navigation.querySelector<HTMLElement>("[aria-current]");
    if (link) this.navigation.scrollLeft = link.offsetLeft - this.navigation.clientWidth / 3;
  }

  private paintHead(): void {
    const { context } = this;
    const { content } = context.network;
    const models = context.networks.map((each, index) => ({
      value: String(index),
      text: each.content.model.name,
    }));
    const schemes: { value: Scheme; text: string }[] = [
      { value: "auto", text: "Auto" },
      { value: "light", text: "Light" },
      { value: "dark", text: "Dark" },
    ];
    replace(
      this.head,
      html(
        "div",
        { class: "title" },
        html("h1", {}, content.title),
        html("p", { class: "soft" }, content.data),
      ),
      html(
        "div",
        { class: "bar settings" },
        models.length > 1 &&
          menu("model", "Model", models, String(context.modelIndex), (model) =>
            this.store.set({ ...FRESH, model }),
          ),
        choices("scheme", "Colors", schemes, scheme(), (next) => setScheme(next as Scheme)),
        button("copy-link", "Copy link", () => this.copyLink()),
        button("help", "?", () => this.help.showModal(), { "aria-label": "Help: keys and words" }),
      ),
    );
  }

  private paintNavigation(): void {
    const { state } = this.context;
    const fresh = { ...state, zoom: "", brush: "", tool: "", only: "", weight: "", at: "" };
    const { scrollLeft } = this.navigation;
    replace(
      this.navigation,
      ...this.available().map((view) =>
        html(
          "a",
          {
            id: `go-${view.id}`,
            href: fragment({ ...fresh, view: view.id }),
            "aria-current": view === this.view && "page",
          },
          view.title,
        ),
      ),
    );
    this.navigation.scrollLeft = scrollLeft;
  }

  private paintSelection(): void {
    const { context } = this;
    const { network } = context;
    const count = context.selectedCount;
    const first = context.selected?.indexOf(1) ?? -1;
    const text = count === 1 ? `: ${network.text(first)}` : "";
    this.selection.classList.toggle("empty", count === 0);
    keepingFocus(() =>
      replace(
        this.selection,
        html(
          "span",
          {},
          html("strong", {}, `${grouped(count)} of ${plural(network.count, "condition")}`),
          ` selected${text}`,
        ),
        button("clear", "Clear", () => context.clear(), { disabled: count === 0 }),
      ),
    );
  }

  private async copyLink(): Promise<void> {
    const address = location.href;
    try {
      await navigator.clipboard.writeText(address);
      this.context.announce("link copied");
      const pressed = document.getElementById("copy-link");
      if (pressed) {
        pressed.textContent = "Copied";
        setTimeout(() => {
          pressed.textContent = "Copy link";
        }, 1500);
      }
    } catch {
      prompt("The link of what is shown:", address);
    }
  }

  private key(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    const typing = target.matches("input:not([type=checkbox]), select, textarea");
    if (typing || this.help.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "[") this.mounted?.step?.(-1);
    else if (event.key === "]") this.mounted?.step?.(1);
    else if (event.key === "0") this.mounted?.reset?.();
    else if (event.key === "?") this.help.showModal();
    else if (event.key === "Escape") {
      this.context.tooltip.hide();
      this.context.clear();
    } else return;
    event.preventDefault();
  }
}

async function start(): Promise<void> {
  restoreScheme();
  try {
    const data = readPage();
    const networks = await Promise.all(data.bundles.map((bundle) => Network.read(bundle)));
    new Page(networks, data.server ?? null);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    document.body.append(
      html("p", { class: "failure", role: "alert" }, `This page cannot be shown: ${text}.`),
    );
  }
}

void start();
