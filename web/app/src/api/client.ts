// Every request of the app: the token goes with it, errors come back as sentences.
import { readMessages, type SseMessage } from "./sse.ts";
import { session } from "./session.ts";

/** A refusal or a failure, said for the reader. `status` 0: the server was not reached. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(path, signal ? { signal } : {})).json()) as T;
}

export async function postJson<T>(path: string, body: unknown = {}): Promise<T> {
  const response = await request(path, { method: "POST", body: JSON.stringify(body) });
  const text = await response.text();
  return (text === "" ? null : JSON.parse(text)) as T;
}

export async function remove(path: string): Promise<void> {
  await request(path, { method: "DELETE" });
}

/** Opens a stream of events; ends when the server ends it or `signal` aborts. `onBytes` hears heartbeats, too. */
export async function* stream(path: string, options: RequestInit, onBytes?: () => void): AsyncGenerator<SseMessage> {
  const headers = { accept: "text/event-stream", ...(options.headers as Record<string, string>) };
  const response = await request(path, { ...options, headers });
  onBytes?.();
  if (response.body) yield* readMessages(response.body, onBytes);
}

async function request(path: string, options: RequestInit): Promise<Response> {
  const token = session.token();
  const headers: Record<string, string> = { ...(options.headers as Record<string, string>) };
  if (token) headers["authorization"] = `Bearer ${token}`;
  if (options.body) headers["content-type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("Ballpoint cannot be reached. Is it still running?", 0);
  }
  if (response.status === 401) session.refused();
  if (!response.ok) throw new ApiError(await reason(response), response.status);
  return response;
}

async function reason(response: Response): Promise<string> {
  try {
    const body = (await response.json()) as { error?: string | { message?: string }; detail?: string };
    const said = typeof body.error === "string" ? body.error : (body.error?.message ?? body.detail);
    if (said) return said;
  } catch {
    // No JSON: the status says what there is to say.
  }
  return `the server answered ${response.status} ${response.statusText}`.trim();
}

/** The words of whatever was thrown. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
