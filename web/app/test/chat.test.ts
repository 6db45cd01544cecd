import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Chat } from "../src/ask/turn.ts";

/** A browser tab's storage. */
function storage(): Storage {
  const kept = new Map<string, string>();
  return { getItem: (key: string) => kept.get(key) ?? null, setItem: (key: string, value: string) => void kept.set(key, value) } as unknown as Storage;
}

interface Asked {
  path: string;
  options: RequestInit;
  send: (text: string) => void;
  end: () => void;
}

let asked: Asked[];

/** A server whose streams the test writes by hand. */
function serve(status = 200, body?: string): void {
  vi.stubGlobal("fetch", (path: string, options: RequestInit) => {
    let stream!: ReadableStreamDefaultController<Uint8Array>;
    const content = body ?? new ReadableStream<Uint8Array>({ start: (controller) => void (stream = controller) });
    options.signal?.addEventListener("abort", () => stream?.error(new DOMException("aborted", "AbortError")));
    asked.push({ path, options, send: (text) => stream.enqueue(new TextEncoder().encode(text)), end: () => stream.close() });
    return Promise.resolve(new Response(content, { status }));
  });
}

const part = (chunk: unknown): string => `data: ${JSON.stringify(chunk)}\n\n`;

describe("the open conversation", () => {
  let chat: typeof import("../src/ask/chat.ts");
  let session: typeof import("../src/api/session.ts").session;
  const now = (): Chat => chat.current();

  beforeEach(async () => {
    asked = [];
    vi.resetModules();
    vi.stubGlobal("sessionStorage", storage());
    chat = await import("../src/ask/chat.ts");
    ({ session } = await import("../src/api/session.ts"));
    session.signIn("secret");
  });
  afterEach(() => vi.unstubAllGlobals());

  it("asks with the token, and the next question in the same conversation", async () => {
    serve();
    const first = chat.ask("pass rate");
    await vi.waitFor(() => expect(asked).toHaveLength(1));
    asked[0]!.send(part({ type: "start", messageMetadata: { conversation_id: "c1" } }) + part({ type: "text-delta", delta: "96 %" }) + "data: [DONE]\n\n");
    await first;
    expect(now()).toMatchObject({ conversationId: "c1", turns: [{ status: "done", text: "96 %" }] });
    void chat.ask("by line");
    await vi.waitFor(() => expect(asked).toHaveLength(2));
    expect(asked[0]!.options.headers).toMatchObject({ authorization: "Bearer secret" });
    expect(asked.map(({ options }) => JSON.parse(options.body as string) as unknown)).toEqual([{ question: "pass rate" }, { question: "by line", conversation_id: "c1" }]);
    chat.stop();
  });

  it("stops the request, keeps what came, and asks again in the same place", async () => {
    serve();
    const turn = chat.ask("slow");
    await vi.waitFor(() => expect(asked).toHaveLength(1));
    asked[0]!.send(part({ type: "text-delta", delta: "half" }));
    await vi.waitFor(() => expect(now().turns[0]!.text).toBe("half"));
    chat.stop();
    await turn;
    expect(asked[0]!.options.signal!.aborted).toBe(true);
    expect(now().turns).toMatchObject([{ status: "stopped", text: "half", error: null }]);
    chat.askAgain(now().turns[0]!);
    expect(now().turns).toMatchObject([{ question: "slow", status: "streaming", text: "" }]);
    chat.stop();
  });

  it("says in the server's words why there is no answer", async () => {
    serve(429, '{"error":"too many questions at once"}');
    await chat.ask("pass rate");
    expect(now().turns[0]).toMatchObject({ status: "failed", error: "too many questions at once" });
  });

  it("says that the server is away", async () => {
    vi.stubGlobal("fetch", () => Promise.reject(new TypeError("Failed to fetch")));
    await chat.ask("pass rate");
    expect(now().turns[0]!.error).toContain("cannot be reached");
  });

  it("asks for the token when the server refuses it", async () => {
    serve(401, '{"error":"the token is not valid"}');
    await chat.ask("pass rate");
    expect(session.isRefused()).toBe(true);
    session.signIn("other");
    expect(session.isRefused()).toBe(false);
  });

  it("shows the conversation that was opened last, whichever comes first", async () => {
    const replies: ((body: string) => void)[] = [];
    vi.stubGlobal("fetch", () => new Promise<Response>((resolve) => replies.push((body) => resolve(new Response(body)))));
    const both = [chat.open("a"), chat.open("b")];
    replies[1]!('{"title":"b","messages":[]}');
    await both[1];
    replies[0]!('{"title":"a","messages":[]}');
    await both[0];
    expect(now().conversationId).toBe("b");
  });

  it("opens a kept one and leaves it for a new one", async () => {
    serve(200, '{"title":"pass rate","messages":[{"role":"user","text":"pass rate","at":"2026-01-01T00:00:00Z"}]}');
    await chat.open("c/7");
    expect(asked[0]!.path).toBe("/api/conversations/c%2F7");
    expect(now()).toMatchObject({ conversationId: "c/7", turns: [{ question: "pass rate" }] });
    await chat.open(null);
    expect(now()).toEqual({ conversationId: null, title: null, turns: [] });
  });
});
