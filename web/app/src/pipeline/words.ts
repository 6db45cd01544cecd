import type { NodeKind } from "../api/types.ts";

export const KINDS: Record<NodeKind, string> = {
  source: "source",
  raw: "raw table",
  model: "model",
  metric: "metrics",
  write_back: "write-back",
};
