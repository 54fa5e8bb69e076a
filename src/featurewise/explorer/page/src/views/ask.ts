// A condition that the file does not hold needs the network itself, hence a server.

import type { Context, MountedView, View } from "../context.ts";
import { button, card } from "../controls.ts";
import { type Child, html, image, keepingFocus, replace } from "../dom.ts";
import { provenance } from "../download.ts";
import { COMMAND } from "../live.ts";
import { nearestList, paintAnswer, replyAnswers, spokenReply } from "../live_parts.ts";
import { conditionBlock } from "../outputs.ts";
import { ConditionPicker } from "../picker.ts";
import { questionAnswer, questionText } from "../question.ts";
import { type Key, positionOf } from "../state.ts";

const MOST_CHARACTERS = 500;
/** Up to this many images are offered as a row of buttons. */
const MOST_IMAGES = 60;

export const askView: View = {
  id: "ask",
  title: "Ask",
  isAvailable: () => true,
  mount: (host, context) => {
    if (context.server !== null) return new AskView(host, context);
    host.append(needsServer());
    return { update: () => {} };
  },
};

function needsServer(): HTMLElement {
  return card(
    "A new condition",
    html(
      "p",
      {},
      "A condition that is not in this page, such as a question of your own, has to be computed by the " +
        "network. This needs the server.",
    ),
    html("p", {}, "Start it where the run is, and it opens this page with the network behind it:"),
    html("pre", { tabindex: 0 }, COMMAND),
  );
}

class AskView implements MountedView {
  private readonly field: HTMLInputElement;
  private readonly picker: ConditionPicker;
  private readonly imagePicker: ConditionPicker;
  private readonly images = html("div", {});
  private readonly result = html("div", {});
  private readonly answerHost = html("div", { class: "live" });

  constructor(
    host: HTMLElement,
    private readonly context: Context,
  ) {
    const { network, store, state } = context;
    const label = network.textLabel?.name ?? "condition";
    this.field = html("input", {
      id: "question",
      maxlength: MOST_CHARACTERS,
      value: state.question,
      autocomplete: "off",
      placeholder: network.textLabel ? `such as: ${network.text(context.imageOf)}` : "",
      onkeydown: (event: KeyboardEvent) => event.key === "Enter" && this.ask(),
    });
    this.picker = new ConditionPicker(context, "condition", "Condition", (condition) =>
      store.set({ question: String(condition) }),
    );
    this.imagePicker = new ConditionPicker(
      context,
      "image-of",
      "Condition whose image is used",
      (condition) => store.set({ on: String(condition) }),
    );
    host.append(
      card(
        "Ask the network",
        html(
          "p",
          {},
          network.textLabel
            ? "The network predicts γ and β from your text, and answers with them about the image you choose. " +
                "Its answer is shown as it is, also where it is wrong."
            : "The network gets γ and β of one condition, and the image of another one.",
        ),
        network.textLabel
          ? html(
              "div",
              { class: "question" },
              html(
                "label",
                { class: "field", for: "question" },
                html("span", {}, `Your own ${label}`),
                this.field,
              ),
              button("ask", "Ask", () => this.ask(), { class: "main" }),
            )
          : this.picker.element,
        this.images,
      ),
      this.result,
    );
    this.paint();
  }

  update(changed: Set<Key>): void {
    if (changed.has("question")) this.field.value = this.context.state.question;
    this.paint();
  }

  private ask(): void {
    const question = this.field.value.trim();
    if (question === "") {
      this.field.focus();
      return;
    }
    const { state, store } = this.context;
    if (question !== state.question) store.set({ question });
    else if (questionAnswer(this.context)?.problem) this.context.live("ask")?.again();
  }

  private paint(): void {
    const { context } = this;
    const { network, state } = context;
    keepingFocus(() => {
      this.picker.show(positionOf(state.question, network.count, 0));
      this.paintImages();
      const answer = questionAnswer(context);
      if (!answer) {
        replace(this.result);
        return;
      }
      answer.changed = () => {
        this.paintReply();
        context.announce(spokenReply(context, answer));
      };
      replace(
        this.result,
        card(
          `“${questionText(context)}”`,
          html("div", { id: "answer" }, this.answerHost),
          html("p", { class: "provenance" }, provenance(network)),
        ),
      );
      this.paintReply();
    });
  }

  private paintReply(): void {
    const { context } = this;
    const answer = context.live("ask")!;
    keepingFocus(() =>
      paintAnswer(this.answerHost, answer, (reply) => [
        html(
          "div",
          { class: "conditions wider" },
          html(
            "div",
            { class: "large" },
            html("h4", {}, "The network answers"),
            ...replyAnswers(context, reply),
            this.aboutImage(),
          ),
          html(
            "div",
            {},
            nearestList(context, reply.nearest),
            button("show-marked", "Show in Parameters", () => {
              context.store.set({ view: "parameters", marked: "1", zoom: "" });
              scrollTo({ top: 0 });
            }),
          ),
        ),
      ]),
    );
  }

  private aboutImage(): Child {
    const { context } = this;
    const shown = context.network.thumbnail(context.imageOf);
    if (!shown) return conditionBlock(context, "for", context.imageOf, "select-image-of");
    return html(
      "figure",
      { class: "about" },
      image(shown.url, shown.alt),
      html("figcaption", {}, "about this image"),
    );
  }

  private paintImages(): void {
    const { context } = this;
    const { network, imageOf, store } = context;
    const { thumbnails } = network.content;
    const firsts = new Map<number, number>();
    thumbnails?.codes.forEach((code, condition) => {
      if (code >= 0 && !firsts.has(code)) firsts.set(code, condition);
    });
    if (firsts.size === 0 || firsts.size > MOST_IMAGES) {
      this.imagePicker.show(imageOf);
      replace(this.images, this.imagePicker.element);
      return;
    }
    const current = thumbnails!.codes[imageOf];
    const scrolled = this.images.querySelector(".strip")?.scrollLeft ?? 0;
    const strip = html(
      "div",
      { class: "strip", role: "group", "aria-label": `Image, ${firsts.size} in this page` },
      ...[...firsts]
        .sort(([one], [other]) => one - other)
        .map(([code, condition]) =>
          html(
            "button",
            {
              type: "button",
              id: `image-${code}`,
              "aria-pressed": String(code === current),
              onclick: () => store.set({ on: String(condition) }),
            },
            image(thumbnails!.images[code], thumbnails!.alts[code] || `image ${code + 1}`, 84),
          ),
        ),
    );
    replace(this.images, html("p", { class: "soft" }, `Image, ${firsts.size} in this page`), strip);
    strip.scrollLeft = scrolled;
  }
}
