// The live feed: connects, resumes after the last event seen, comes back when it was lost.
import { ApiError, stream } from "./client.ts";
import { session } from "./session.ts";

export interface LiveEvent {
  /** The event's row, `null` for what the app itself noticed. */
  id: string | null;
  type: string;
  at: string;
  body: Record<string, unknown>;
}

/** `absent`: this server has no feed. */
export type FeedState = "connecting" | "live" | "lost" | "absent";

/** Thrice the server's heartbeat. */
const SILENCE_MS = 45_000;
const WAITS_MS = [1000, 2000, 5000, 10_000];

/** A recorded event as the feed sends it: its type beside its fields, or around them. */
export function readEvent(type: string, id: string | null, data: string): LiveEvent {
  const body = JSON.parse(data) as Record<string, unknown>;
  const inner = (typeof body["event"] === "object" && body["event"] !== null ? body["event"] : body) as Record<string, unknown>;
  const at = typeof body["at"] === "string" ? body["at"] : new Date().toISOString();
  return { id, type, at, body: inner };
}

export interface Watch {
  onEvent: (event: LiveEvent) => void;
  onState: (state: FeedState, tries: number) => void;
  /** Events were missed: what was read before may be old. */
  onAgain: () => void;
}

/** Follows the feed until `signal` aborts, or for good where this server has none. */
export async function follow(signal: AbortSignal, watch: Watch): Promise<void> {
  let last: string | null = null;
  let tries = 0;
  let first = true;
  while (!signal.aborted) {
    try {
      const headers: Record<string, string> = last === null ? {} : { "last-event-id": last };
      const pulse = new Pulse(signal);
      const alive = () => {
        pulse.felt();
        if (tries > 0) watch.onAgain();
        if (tries !== 0 || first) watch.onState("live", 0);
        [tries, first] = [0, false];
      };
      for await (const message of stream("/api/events", { headers, signal: pulse.signal }, alive)) {
        last = message.id ?? last;
        if (message.event === "lag") {
          watch.onAgain();
          continue;
        }
        watch.onEvent(readEvent(message.event, message.id, message.data));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status === 404) return watch.onState("absent", 0);
      if (error instanceof ApiError && error.status === 401) await signedInAgain(signal);
    }
    if (signal.aborted) return;
    tries += 1;
    watch.onState("lost", tries);
    await new Promise((resolve) => setTimeout(resolve, WAITS_MS[Math.min(tries - 1, WAITS_MS.length - 1)]));
  }
}

/** Aborts a connection that has gone quiet: a lost network ends no stream by itself. */
class Pulse {
  private readonly aborter = new AbortController();
  private timer: ReturnType<typeof setTimeout> | undefined;
  readonly signal: AbortSignal;

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.aborter.signal]);
    outer.addEventListener("abort", () => clearTimeout(this.timer));
  }

  felt(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.aborter.abort(), SILENCE_MS);
  }
}

function signedInAgain(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const stop = session.subscribe(() => {
      if (session.isRefused() && !signal.aborted) return;
      stop();
      resolve();
    });
  });
}
