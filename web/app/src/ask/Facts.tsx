import type { Proof } from "../api/types.ts";
import { Part } from "./Part.tsx";

const PARTS: [key: string, title: string][] = [
  ["models", "Models"],
  ["tests", "Tests"],
  ["tables", "Tables"],
  ["sources", "Sources"],
];

/** What a proof holds beyond the answer: the models, tests, tables and source positions behind it. */
export function Facts({ proof }: { proof: Proof }) {
  return PARTS.map(([key, title]) => {
    const lines = linesOf(proof[key]);
    if (lines.length === 0) return null;
    return (
      <Part key={key} title={title}>
        <ul className="plain-list">
          {lines.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      </Part>
    );
  });
}

/** A line an item; of an object its name, then its other plain values. */
export function linesOf(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(lineOf).filter((line) => line !== "");
  if (typeof value === "object" && value !== null) return Object.entries(value).map(([name, it]) => `${name}: ${lineOf(it)}`);
  return [];
}

function lineOf(item: unknown): string {
  if (typeof item !== "object" || item === null) return String(item ?? "");
  const { name, ...rest } = item as Record<string, unknown>;
  const others = Object.entries(rest).filter(([, v]) => v !== null && typeof v !== "object");
  return [name, ...others.map(([key, v]) => `${key.replaceAll("_", " ")} ${String(v)}`)].filter(Boolean).join(" · ");
}
