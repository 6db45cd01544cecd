import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { follow, type FeedState } from "../src/api/feed.ts";

interface Connection {
  headers: Record<string, string>;
  send: (text: string) => void;
  end: () => void;
}

const event = (id: number, type: string): string => `event: ${type}\nid: ${id}\ndata: ${JSON.stringify({ id, at: "2026-01-01T00:00:00Z", event: { type } })}\n\n`;

describe("the live feed", () => {
  let connections: Connection[];
  let status: number;
  let told: string[];
  let again: number;
  let states: FeedState[];
  let aborter: AbortController;

  beforeEach(() => {
    vi.useFakeTimers();
    [connections, status, told, again, states, aborter] = [[], 200, [], 0, [], new AbortController()];
    vi.stubGlobal("sessionStorage", { getItem: () => null });
    vi.stubGlobal("fetch", (_path: string, options: RequestInit) => {
      if (status === 0) return Promise.reject(new TypeError("Failed to fetch"));
      let stream!: ReadableStreamDefaultController<Uint8Array>;
      const body = new ReadableStream<Uint8Array>({ start: (controller) => void (stream = controller) });
      options.signal?.addEventListener("abort", () => stream.error(new DOMException("aborted", "AbortError")));
      connections.push({
        headers: options.headers as Record<string, string>,
        send: (text) => stream.enqueue(new TextEncoder().encode(text)),
        end: () => stream.close(),
      });
      return Promise.resolve(new Response(body, { status }));
    });
    void follow(aborter.signal, {
      onEvent: ({ id, type }) => told.push(`${id} ${type}`),
      onState: (state) => states.push(state),
      onAgain: () => (again += 1),
    });
  });
  afterEach(() => {
    aborter.abort();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });
  const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

  it("comes back after a loss and goes on behind the last event that it saw", async () => {
    await pass();
    connections[0]!.send(event(7, "sync_finished"));
    await pass();
    connections[0]!.end();
    await pass(1000);
    expect(connections[1]!.headers["last-event-id"]).toBe("7");
    connections[1]!.send(event(8, "build_published"));
    await pass();
    expect(told).toEqual(["7 sync_finished", "8 build_published"]);
    expect(states).toEqual(["live", "lost", "live"]);
    expect(again).toBe(1);
  });

  it("takes silence for a loss, but not while heartbeats come", async () => {
    await pass();
    for (let i = 0; i < 10; i += 1) {
      await pass(15_000);
      connections[0]!.send(": alive\n\n");
    }
    await pass();
    expect(states).toEqual(["live"]);
    await pass(45_500);
    expect(states).toEqual(["live", "lost"]);
    await pass(1000);
    expect(connections).toHaveLength(2);
  });

  it("tries less and less often while the server is away", async () => {
    await pass();
    status = 0;
    connections[0]!.end();
    await pass(60_000);
    const lost = states.filter((state) => state === "lost").length;
    expect(lost).toBeGreaterThan(4);
    expect(lost).toBeLessThan(12);
    status = 200;
    await pass(10_000);
    expect(states.at(-1)).toBe("live");
  });

  it("has what is shown read again when events were missed", async () => {
    await pass();
    connections[0]!.send('event: lag\ndata: {"dropped":3}\n\n');
    await pass();
    expect([again, told]).toEqual([1, []]);
  });

  it("ends for good where the server has none", async () => {
    status = 404;
    await pass();
    connections[0]!.end();
    await pass(1000);
    connections[1]!.end();
    await pass();
    expect(states.at(-1)).toBe("absent");
    await pass(60_000);
    expect(connections).toHaveLength(2);
  });
});
