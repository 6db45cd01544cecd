import { describe, expect, it } from "vitest";
import { readMessages, SseParser, type SseMessage } from "../src/api/sse.ts";

const STREAM = [
  ": a comment\n\n",
  'data: {"type":"start"}\n\n',
  "event: build_published\nid: 17\ndata: eins\ndata: zwei – ✓\n\n",
  "data\r\n\r\n",
  "retry: 10\ndata:without a space\n\n",
  "data: [DONE]\n\n",
].join("");

const EXPECTED: SseMessage[] = [
  { event: "message", id: null, data: '{"type":"start"}' },
  { event: "build_published", id: "17", data: "eins\nzwei – ✓" },
  { event: "message", id: "17", data: "" },
  { event: "message", id: "17", data: "without a space" },
  { event: "message", id: "17", data: "[DONE]" },
];

function body(...pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(piece);
      controller.close();
    },
  });
}

async function all(stream: ReadableStream<Uint8Array>): Promise<SseMessage[]> {
  const found: SseMessage[] = [];
  for await (const message of readMessages(stream)) found.push(message);
  return found;
}

describe("server-sent events", () => {
  const bytes = new TextEncoder().encode(STREAM);

  it("reads a stream cut at every byte, within letters too", async () => {
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      expect(await all(body(bytes.slice(0, cut), bytes.slice(cut)))).toEqual(EXPECTED);
    }
  });

  it("reads a stream byte by byte", async () => {
    expect(await all(body(...Array.from(bytes, (byte) => Uint8Array.of(byte))))).toEqual(EXPECTED);
  });

  it("takes CR, LF and CR LF for the end of a line", () => {
    for (const end of ["\n", "\r", "\r\n"]) {
      const parser = new SseParser();
      const found = parser.push(`data: a${end}${end}data: b${end}${end}`);
      expect(found.map((message) => message.data)).toEqual(["a", "b"]);
    }
  });

  it("drops a message that the end of the stream cut off", async () => {
    expect(await all(body(new TextEncoder().encode("data: whole\n\ndata: half")))).toHaveLength(1);
  });

  it("lets go of the stream when its reader stops", async () => {
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new TextEncoder().encode("data: x\n\n")),
      cancel: () => {
        cancelled = true;
      },
    });
    for await (const message of readMessages(endless)) {
      expect(message.data).toBe("x");
      break;
    }
    expect(cancelled).toBe(true);
  });
});
