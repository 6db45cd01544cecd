// The one live feed, for every part of the page that listens.
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import { type FeedState, follow, type LiveEvent } from "./feed.ts";

interface Feed {
  state: FeedState;
  /** Tries since the feed was lost. */
  tries: number;
  recent: LiveEvent[];
  subscribe: (listener: (event: LiveEvent) => void) => () => void;
}

const KEPT = 200;
const none: Feed = { state: "absent", tries: 0, recent: [], subscribe: () => () => undefined };
const Context = createContext<Feed>(none);

export const useEvents = (): Feed => useContext(Context);

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
