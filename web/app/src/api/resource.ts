// What a page reads: fetched when shown, again when an event says that it changed.
import { useCallback, useEffect, useRef, useState } from "react";
import { ApiError, getJson, said } from "./client.ts";
import { useEvents } from "./events.tsx";

export interface Resource<T> {
  data: T | null;
  /** In words; with `data` still there when only a reload failed. */
  error: string | null;
  /** The server has no such route or no such thing. */
  missing: boolean;
  reload: () => void;
}

/** Events come in bursts; one look after a burst is enough. */
const BURST_MS = 250;

/** Reads `path` (`null`: nothing yet) and again after an event whose type `on` accepts. */
export function useResource<T>(path: string | null, on?: (eventType: string) => boolean): Resource<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; error: string | null; missing: boolean }>({
    path,
    data: null,
    error: null,
    missing: false,
  });
  const [asked, setAsked] = useState(0);
  const reload = useCallback(() => setAsked((n) => n + 1), []);
  useEffect(() => {
    if (path === null) return;
    const aborter = new AbortController();
    getJson<T>(path, aborter.signal).then(
      (data) => setState({ path, data, error: null, missing: false }),
      (error: unknown) => {
        if (aborter.signal.aborted) return;
        const status = error instanceof ApiError ? error.status : null;
        setState((old) => {
          const data = old.path === path ? old.data : null;
          // Without a connection what is shown stays; the banner says that it may be old.
          return { path, data, error: status === 0 && data !== null ? null : said(error), missing: status === 404 };
        });
      },
    );
    return () => aborter.abort();
  }, [path, asked]);
  useReloadOn(on, reload);
  const fresh = state.path === path;
  return { data: fresh ? state.data : null, error: fresh ? state.error : null, missing: fresh && state.missing, reload };
}

function useReloadOn(on: ((eventType: string) => boolean) | undefined, reload: () => void): void {
  const { subscribe } = useEvents();
  const accepts = useRef(on);
  accepts.current = on;
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe((event) => {
      if (event.type !== "reconnected" && !accepts.current?.(event.type)) return;
      clearTimeout(timer);
      timer = setTimeout(reload, BURST_MS);
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [subscribe, reload]);
}
