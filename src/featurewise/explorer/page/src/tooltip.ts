// What is known of the point under the pointer, beside it.

import { html, image, replace } from "./dom.ts";
import type { Network } from "./network.ts";

const MOST_LABELS = 6;

export interface Fact {
  name: string;
  value: string;
}

export class Tooltip {
  readonly element = html("div", { class: "tooltip", role: "presentation", hidden: true });

  show(x: number, y: number, network: Network, condition: number, facts: Fact[]): void {
    const labels = network.labels
      .filter((label) => label !== network.textLabel)
      .slice(0, MOST_LABELS)
      .map((label) => ({ name: label.name, value: network.labelText(label, condition) }));
    const thumbnail = network.thumbnail(condition);
    replace(
      this.element,
      thumbnail && image(thumbnail.url, thumbnail.alt),
      html("p", { class: "text" }, network.text(condition)),
      html(
        "dl",
        {},
        ...[...labels, ...facts].flatMap(({ name, value }) => [
          html("dt", {}, name),
          html("dd", {}, value),
        ]),
      ),
    );
    this.place(x, y);
  }

  private place(x: number, y: number): void {
    const { element } = this;
    element.hidden = false;
    const { width, height } = element.getBoundingClientRect();
    const GAP = 18;
    const right = x + GAP + width < innerWidth - 8;
    const left = right ? x + GAP : x - GAP - width;
    const narrow = left < 8;
    element.style.left = `${Math.max(8, narrow ? Math.min(x - width / 2, innerWidth - width - 8) : left)}px`;
    const below = y + GAP + height < innerHeight - 8;
    const top = narrow ? (below ? y + GAP : y - GAP - height) : y - height / 2;
    element.style.top = `${Math.max(8, Math.min(top, innerHeight - height - 8))}px`;
  }

  hide(): void {
    this.element.hidden = true;
  }
}
