// Figures and moments as the reader's locale writes them, with their units.
import type { Scalar } from "../api/types.ts";

/** Locale of the reader; `undefined` is the browser's. Tests set their own. */
export interface Wording {
  locale?: string;
  timeZone?: string;
}

export function isNumber(value: Scalar | undefined): boolean {
  if (typeof value === "number") return Number.isFinite(value);
  return typeof value === "string" && /^-?\d+(\.\d+)?(e[+-]?\d+)?$/i.test(value);
}

export function toNumber(value: Scalar | undefined): number | null {
  return isNumber(value) ? Number(value) : null;
}

/** Decimals by unit, as the answers' text has them. */
function decimals(unit: string, value: number): number {
  if (unit === "percent" || unit === "%" || unit === "currency") return 2;
  if (Number.isInteger(value)) return 0;
  if (unit === "currency per unit") return 4;
  if (unit === "seconds") return 2;
  return Math.abs(value) >= 1000 ? 1 : 3;
}

/** What stands behind the figure: scales ("1-10") and fractions need nothing. */
export function suffix(unit: string | null | undefined): string {
  switch (unit) {
    case null:
    case undefined:
    case "":
    case "fraction":
    case "currency":
    case "currency per unit":
      return "";
    case "percent":
    case "%":
      return "\u00a0%";
    case "seconds":
      return "\u00a0s";
    default:
      return /\d/.test(unit) ? "" : `\u00a0${unit}`;
  }
}

/** A figure without its unit: for a column whose head names it. */
export function figure(value: Scalar | undefined, unit?: string | null, wording: Wording = {}): string {
  const number = toNumber(value);
  if (number === null) return value === null || value === undefined || value === "" ? "–" : String(value);
  const digits = decimals(unit ?? "", number);
  const fixed = (unit === "fraction" && digits > 0) || unit === "percent" || unit === "%" || unit === "currency" || unit === "currency per unit";
  return new Intl.NumberFormat(wording.locale, {
    maximumFractionDigits: digits,
    minimumFractionDigits: fixed ? digits : 0,
  }).format(number);
}

export function withUnit(value: Scalar | undefined, unit?: string | null, wording: Wording = {}): string {
  const text = figure(value, unit, wording);
  return toNumber(value) === null ? text : text + suffix(unit);
}

const WALL_TIME = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$/;

/** Whether a cell holds a moment as results do: wall time, without a zone. */
export const isMoment = (value: Scalar | undefined): value is string => typeof value === "string" && WALL_TIME.test(value);

/** A moment of a result: a day, and the time only where there is one. The data's own wall time. */
export function moment(value: string, wording: Wording = {}): string {
  const at = new Date(`${value.replace(" ", "T").slice(0, 10)}T${value.slice(11, 19) || "00:00:00"}Z`);
  if (Number.isNaN(at.getTime())) return value;
  const hasTime = at.getUTCHours() + at.getUTCMinutes() + at.getUTCSeconds() > 0;
  return new Intl.DateTimeFormat(wording.locale, {
    dateStyle: "medium",
    ...(hasTime ? { timeStyle: "short" } : {}),
    timeZone: "UTC",
  }).format(at);
}

/** Moments below each other on an axis: the year only where it changes, the time only where there is one. */
export function axisMoments(values: string[], wording: Wording = {}): string[] {
  const years = new Set(values.map((value) => value.slice(0, 4)));
  const timed = values.some((value) => !/^(00:00(:00(\.0+)?)?)?$/.test(value.slice(11)));
  const format = new Intl.DateTimeFormat(wording.locale, {
    day: "numeric",
    month: "short",
    ...(years.size > 1 ? { year: "numeric" } : {}),
    ...(timed ? { hour: "2-digit", minute: "2-digit" } : {}),
    timeZone: "UTC",
  });
  return values.map((value) => format.format(new Date(`${value.slice(0, 10)}T${value.slice(11, 19) || "00:00:00"}Z`)));
}

/** A moment of the machine (RFC 3339) in the reader's zone, or in the given one. */
export function clock(value: string | null | undefined, wording: Wording = {}): string {
  if (!value) return "–";
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) return value;
  return new Intl.DateTimeFormat(wording.locale, {
    dateStyle: "medium",
    timeStyle: "medium",
    ...(wording.timeZone ? { timeZone: wording.timeZone } : {}),
  }).format(at);
}

const STEPS: [limit: number, divisor: number, unit: string][] = [
  [1000, 1, "ms"],
  [60_000, 1000, "s"],
  [3_600_000, 60_000, "min"],
  [86_400_000, 3_600_000, "h"],
  [Infinity, 86_400_000, "d"],
];

/** A stretch of time in its largest fitting unit: "188 ms", "1.8 s", "4 h". */
export function duration(ms: number | null | undefined, wording: Wording = {}): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return "–";
  const [, divisor, unit] = STEPS.find(([limit]) => ms < limit) ?? STEPS[4]!;
  const digits = divisor === 1 || ms / divisor >= 10 ? 0 : 1;
  return `${new Intl.NumberFormat(wording.locale, { maximumFractionDigits: digits }).format(ms / divisor)}\u00a0${unit}`;
}

/** How long ago: "3 min ago". */
export function ago(value: string | null | undefined, now: number): string {
  if (!value) return "never";
  const ms = now - new Date(value).getTime();
  if (Number.isNaN(ms)) return value;
  return ms < 5000 ? "just now" : `${duration(ms)} ago`;
}

export const count = (n: number, one: string, many = `${one}s`): string =>
  `${new Intl.NumberFormat().format(n)}\u00a0${n === 1 ? one : many}`;
