// Rows → labels and series: the arithmetic before any drawing, so that it can be tested.
import type { ChartSpec, Row } from "../api/types.ts";
import { axisMoments, isMoment, moment, toNumber, type Wording } from "./format.ts";

export interface Series {
  name: string;
  unit: string | null;
  values: (number | null)[];
}

export interface Plot {
  labels: string[];
  series: Series[];
  /** Series that were left out, when the rest cannot be told apart by colour. */
  hidden: number;
}

/** So many can be told apart by everybody; see the palette's test. */
export const SERIES_MAX = 5;

export function plot(spec: ChartSpec, rows: Row[], wording: Wording = {}): Plot {
  const xKey = spec.x?.key ?? "";
  const xs = [...new Set(rows.map((row) => String(row[xKey] ?? "")))];
  const overTime = xs.every((x) => isMoment(x));
  if (overTime) xs.sort();
  const at = new Map(xs.map((x, i) => [x, i]));
  const labels = overTime ? axisMoments(xs, wording) : xs.map((x) => label(x, wording));
  const groups = new Map<string, Series>();
  for (const row of rows) {
    for (const y of spec.y) {
      const own = spec.series ? label(row[spec.series.key], wording) : y.title;
      const name = spec.series && spec.y.length > 1 ? `${own} · ${y.title}` : own;
      let series = groups.get(name);
      if (!series) {
        series = { name, unit: y.unit ?? null, values: xs.map(() => null) };
        groups.set(name, series);
      }
      series.values[at.get(String(row[xKey] ?? ""))!] = toNumber(row[y.key]);
    }
  }
  const all = [...groups.values()];
  // Averages and shares cannot be added up into an "other"; what is left out is said instead.
  const shown = all.length <= SERIES_MAX ? all : largest(all).slice(0, SERIES_MAX);
  return { labels, series: shown, hidden: all.length - shown.length };
}

function largest(all: Series[]): Series[] {
  const weight = (s: Series) => s.values.reduce<number>((sum, v) => sum + Math.abs(v ?? 0), 0);
  return all.toSorted((a, b) => weight(b) - weight(a));
}

export function label(value: Row[string] | undefined, wording: Wording = {}): string {
  if (value === null || value === undefined || value === "") return "–";
  return isMoment(value) ? moment(value, wording) : String(value);
}

/** Running share of the whole, percent: the line of a Pareto chart. */
export function cumulative(values: (number | null)[]): number[] {
  const total = values.reduce<number>((sum, v) => sum + (v ?? 0), 0);
  let sum = 0;
  return values.map((v) => {
    sum += v ?? 0;
    return total === 0 ? 0 : (100 * sum) / total;
  });
}
