// Which ways of showing a result make sense, and the columns of its table.
import type { Axis, ChartSpec, Row } from "../api/types.ts";
import { isMoment, isNumber } from "./format.ts";

export type View = "kpi" | "bar" | "line" | "table";

/** A chart with more categories tells nothing; the table does. */
export const CATEGORIES_MAX = 60;

export function views(spec: ChartSpec | null, rows: Row[]): View[] {
  if (!spec || rows.length === 0 || spec.y.length === 0) return ["table"];
  const plots = plottable(spec, rows);
  const found: View[] = [];
  if (rows.length === 1) found.push("kpi");
  if (plots && rows.length <= CATEGORIES_MAX * 5) found.push("bar");
  if (plots) found.push("line");
  return [...found, "table"];
}

/** The view that the server chose, where it can be drawn. */
export function firstView(spec: ChartSpec | null, rows: Row[]): View {
  const possible = views(spec, rows);
  const asked = spec?.type ?? "table";
  const wanted: View = asked === "kpi" || asked === "table" ? asked : asked === "line" || asked === "area" ? "line" : "bar";
  return possible.includes(wanted) ? wanted : possible[0]!;
}

function plottable(spec: ChartSpec, rows: Row[]): boolean {
  return spec.x !== null && rows.length > 1 && spec.y.some((y) => rows.some((row) => isNumber(row[y.key])));
}

export interface Column extends Axis {
  numeric: boolean;
}

/** The table's columns: the chart's axes first in their order, then what else the rows hold. */
export function columns(spec: ChartSpec | null, rows: Row[]): Column[] {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const axes = spec ? [spec.x, spec.series, ...spec.y].filter((axis): axis is Axis => axis !== null) : [];
  const known = new Map(axes.filter((axis) => keys.includes(axis.key)).map((axis) => [axis.key, axis]));
  // Cube repeats a time dimension without its step; the one with the step says it all.
  const rest = keys.filter((key) => !known.has(key) && !keys.some((other) => other.startsWith(`${key}.`)));
  return [...known.values(), ...rest.map((key) => ({ key, title: titleOf(key) }))].map((axis) => ({
    ...axis,
    numeric: rows.some((row) => isNumber(row[axis.key])) && rows.every((row) => row[axis.key] == null || isNumber(row[axis.key])),
  }));
}

/** `Production.avgCycleTime` → "avg cycle time". */
export function titleOf(key: string): string {
  const name = key.split(".").slice(1).join(" ") || key;
  return name.replace(/([a-z0-9])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase();
}

/** Whether the x axis is time. */
export const overTime = (spec: ChartSpec, rows: Row[]): boolean =>
  spec.x !== null && rows.length > 0 && rows.every((row) => isMoment(row[spec.x!.key]));
