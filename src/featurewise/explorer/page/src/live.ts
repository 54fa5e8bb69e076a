// What only the network can compute: requests to the server of the page, of which the latest wins.

import type { Reply, Request } from "./schema.ts";

/** Time without a change, in milliseconds, after which a dragged value is sent. */
export const PAUSE = 70;

export const COMMAND = "featurewise explore RUN";

const EMPTY: Request = { condition: 0, text: null, terms: [], edits: [] };

/** The answer to the latest of a row of requests. The last reply stays until the next is there. */
export class LiveAnswer {
  reply: Reply | null = null;
  /** Why there is no newer reply; empty if nothing is wrong. */
  problem = "";
  /** Whether the same request may succeed later. */
  canRetry = false;
  waiting = false;
  /** Called with each change, by the view that shows it. */
  changed: () => void = () => {};
  private wanted = "";
  private answered = "";
  private sequence = 0;
  private timer = 0;
  private running: AbortController | null = null;

  constructor(private readonly server: string) {}

  /** Whether the reply is that of the last request. */
  get isCurrent(): boolean {
    return this.reply !== null && this.answered === this.wanted;
  }

  /** Asks for an answer after a pause, unless it is known or on its way. */
  want(network: number, request: Partial<Request>, pause = 0): void {
    const body = JSON.stringify({ network, ...EMPTY, ...request });
    if (body === this.wanted) return;
    this.wanted = body;
    this.send(pause);
  }

  again(): void {
    this.send(0);
    this.changed();
  }

  private send(pause: number): void {
    clearTimeout(this.timer);
    this.running?.abort();
    this.sequence++;
    this.waiting = true;
    this.problem = "";
    this.timer = window.setTimeout(() => void this.run(this.sequence, this.wanted), pause);
  }

  private async run(sequence: number, body: string): Promise<void> {
    const running = new AbortController();
    this.running = running;
    let reply: Reply | null = null;
    let problem = "";
    let canRetry = false;
    try {
      reply = await post(this.server, body, running.signal);
    } catch (error) {
      problem = error instanceof LiveError ? error.message : String(error);
      canRetry = !(error instanceof LiveError) || error.canRetry;
    }
    if (sequence !== this.sequence) return;
    this.waiting = false;
    this.problem = problem;
    this.canRetry = canRetry;
    if (reply) {
      this.reply = reply;
      this.answered = body;
    }
    this.changed();
  }
}

class LiveError extends Error {
  constructor(
    message: string,
    readonly canRetry: boolean,
  ) {
    super(message);
  }
}

async function post(server: string, body: string, signal: AbortSignal): Promise<Reply> {
  let response: Response;
  try {
    response = await fetch(`${server.replace(/\/$/, "")}/api/v1/answer`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
      signal,
    });
  } catch {
    throw new LiveError(
      `The server ${server} cannot be reached. Start it again where the run is (${COMMAND}), then try again.`,
      true,
    );
  }
  let content: (Reply & { error?: string }) | null = null;
  try {
    content = await response.json();
  } catch {
    // The status alone says what is wrong.
  }
  if (response.ok && content) return content;
  const reason = content?.error ?? `status ${response.status}`;
  if (response.status !== 503) throw new LiveError(`No answer: ${reason}.`, response.status > 500);
  const seconds = Number(response.headers.get("retry-after")) || 1;
  throw new LiveError(`No answer now: ${reason}. Try again in ${seconds} s.`, true);
}
