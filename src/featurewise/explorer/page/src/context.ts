// What every view is given: the data, the state, the selection, and ways to speak to the reader.

import { LiveAnswer } from "./live.ts";
import type { Network } from "./network.ts";
import { plural } from "./numbers.ts";
import {
  decodeSet,
  encodeSet,
  type Key,
  positionOf,
  type State,
  type Store,
  whole,
} from "./state.ts";
import type { Tooltip } from "./tooltip.ts";

export class Context {
  private known: { text: string; count: number; members: Uint8Array | null } | null = null;

  private readonly answers = new Map<string, LiveAnswer>();

  constructor(
    readonly store: Store,
    readonly networks: Network[],
    readonly server: string | null,
    readonly tooltip: Tooltip,
    readonly announce: (text: string) => void,
  ) {}

  get state(): Readonly<State> {
    return this.store.state;
  }

  get modelIndex(): number {
    return whole(this.state.model, this.networks.length);
  }

  get network(): Network {
    return this.networks[this.modelIndex]!;
  }

  /** The selected conditions, by position; null if none is. */
  get selected(): Uint8Array | null {
    const text = this.state.selected;
    const count = this.network.count;
    if (this.known?.text !== text || this.known.count !== count) {
      const members = decodeSet(text, count);
      this.known = { text, count, members: members.includes(1) ? members : null };
    }
    return this.known.members;
  }

  /** What the server answers for one figure; it outlives the figure. Null without a server. */
  live(figure: string): LiveAnswer | null {
    if (this.server === null) return null;
    const answer = this.answers.get(figure) ?? new LiveAnswer(this.server);
    this.answers.set(figure, answer);
    return answer;
  }

  /** The condition whose image the network is given: the chosen, a selected, or the first one. */
  get imageOf(): number {
    const first = this.selected?.indexOf(1) ?? 0;
    return positionOf(this.state.on, this.network.count, first);
  }

  get selectedCount(): number {
    return this.selected?.reduce((sum, each) => sum + each, 0) ?? 0;
  }

  select(members: Uint8Array, additive = false, brush = ""): void {
    const before = this.selected;
    const joined = additive && before ? members.map((each, i) => each | before[i]!) : members;
    this.store.set({ selected: encodeSet(joined), brush });
    const count = this.selectedCount;
    this.announce(count ? `${plural(count, "condition")} selected` : "no condition selected");
  }

  /** Selects one condition alone, or with others; a selected one is taken out of the selection. */
  toggle(condition: number, additive: boolean): void {
    const before = this.selected;
    const alone = before?.[condition] === 1 && this.selectedCount === 1;
    const members = additive && before ? before.slice() : new Uint8Array(this.network.count);
    members[condition] = additive ? 1 - members[condition]! : alone ? 0 : 1;
    this.select(members);
  }

  clear(): void {
    this.store.set({ selected: "", brush: "", only: "" });
    this.announce("selection cleared");
  }
}

export interface MountedView {
  update(changed: Set<Key>): void;
  resize?(): void;
  /** Steps to the next feature, or the one before. */
  step?(by: number): void;
  reset?(): void;
}

export interface View {
  id: string;
  title: string;
  isAvailable(network: Network, server: string | null): boolean;
  mount(host: HTMLElement, context: Context): MountedView;
}
