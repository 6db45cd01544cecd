// What a conversation is made of.
import type { Answer, Notice, Option } from "../api/types.ts";

export interface Step {
  id: string;
  agent: string;
  label: string;
  status: string;
  ms: number | null;
  attempt: number | null;
}

export type TurnStatus = "streaming" | "done" | "stopped" | "failed";

export interface Turn {
  key: string;
  question: string;
  status: TurnStatus;
  /** Real time, ms since 1970; `null` when not known. */
  askedAt: number | null;
  endedAt: number | null;
  steps: Step[];
  notices: Notice[];
  text: string;
  clarify: { question: string; options: Option[] } | null;
  answer: Answer | null;
  followUps: string[];
  backend: string | null;
  traceId: string | null;
  error: string | null;
}

export interface Chat {
  conversationId: string | null;
  title: string | null;
  turns: Turn[];
}

export const empty: Chat = { conversationId: null, title: null, turns: [] };

export function newTurn(key: string, question: string, at: number | null): Turn {
  return {
    key,
    question,
    status: "streaming",
    askedAt: at,
    endedAt: null,
    steps: [],
    notices: [],
    text: "",
    clarify: null,
    answer: null,
    followUps: [],
    backend: null,
    traceId: null,
    error: null,
  };
}

export const isOpen = (step: Step): boolean => ["queued", "running", "retrying"].includes(step.status);
