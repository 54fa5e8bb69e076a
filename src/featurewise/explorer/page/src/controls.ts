// Buttons, menus and fields, all with labels.

import { type Child, html } from "./dom.ts";

export interface Option {
  value: string;
  text: string;
}

export function menu(
  id: string,
  label: string,
  options: Option[],
  value: string,
  choose: (value: string) => void,
): HTMLElement {
  const select = html("select", {
    id,
    onchange: (event: Event) => choose((event.target as HTMLSelectElement).value),
  });
  for (const option of options) {
    select.append(
      html("option", { value: option.value, selected: option.value === value }, option.text),
    );
  }
  return html("label", { class: "field", for: id }, html("span", {}, label), select);
}

/** Buttons of which one is pressed. */
export function choices(
  id: string,
  label: string,
  options: Option[],
  value: string,
  choose: (value: string) => void,
): HTMLElement {
  return html(
    "div",
    { class: "field", role: "group", "aria-label": label },
    html("span", { "aria-hidden": "true" }, label),
    html(
      "span",
      { class: "segments" },
      ...options.map((option) =>
        html(
          "button",
          {
            type: "button",
            id: `${id}-${option.value || "none"}`,
            "aria-pressed": String(option.value === value),
            onclick: () => choose(option.value),
          },
          option.text,
        ),
      ),
    ),
  );
}

export function button(
  id: string,
  text: Child,
  press: () => void,
  values: Record<string, string | boolean> = {},
): HTMLButtonElement {
  return html("button", { type: "button", id, onclick: press, ...values }, text);
}

export function note(...children: Child[]): HTMLElement {
  return html("p", { class: "note" }, ...children);
}

export function card(title: string, ...children: Child[]): HTMLElement {
  return html("section", { class: "card" }, title ? html("h3", {}, title) : null, ...children);
}
