// An event as a sentence. One that is not known yet is shown by its type and plain values.
import type { LiveEvent } from "../api/feed.ts";
import { count, duration } from "../charts/format.ts";

type Body = Record<string, unknown>;
type Tone = "ok" | "warn" | "bad" | "quiet";

const text = (value: unknown): string => {
  if (value === null || value === undefined) return "";
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map(text).join(", ");
  const { schema, name } = value as { schema?: unknown; name?: unknown };
  return name === undefined ? JSON.stringify(value) : [schema, name].filter(Boolean).join(".");
};

const rows = (body: Body): string => count(Number(body["rows"] ?? 0), "row");
const size = (value: unknown): number => (Array.isArray(value) ? value.length : 0);

const SENTENCES: Record<string, (body: Body) => [Tone, string]> = {
  source_changed: (b) => ["quiet", `${text(b["source"])} changed${size(b["tables"]) > 0 ? `: ${text(b["tables"])}` : ""}`],
  source_unavailable: (b) => [
    "bad",
    `${text(b["source"])} cannot be read: ${text(b["error"])}; next try in ${duration(Number(b["retry_in_ms"]))}`,
  ],
  source_recovered: (b) => ["ok", `${text(b["source"])} answers again`],
  table_loaded: (b) => ["ok", `${rows(b)} of ${text(b["source"])} loaded into ${text(b["raw"])}`],
  sync_finished: (b) => ["ok", `${text(b["source"])} synced: ${rows(b)}`],
  sync_failed: (b) => ["bad", `${text(b["source"])} failed to sync: ${text(b["error"])}`],
  build_published: (b) => [
    "ok",
    `Build published: ${count(size(b["relations"]), "relation")}, ${count(Number(b["tests_passed"] ?? 0), "test")} passed`,
  ],
  build_failed: (b) => ["bad", `Build failed: ${text(b["failed"])}${size(b["skipped"]) > 0 ? `; skipped ${text(b["skipped"])}` : ""}`],
  metrics_refreshed: (b) => ["ok", `Metrics serve the new data: ${count(Number(b["cubes"] ?? 0), "cube")}`],
  metrics_rejected: (b) => ["bad", `Metrics file rejected: ${text(b["error"])}`],
  plan_changed: (b) => [b["state"] === "failed" ? "warn" : "quiet", `Plan of ${text(b["sync"])} is ${text(b["state"])}: ${b["error"] ? text(b["error"]) : rows(b)}`],
  actor_changed: (b) => [
    b["error"] ? "warn" : "quiet",
    `${text(b["actor"])} is ${text(b["state"])} (incarnation ${text(b["incarnation"])})${b["error"] ? `: ${text(b["error"])}` : ""}`,
  ],
};

export function describe(event: LiveEvent): { tone: Tone; text: string } {
  const known = SENTENCES[event.type];
  if (known) {
    const [tone, sentence] = known(event.body);
    return { tone, text: sentence };
  }
  const values = Object.entries(event.body).filter(([key, value]) => key !== "type" && value !== null && typeof value !== "object");
  const tone: Tone = /fail|unavail|reject|opened|stale/.test(event.type) ? "warn" : "quiet";
  const name = event.type.replaceAll("_", " ");
  return { tone, text: values.length > 0 ? `${name}: ${values.map(([key, value]) => `${key.replaceAll("_", " ")} ${String(value)}`).join(", ")}` : name };
}
