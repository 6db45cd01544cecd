// The shapes of our own API that the pages read.

export type Scalar = string | number | boolean | null;
export type Row = Record<string, Scalar>;

export interface Bootstrap {
  version: string;
  project: string;
  role: "viewer" | "operator" | "admin";
  has_metrics: boolean;
  has_write_backs: boolean;
  backend: { name: "planner" | "llm"; model?: string | null };
  sources: string[];
  degraded: string[];
  suggested: string[];
  data: { from: string | null; to: string | null } | null;
  write_backs_waiting: number;
}

export interface Axis {
  key: string;
  title: string;
  unit?: string | null;
}

/** How to draw rows; the kinds are the server's. */
export interface ChartSpec {
  type: string;
  title: string;
  x: Axis | null;
  series: Axis | null;
  y: Axis[];
}

export interface Definition {
  member: string;
  title?: string;
  description?: string | null;
  sql?: string | null;
  format?: string | null;
  meta?: { unit?: string; better?: string; synonyms?: string[] } | null;
}

export interface Freshness {
  data_from: string | null;
  data_to: string | null;
  refreshed_at: string | null;
  data_version: number;
}

export interface Option {
  label: string;
  query?: unknown;
  question?: string;
}

export interface Notice {
  level?: "info" | "warn" | "error";
  code?: string;
  text: string;
}

export interface Answer {
  conversation_id: string;
  behaviour: "answer" | "clarify" | "refuse";
  answer: string;
  query: unknown;
  options: Option[];
  sql: string | null;
  rows: Row[];
  chart: ChartSpec | null;
  freshness: Freshness | null;
  backend: string;
  proof_id: string | null;
  trace_id: string | null;
  reason?: string;
  definition?: Definition[];
  reading?: { words: string; taken_for: string }[];
  follow_ups?: string[];
  notices?: Notice[];
}

export interface ConversationHead {
  id: string;
  title: string;
  updated_at: string;
}

export type Message = { role: "user"; text: string; at: string } | { role: "assistant"; answer: Answer; at: string };

export interface Conversation {
  id: string;
  title: string;
  messages: Message[];
}

export interface Statement {
  sql: string;
  params?: Scalar[];
  checksum?: string;
  elapsed_ms?: number;
}

export interface Proof {
  id: string;
  question?: string;
  statements?: Statement[];
  rows?: number;
  checksum?: string;
  models?: unknown;
  tests?: unknown;
  tables?: unknown;
  sources?: unknown;
  trace_id?: string | null;
  [more: string]: unknown;
}

export interface Replay {
  same: boolean;
  rows: number | Row[];
  changed: unknown[];
}

export interface Actor {
  name: string;
  state: string;
  incarnation: number;
  restarts: number;
  uptime_ms: number | null;
  queue: number;
  last_error: string | null;
  children: Actor[];
}

export type NodeKind = "source" | "raw" | "model" | "metric" | "write_back";
export type NodeStatus = "ok" | "running" | "stale" | "failed" | "unknown";

export interface LineageNode {
  id: string;
  kind: NodeKind;
  layer?: string | null;
  name: string;
  relation?: string | null;
  status: NodeStatus;
  fresh_at?: string | null;
  rows?: number | null;
  tests?: { passed: number; failed: number } | null;
  detail?: string | null;
}

export interface Lineage {
  nodes: LineageNode[];
  edges: { from: string; to: string }[];
}

export interface Run {
  id: string;
  kind: string;
  scope: string | null;
  /** `running`, `success`, `nothing_new`, `failed` or `interrupted`. */
  state: string;
  trigger?: string;
  started_at: string;
  ended_at: string | null;
  ms: number | null;
  attempts: number;
  error: string | null;
  trace_id: string | null;
  rows: number | null;
  steps?: RunStep[];
}

export interface RunStep {
  name: string;
  state: string;
  attempt?: number;
  attempts?: number;
  rows: number | null;
  error: string | null;
  ms: number | null;
}

export interface Incident {
  id: string | number;
  kind?: string;
  subject?: string;
  title?: string;
  detail?: string | null;
  opened_at: string;
  closed_at?: string | null;
}

export interface Schedule {
  name: string;
  cron: string;
  timezone: string;
  next_at?: string | null;
  last_at?: string | null;
}

export interface Sync {
  name: string;
  description?: string | null;
  source: string;
  table: string;
  mode?: string;
  /** What may be asked for in words. */
  actions?: string[];
}

export type PlanState = "planning" | "planned" | "approved" | "rejected" | "applied" | "undone" | "failed";

export interface PlanCounts {
  added: number;
  changed: number;
  removed: number;
  unchanged: number;
  invalid: number;
  skipped?: number;
}

export interface Plan {
  id: string;
  sync: string;
  source: string;
  table: string;
  mode: string;
  /** `sync`, or `proposal` where an agent or a person proposed it. */
  origin: string;
  state: PlanState;
  /** What is being done at this moment: `plan`, `apply` or `undo`. */
  under_way: string | null;
  hash: string | null;
  requested_by: string;
  reason: string;
  counts: PlanCounts;
  ddl: string[];
  error: string | null;
  approved_by: string | null;
  approved_at: string | null;
  comment: string | null;
  written: number | null;
  read_back: Record<string, unknown> | null;
  created_at: string;
  applied_at: string | null;
  undone_at: string | null;
}

export type Cells = Record<string, string | null>;

export interface PlanRow {
  seq: number;
  key: Cells;
  kind: string;
  old: Cells | null;
  new: Cells | null;
  problem: string | null;
}

export interface WriteBacks {
  syncs: Sync[];
  plans: Plan[];
  /** Why the syncs cannot be read, with file and line. */
  syncs_error?: string | null;
}

export interface Proposal {
  plan?: Plan | null;
  refusal?: string | { reason?: string } | null;
  reason?: string | null;
}
