import { describe, expect, it } from "vitest";
import type { Answer } from "../src/api/types.ts";
import { type Action, type Chunk, reduce } from "../src/ask/reduce.ts";
import { type Chat, empty } from "../src/ask/turn.ts";

const answer = (more: Partial<Answer> = {}): Answer => ({
  conversation_id: "c1",
  behaviour: "answer",
  answer: "Pass Rate: 96.45 %.",
  query: { measures: ["Production.passRate"] },
  options: [],
  sql: "SELECT 1",
  rows: [{ "Production.passRate": "96.45" }],
  chart: null,
  freshness: null,
  backend: "planner",
  proof_id: "p1",
  trace_id: "t1",
  ...more,
});

const step = (id: string, status: string, ms?: number): Chunk => ({ type: "data-step", id, data: { agent: "analyst", label: "Plan", status, ms } });

function played(...actions: Action[]): Chat {
  return actions.reduce(reduce, empty);
}

const asked: Action = { type: "asked", key: "k", question: "pass rate", at: 1000 };
const chunks = (...list: Chunk[]): Action => ({ type: "chunks", key: "k", chunks: list });
const ended: Action = { type: "ended", key: "k", at: 1200 };

describe("the conversation", () => {
  it("is told by a whole stream", () => {
    const chat = played(
      asked,
      chunks(
        { type: "start", messageMetadata: { conversation_id: "c1", trace_id: "t1", backend: "llm" } },
        step("s1", "running"),
        step("s2", "running"),
        step("s1", "done", 41),
        { type: "data-notice", data: { level: "warn", code: "llm_down", text: "The model did not answer." } },
        { type: "text-start", id: "x" },
        { type: "text-delta", id: "x", delta: "Pass Rate: " },
        { type: "text-delta", id: "x", delta: "96.45 %." },
        { type: "text-end", id: "x" },
        { type: "data-answer", data: answer() },
        { type: "data-followups", data: ["a", "b", "c", "d", "e"] },
        { type: "finish" },
      ),
      ended,
    );
    const turn = chat.turns[0]!;
    expect(chat.conversationId).toBe("c1");
    expect(turn.status).toBe("done");
    expect(turn.text).toBe("Pass Rate: 96.45 %.");
    expect(turn.steps.map(({ id, status, ms }) => [id, status, ms])).toEqual([
      ["s1", "done", 41],
      ["s2", "running", null],
    ]);
    expect(turn.notices).toHaveLength(1);
    expect(turn.followUps).toEqual(["a", "b", "c", "d"]);
    expect(turn.backend).toBe("planner");
    expect(turn.answer?.proof_id).toBe("p1");
  });

  it("shows a clarification once, without its list of options in the text", () => {
    const options = [{ label: "Pass Rate" }, { label: "OEE" }];
    const asks = answer({ behaviour: "clarify", answer: "Which one? Pass Rate | OEE", options, rows: [] });
    const turn = played(asked, chunks({ type: "data-answer", data: asks }), ended).turns[0]!;
    expect(turn.clarify?.question).toBe("Which one?");
    expect(turn.text).toBe("");
    const told = played(asked, chunks({ type: "data-clarify", data: { question: "Which?", options } }, { type: "data-answer", data: asks }), ended);
    expect(told.turns[0]!.clarify?.question).toBe("Which?");
  });

  it("keeps what arrived when it is stopped, and takes nothing more", () => {
    const chat = played(
      asked,
      chunks(step("s1", "running"), { type: "text-delta", delta: "Pass" }),
      { type: "stopped", key: "k", at: 1100 },
      chunks({ type: "text-delta", delta: " Rate" }),
      ended,
    );
    expect(chat.turns[0]).toMatchObject({ status: "stopped", text: "Pass", endedAt: 1100 });
    expect(chat.turns[0]!.steps[0]!.status).toBe("stopped");
  });

  it("is stopped by the server's abort", () => {
    expect(played(asked, chunks({ type: "abort" }), ended).turns[0]!.status).toBe("stopped");
  });

  it("says an error of the stream, and a stream that breaks off is one", () => {
    const failed = played(asked, chunks(step("s1", "running"), { type: "error", errorText: "too busy" }), ended);
    expect(failed.turns[0]).toMatchObject({ status: "failed", error: "too busy" });
    expect(failed.turns[0]!.steps[0]!.status).toBe("failed");
    expect(played(asked, ended).turns[0]).toMatchObject({ status: "failed", error: "the answer broke off" });
  });

  it("leaves parts alone that it does not know", () => {
    const chat = played(asked, chunks({ type: "reasoning-delta", delta: "x" }, { type: "data-else", data: 1 }, { type: "data-answer", data: answer() }), ended);
    expect(chat.turns[0]).toMatchObject({ status: "done", text: "Pass Rate: 96.45 %." });
  });

  it("puts each kept answer behind its question", () => {
    const chat = played({
      type: "loaded",
      conversation: {
        id: "c9",
        title: "pass rate",
        messages: [
          { role: "user", text: "pass rate", at: "2026-01-01T00:00:00Z" },
          { role: "assistant", answer: answer({ follow_ups: ["by line"] }), at: "2026-01-01T00:00:01Z" },
          { role: "user", text: "and bodies?", at: "2026-01-01T00:00:02Z" },
        ],
      },
    });
    expect(chat).toMatchObject({ conversationId: "c9", title: "pass rate" });
    expect(chat.turns.map((turn) => [turn.question, turn.status])).toEqual([
      ["pass rate", "done"],
      ["and bodies?", "failed"],
    ]);
    expect(chat.turns[0]!.followUps).toEqual(["by line"]);
  });

  it("does not change the turns that an action is not about", () => {
    const before = played(asked, chunks({ type: "data-answer", data: answer() }), ended);
    const after = reduce(before, { type: "asked", key: "k2", question: "by line", at: 2000 });
    expect(after.turns[0]).toBe(before.turns[0]);
    expect(reduce(after, { type: "dropped", key: "k2" }).turns).toEqual(before.turns);
  });
});
