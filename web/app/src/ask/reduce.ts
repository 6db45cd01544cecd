// The conversation as a pure function of what happened: what the reader did, and the parts of the stream.
import type { Answer, Conversation, Notice, Option } from "../api/types.ts";
import { type Chat, empty, isOpen, newTurn, type Step, type Turn } from "./turn.ts";

/** A chunk of the UI message stream, version 1; `data` is ours. */
export interface Chunk {
  type: string;
  id?: string;
  delta?: string;
  errorText?: string;
  data?: unknown;
  messageMetadata?: Record<string, unknown>;
}

export type Action =
  | { type: "asked"; key: string; question: string; at: number }
  | { type: "chunks"; key: string; chunks: Chunk[] }
  | { type: "ended"; key: string; at: number }
  | { type: "stopped"; key: string; at: number }
  | { type: "failed"; key: string; at: number; error: string }
  | { type: "dropped"; key: string }
  | { type: "loaded"; conversation: Conversation }
  | { type: "cleared" };

export function reduce(chat: Chat, action: Action): Chat {
  switch (action.type) {
    case "asked":
      return { ...chat, turns: [...chat.turns, newTurn(action.key, action.question, action.at)] };
    case "chunks":
      return action.chunks.reduce((now, chunk) => onChunk(now, action.key, chunk), chat);
    case "ended":
      return onTurn(chat, action.key, (turn) => end(turn, action.at));
    case "stopped":
      return onTurn(chat, action.key, (turn) => ({ ...halt(turn, "stopped"), status: "stopped", endedAt: action.at }));
    case "failed":
      return onTurn(chat, action.key, (turn) => ({ ...halt(turn, "failed"), status: "failed", endedAt: action.at, error: action.error }));
    case "dropped":
      return { ...chat, turns: chat.turns.filter((turn) => turn.key !== action.key) };
    case "loaded":
      return loaded(action.conversation);
    case "cleared":
      return empty;
  }
}

function onTurn(chat: Chat, key: string, change: (turn: Turn) => Turn): Chat {
  return { ...chat, turns: chat.turns.map((turn) => (turn.key === key ? change(turn) : turn)) };
}

/** A stream that ends without an answer has failed, whatever it said before. */
function end(turn: Turn, at: number): Turn {
  if (turn.status !== "streaming") return turn;
  if (turn.error !== null) return { ...halt(turn, "failed"), status: "failed", endedAt: at };
  if (turn.answer === null && turn.text === "" && turn.clarify === null)
    return { ...halt(turn, "failed"), status: "failed", endedAt: at, error: "the answer broke off" };
  return { ...turn, status: "done", endedAt: at };
}

/** What ran does not run any more. */
function halt(turn: Turn, status: string): Turn {
  return { ...turn, steps: turn.steps.map((step) => (isOpen(step) ? { ...step, status } : step)) };
}

function onChunk(chat: Chat, key: string, chunk: Chunk): Chat {
  const named = chunk.type === "start" || chunk.type === "message-metadata" ? withMetadata(chat, key, chunk) : chat;
  return onTurn(named, key, (turn) => (turn.status === "streaming" ? withChunk(turn, chunk) : turn));
}

function withMetadata(chat: Chat, key: string, chunk: Chunk): Chat {
  const metadata = chunk.messageMetadata ?? {};
  const id = text(metadata["conversation_id"]) ?? chat.conversationId;
  const named = { ...chat, conversationId: id };
  return onTurn(named, key, (turn) => ({
    ...turn,
    backend: text(metadata["backend"]) ?? turn.backend,
    traceId: text(metadata["trace_id"]) ?? turn.traceId,
  }));
}

function withChunk(turn: Turn, chunk: Chunk): Turn {
  switch (chunk.type) {
    case "data-step":
      return { ...turn, steps: placed(turn.steps, stepOf(chunk)) };
    case "data-notice":
      return { ...turn, notices: noticed(turn.notices, chunk.data as Notice) };
    case "text-start":
      return turn.text === "" ? turn : { ...turn, text: `${turn.text}\n\n` };
    case "text-delta":
      return { ...turn, text: turn.text + (chunk.delta ?? "") };
    case "data-clarify": {
      const { question, options } = chunk.data as { question: string; options: Option[] };
      return { ...turn, clarify: { question, options } };
    }
    case "data-answer":
      return withAnswer(turn, chunk.data as Answer);
    case "data-followups":
      return { ...turn, followUps: (chunk.data as string[]).slice(0, 4) };
    case "abort":
      return { ...halt(turn, "stopped"), status: "stopped" };
    case "error":
      return { ...turn, error: chunk.errorText ?? "the answer broke off" };
    default:
      // Other parts belong to other readers of the same stream.
      return turn;
  }
}

function withAnswer(turn: Turn, answer: Answer): Turn {
  const clarify = answer.behaviour === "clarify" ? { question: questionOf(answer), options: answer.options } : null;
  return {
    ...turn,
    answer,
    text: turn.text === "" && !clarify ? answer.answer : turn.text,
    clarify: turn.clarify ?? clarify,
    followUps: turn.followUps.length > 0 ? turn.followUps : (answer.follow_ups ?? []).slice(0, 4),
    notices: (answer.notices ?? []).reduce(noticed, turn.notices),
    backend: answer.backend || turn.backend,
    traceId: answer.trace_id ?? turn.traceId,
  };
}

/** The text of a clarification lists its options for readers without buttons. */
function questionOf(answer: Answer): string {
  const list = answer.options.map((option) => option.label).join(" | ");
  return answer.answer.endsWith(list) ? answer.answer.slice(0, -list.length).trim() : answer.answer;
}

function stepOf(chunk: Chunk): Step {
  const data = (chunk.data ?? {}) as Partial<Step> & { state?: string };
  return {
    id: chunk.id ?? String(data.id ?? data.label ?? ""),
    agent: data.agent ?? "",
    label: data.label ?? "",
    status: data.status ?? data.state ?? "running",
    ms: data.ms ?? null,
    attempt: data.attempt ?? null,
  };
}

/** A step with a known id takes the place of the earlier one. */
function placed(steps: Step[], step: Step): Step[] {
  return steps.some((s) => s.id === step.id) ? steps.map((s) => (s.id === step.id ? step : s)) : [...steps, step];
}

function noticed(notices: Notice[], notice: Notice): Notice[] {
  return notices.some((n) => n.text === notice.text) ? notices : [...notices, notice];
}

const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);

/** A kept conversation: each question with the answer that follows it. */
function loaded({ id, title, messages }: Conversation): Chat {
  const turns: Turn[] = [];
  messages.forEach((message, i) => {
    if (message.role === "user") {
      turns.push({ ...newTurn(`${id}.${i}`, message.text, Date.parse(message.at) || null), status: "done" });
    } else if (turns.length > 0 && message.answer) {
      turns.push(withAnswer(turns.pop()!, message.answer));
    }
  });
  const answered = turns.map((turn) => (turn.answer ? turn : { ...turn, status: "failed" as const, error: "this question got no answer" }));
  return { conversationId: id, title, turns: answered };
}
