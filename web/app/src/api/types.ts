// The shapes of our own API, made from its description (`npm run types`). What the description leaves
// open, such as the words of a state or the cells of a row, is said here.
import type { components } from "./schema.d.ts";

type Schemas = components["schemas"];

/** As it is sent: what may be absent comes as null. */
type Sent<Name extends keyof Schemas> = Required<Schemas[Name]>;
type But<Shape, Changes> = Omit<Shape, keyof Changes> & Changes;

export type Scalar = string | number | boolean | null;
export type Row = Record<string, Scalar>;

export type Bootstrap = But<Sent<"Bootstrap">, { role: "viewer" | "operator" | "admin"; data: Sent<"Extent"> | null }>;
export type Axis = Schemas["Axis"];
export type ChartSpec = But<Sent<"Chart">, { x: Axis | null; series: Axis | null }>;
export type Freshness = Sent<"Freshness">;

export interface Definition {
  member: string;
  title?: string;
  description?: string | null;
  sql?: string | null;
  format?: string | null;
  meta?: { unit?: string; better?: string; synonyms?: string[] } | null;
}

export type Option = Pick<Schemas["Choice"], "label"> & Partial<Schemas["Choice"]>;

export interface Notice {
  level?: "info" | "warn" | "error";
  code?: string;
  text: string;
}

export type Answer = Pick<Schemas["Answer"], "conversation_id" | "answer" | "backend"> & {
  behaviour: "answer" | "clarify" | "refuse";
  query: unknown;
  options: Option[];
  sql: string | null;
  rows: Row[];
  chart: ChartSpec | null;
  freshness: Freshness | null;
  proof_id: string | null;
  trace_id: string | null;
  reason?: string;
  definition?: Definition[];
  reading?: { words: string; taken_for: string }[];
  follow_ups?: string[];
  notices?: Notice[];
  /** A second result that the rows were held against. */
  companion?: { query: unknown; rows: Row[] } | null;
};

export type ConversationHead = Schemas["ConversationHead"];
export type Message = { role: "user"; text: string; at: string } | { role: "assistant"; answer: Answer; at: string };
export type Conversation = But<Schemas["Conversation"], { messages: Message[] }>;

export interface Statement {
  sql: string;
  params?: Scalar[];
  checksum?: string;
  elapsed_ms?: number;
}

/** A proof is kept as it was written; older ones hold less. */
export interface Proof {
  id: string;
  statements?: Statement[];
  checksum?: string;
  [more: string]: unknown;
}

export type Replay = Schemas["Replay"];
export type Actor = But<Sent<"Actor">, { children: Actor[] }>;

export type NodeKind = "source" | "raw" | "model" | "metric" | "write_back";
export type LineageNode = But<Schemas["Node"], { kind: NodeKind }>;
export type Lineage = { nodes: LineageNode[]; edges: Schemas["Edge"][]; error?: string | null };

export type RunStep = Sent<"Step">;
export type Run = But<Sent<"Run">, { steps?: RunStep[] | null }>;
export type Incident = Sent<"IncidentShown">;
export type Schedule = Sent<"ScheduleShown">;

export type PlanState = "planning" | "planned" | "approved" | "rejected" | "applied" | "undone" | "failed";
export type PlanCounts = Schemas["Counts"];
export type Plan = But<Omit<Sent<"Plan">, "evidence">, { state: PlanState; read_back: Record<string, unknown> | null }>;
export type Cells = Record<string, string | null>;
export type PlanRow = But<Sent<"PlanRow">, { key: Cells; old: Cells | null; new: Cells | null }>;
export type PlanRows = { items: PlanRow[]; next?: number | null };
export type Sync = Sent<"SyncHead">;
export type WriteBacks = { syncs: Sync[]; plans: Plan[]; syncs_error: string | null };
export type Proposal = { plan?: Plan | null; refusal?: string | null };
