// What can be done with a plan, and how it is said.
import type { Plan, PlanRow } from "../api/types.ts";
import { count } from "../charts/format.ts";

export type Deed = "approve" | "reject" | "apply" | "undo";

export const WORDS: Record<Deed, string> = { approve: "Approve", reject: "Reject", apply: "Apply", undo: "Undo" };

export function deeds(plan: Plan): Deed[] {
  if (isBusy(plan)) return [];
  switch (plan.state) {
    case "planned":
      return ["approve", "reject"];
    case "approved":
      return ["apply", "reject"];
    case "applied":
      return ["undo"];
    default:
      return [];
  }
}

/** Something is being done, so it will change by itself. */
export const isBusy = (plan: Plan): boolean => plan.under_way !== null && plan.under_way !== undefined ? true : plan.state === "planning";

export const writes = ({ counts }: Plan): number => counts.added + counts.changed + counts.removed;

/** What the deed does, for the dialog. */
export function effect(deed: Deed, plan: Plan): string {
  const target = `${plan.table} in ${plan.source}`;
  const { added, changed, removed, invalid } = plan.counts;
  const parts = [added > 0 && `add ${count(added, "row")}`, changed > 0 && `change ${count(changed, "row")}`, removed > 0 && `remove ${count(removed, "row")}`].filter(Boolean);
  const what = parts.length > 0 ? parts.join(", ") : "write no row";
  switch (deed) {
    case "approve":
      return `This plan may then be applied: it will ${what} of ${target}.${plan.ddl.length > 0 ? ` ${count(plan.ddl.length, "statement")} run first.` : ""}${invalid > 0 ? ` Left out: ${count(invalid, "invalid row")}.` : ""} The approval holds for exactly the rows shown here.`;
    case "reject":
      return "Nothing is written. The plan is kept with your comment.";
    case "apply":
      return `Writes to the source now: ${what} of ${target}, in one transaction. A row that changed since the plan is a conflict: then nothing is written.`;
    case "undo":
      return `Puts every old value back in ${target}, in one transaction. A row that changed since is a conflict: then nothing is written.`;
  }
}

export interface Change {
  column: string;
  old: string | null;
  new: string | null;
}

/** The columns that differ; of an added or removed row all that hold something. */
export function changes(row: PlanRow): Change[] {
  const columns = [...new Set([...Object.keys(row.old ?? {}), ...Object.keys(row.new ?? {})])];
  const keys = new Set(Object.keys(row.key ?? {}));
  return columns
    .filter((column) => !keys.has(column))
    .map((column) => ({ column, old: row.old?.[column] ?? null, new: row.new?.[column] ?? null }))
    .filter((change) => change.old !== change.new);
}

export const keyOf = (row: PlanRow): string =>
  Object.entries(row.key ?? {})
    .map(([, value]) => value ?? "∅")
    .join(" · ");

export function stateWord(plan: Plan): string {
  if (plan.under_way && plan.under_way !== "plan") return plan.under_way === "apply" ? "applying" : "undoing";
  return plan.state === "planned" ? "waits for approval" : plan.state;
}
