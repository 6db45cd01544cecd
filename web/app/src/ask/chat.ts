// The open conversation. It lives outside of the pages: an answer goes on while another page is looked at.
import { useSyncExternalStore } from "react";
import { getJson, said, stream } from "../api/client.ts";
import type { Conversation } from "../api/types.ts";
import { type Action, type Chunk, reduce } from "./reduce.ts";
import { type Chat, empty, type Turn } from "./turn.ts";

/** So often at most is the page drawn while an answer streams. */
const DRAW_MS = 50;

let state: Chat = empty;
let running: { key: string; aborter: AbortController } | null = null;
let asked = 0;
let opened = 0;
const listeners = new Set<() => void>();

function dispatch(action: Action): void {
  state = reduce(state, action);
  for (const listener of listeners) listener();
}

export const current = (): Chat => state;

export const useChat = (): Chat =>
  useSyncExternalStore(
    (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    current,
  );

export const isStreaming = (chat: Chat): boolean => chat.turns.at(-1)?.status === "streaming";

/** Asks; the turn before it is stopped if it still runs. */
export async function ask(question: string): Promise<void> {
  stop();
  const key = `asked.${asked++}`;
  const aborter = new AbortController();
  running = { key, aborter };
  dispatch({ type: "asked", key, question, at: Date.now() });
  const body = JSON.stringify({ question, ...(state.conversationId ? { conversation_id: state.conversationId } : {}) });
  const drawer = new Drawer(key);
  try {
    for await (const message of stream("/api/chat/stream", { method: "POST", body, signal: aborter.signal })) {
      if (message.data === "[DONE]") break;
      drawer.add(JSON.parse(message.data) as Chunk);
    }
    drawer.flush();
    dispatch({ type: "ended", key, at: Date.now() });
  } catch (error) {
    drawer.flush();
    if (!aborter.signal.aborted) dispatch({ type: "failed", key, at: Date.now(), error: said(error) });
  } finally {
    if (running?.key === key) running = null;
  }
}

/** Gathers chunks, so that a burst is drawn once. */
class Drawer {
  private waiting: Chunk[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly key: string) {}

  add(chunk: Chunk): void {
    this.waiting.push(chunk);
    this.timer ??= setTimeout(() => this.flush(), DRAW_MS);
  }

  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (this.waiting.length === 0) return;
    const chunks = this.waiting;
    this.waiting = [];
    dispatch({ type: "chunks", key: this.key, chunks });
  }
}

/** Stops the running answer; what arrived stays. */
export function stop(): void {
  if (!running) return;
  running.aborter.abort();
  dispatch({ type: "stopped", key: running.key, at: Date.now() });
  running = null;
}

/** The same question once more, in the place of its last answer. */
export function askAgain(turn: Turn): void {
  dispatch({ type: "dropped", key: turn.key });
  void ask(turn.question);
}

/** Opens a kept conversation, or a new one with `null`. */
export async function open(id: string | null): Promise<void> {
  if (id === state.conversationId) return;
  stop();
  dispatch({ type: "cleared" });
  const mine = (opened += 1);
  if (id === null) return;
  const conversation = await getJson<Conversation>(`/api/conversations/${encodeURIComponent(id)}`);
  // Another was opened, or something asked, while this one was read.
  if (mine !== opened || state.turns.length > 0) return;
  dispatch({ type: "loaded", conversation: { ...conversation, id } });
}
