// The one live feed: connects, resumes after the last event seen, tells who listens.
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
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

interface Feed {
  state: FeedState;
  /** Tries since the feed was lost. */
  tries: number;
  recent: LiveEvent[];
  subscribe: (listener: (event: LiveEvent) => void) => () => void;
}

const KEPT = 200;
const WAITS_MS = [1000, 2000, 5000, 10_000];
const none: Feed = { state: "absent", tries: 0, recent: [], subscribe: () => () => undefined };
const Context = createContext<Feed>(none);

export const useEvents = (): Feed => useContext(Context);

/** A recorded event as the feed sends it: its type beside its fields, or around them. */
export function readEvent(type: string, id: string | null, data: string): LiveEvent {
  const body = JSON.parse(data) as Record<string, unknown>;
  const inner = (typeof body["event"] === "object" && body["event"] !== null ? body["event"] : body) as Record<string, unknown>;
  const at = typeof body["at"] === "string" ? body["at"] : new Date().toISOString();
  return { id, type, at, body: inner };
}

export function EventsProvider({ children }: { children: ReactNode }) {
  const listeners = useRef(new Set<(event: LiveEvent) => void>());
  const [recent, setRecent] = useState<LiveEvent[]>([]);
  const [feed, setFeed] = useState<{ state: FeedState; tries: number }>({ state: "connecting", tries: 0 });
  const subscribe = useCallback((listener: (event: LiveEvent) => void) => {
    listeners.current.add(listener);
    return () => void listeners.current.delete(listener);
  }, []);
  useEffect(() => {
    const aborter = new AbortController();
    const tell = (event: LiveEvent) => {
      for (const listener of listeners.current) listener(event);
    };
    const onEvent = (event: LiveEvent) => {
      setRecent((old) => (old.some((o) => o.id !== null && o.id === event.id) ? old : [event, ...old].slice(0, KEPT)));
      tell(event);
    };
    const onState = (state: FeedState, tries: number) => setFeed({ state, tries });
    const onAgain = () => tell({ id: null, type: "reconnected", at: new Date().toISOString(), body: {} });
    void follow(aborter.signal, { onEvent, onState, onAgain });
    return () => aborter.abort();
  }, []);
  const value = useMemo(() => ({ ...feed, recent, subscribe }), [feed, recent, subscribe]);
  return <Context value={value}>{children}</Context>;
}

interface Watch {
  onEvent: (event: LiveEvent) => void;
  onState: (state: FeedState, tries: number) => void;
  /** Events were missed: what was read before may be old. */
  onAgain: () => void;
}

async function follow(signal: AbortSignal, watch: Watch): Promise<void> {
  let last: string | null = null;
  let tries = 0;
  while (!signal.aborted) {
    try {
      const headers: Record<string, string> = last === null ? {} : { "last-event-id": last };
      const opened = () => {
        if (tries > 0) watch.onAgain();
        tries = 0;
        watch.onState("live", 0);
      };
      for await (const message of stream("/api/events", { headers, signal }, opened)) {
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

function signedInAgain(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const stop = session.subscribe(() => {
      if (session.isRefused() && !signal.aborted) return;
      stop();
      resolve();
    });
  });
}
