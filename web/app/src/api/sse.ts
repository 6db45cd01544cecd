// Server-sent events over fetch: EventSource can neither POST nor carry a token.

export interface SseMessage {
  event: string;
  id: string | null;
  data: string;
}

/** Turns text, cut anywhere, into whole messages. Keeps what is unfinished for the next piece. */
export class SseParser {
  private line = "";
  private afterReturn = false;
  private event = "";
  private id: string | null = null;
  private data: string[] = [];

  push(text: string): SseMessage[] {
    const done: SseMessage[] = [];
    for (const char of text) {
      // CR LF may be cut in the middle: the LF after a CR ends no second line.
      const doubled = char === "\n" && this.afterReturn;
      this.afterReturn = char === "\r";
      if (doubled) continue;
      if (char !== "\n" && char !== "\r") {
        this.line += char;
        continue;
      }
      const message = this.endLine(this.line);
      this.line = "";
      if (message) done.push(message);
    }
    return done;
  }

  private endLine(line: string): SseMessage | null {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id" && !value.includes("\0")) this.id = value;
    return null;
  }

  private dispatch(): SseMessage | null {
    const message = { event: this.event || "message", id: this.id, data: this.data.join("\n") };
    const empty = this.data.length === 0;
    this.event = "";
    this.data = [];
    return empty ? null : message;
  }
}

/** The messages of a response body, until it ends. A last message without its blank line is dropped. */
export async function* readMessages(body: ReadableStream<Uint8Array>, onBytes?: () => void): AsyncGenerator<SseMessage> {
  const parser = new SseParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes?.();
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
