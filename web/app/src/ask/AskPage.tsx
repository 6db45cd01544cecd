import { useEffect, useRef, useState } from "react";
import { useLocation } from "wouter";
import { said } from "../api/client.ts";
import { useBootstrap } from "../shell/bootstrap.tsx";
import { Icon } from "../shell/Icon.tsx";
import { Problem } from "../shell/Page.tsx";
import { isTyping, shortcutsOn } from "../shell/Shortcuts.tsx";
import { AnswerTurn } from "./AnswerTurn.tsx";
import { ask, isStreaming, open, stop, useChat } from "./chat.ts";
import { Composer } from "./Composer.tsx";
import { Greeting } from "./Greeting.tsx";
import { History, HistoryDialog } from "./History.tsx";

/** The conversation `id`; a new one where that is `null`. */
export function AskPage({ id }: { id: string | null }) {
  const chat = useChat();
  const { boot } = useBootstrap();
  const [, navigate] = useLocation();
  const [history, setHistory] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const streaming = isStreaming(chat);
  useOpened(id, chat.conversationId, setProblem);
  useAskedByUrl();
  useKeys(() => navigate("/"));
  useEffect(() => {
    document.title = `${chat.title ?? chat.turns[0]?.question ?? "Ask"} · Ballpoint`;
  }, [chat.title, chat.turns]);
  const send = (question: string) => {
    setProblem(null);
    void ask(question);
  };
  const startNew = () => {
    void open(null);
    navigate("/");
  };
  return (
    <div className="ask">
      <aside className="history-side" aria-label="Conversations">
        <History current={chat.conversationId} onNew={startNew} />
      </aside>
      <main className="ask-main" id="main">
        <h1 className="hidden">Ask</h1>
        <div className="ask-tools narrow-only">
          <button type="button" className="quiet" onClick={() => setHistory(true)}>
            <Icon name="history" />
            History
          </button>
          <button type="button" className="quiet" onClick={startNew}>
            <Icon name="plus" />
            New conversation
          </button>
        </div>
        <Thread count={chat.turns.length} streaming={streaming}>
          {problem && <Problem what="This conversation cannot be shown" error={problem} />}
          {chat.turns.length === 0 && !problem && id === null && <Greeting onAsk={send} />}
          {chat.turns.map((turn, i) => (
            <AnswerTurn key={turn.key} turn={turn} last={i === chat.turns.length - 1} onAsk={send} />
          ))}
        </Thread>
        {boot && !boot.has_metrics ? (
          <p className="composer empty">This project measures nothing yet: give it a [metrics] section to ask questions.</p>
        ) : (
          <Composer streaming={streaming} last={chat.turns.at(-1)?.question ?? ""} onSend={send} onStop={stop} />
        )}
      </main>
      {history && (
        <HistoryDialog onClose={() => setHistory(false)}>
          <History current={chat.conversationId} onNew={startNew} onChosen={() => setHistory(false)} />
        </HistoryDialog>
      )}
    </div>
  );
}

/** Keeps address and conversation together, whichever of the two changed. */
function useOpened(id: string | null, conversationId: string | null, onProblem: (problem: string | null) => void): void {
  const [, navigate] = useLocation();
  const shown = useRef(id);
  const isFirst = useRef(true);
  useEffect(() => {
    // Coming back from another page by its tab: the open conversation is still there.
    if (isFirst.current && id === null && conversationId !== null) {
      isFirst.current = false;
      navigate(`/ask/${conversationId}`, { replace: true });
      return;
    }
    isFirst.current = false;
    const addressChanged = shown.current !== id || (id !== null && conversationId === null);
    if (conversationId !== null && conversationId !== id && !addressChanged) {
      shown.current = conversationId;
      navigate(`/ask/${conversationId}`, { replace: true });
      return;
    }
    shown.current = id;
    if (id === conversationId) return;
    onProblem(null);
    open(id).catch((error: unknown) => onProblem(said(error)));
  }, [id, conversationId, navigate, onProblem]);
}

/** `?q=` asks at once, and only once. */
function useAskedByUrl(): void {
  useEffect(() => {
    const url = new URL(location.href);
    const question = url.searchParams.get("q")?.trim();
    if (!question) return;
    url.searchParams.delete("q");
    history.replaceState(history.state, "", url);
    void ask(question);
  }, []);
}

function useKeys(onNew: () => void): void {
  const newest = useRef(onNew);
  newest.current = onNew;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && document.querySelector("dialog[open]") === null) return stop();
      if (isTyping(event) || !shortcutsOn()) return;
      if (event.key === "/") {
        event.preventDefault();
        document.getElementById("question")?.focus();
      }
      if (event.key === "n") {
        void open(null);
        newest.current();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}

/** The turns; follows the newest while the reader is at the end. */
function Thread({ count, streaming, children }: { count: number; streaming: boolean; children: React.ReactNode }) {
  const log = useRef<HTMLElement>(null);
  const atEnd = useRef(true);
  useEffect(() => {
    const box = log.current;
    if (!box) return;
    const follow = () => {
      if (atEnd.current) box.scrollTop = box.scrollHeight;
    };
    const watcher = new ResizeObserver(follow);
    for (const child of box.children) watcher.observe(child);
    atEnd.current = true;
    follow();
    return () => watcher.disconnect();
  }, [count]);
  const onScroll = () => {
    const box = log.current!;
    atEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  };
  return (
    <section ref={log} className="thread" onScroll={onScroll} aria-label="Conversation" aria-busy={streaming} tabIndex={0}>
      <div className="thread-body">{children}</div>
    </section>
  );
}
