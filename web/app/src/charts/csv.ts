// A result as a file: titles in the head, the cells as they came.
import type { Row } from "../api/types.ts";
import type { Column } from "./views.ts";

export function csv(columns: Column[], rows: Row[]): string {
  const head = columns.map((c) => cell(c.title));
  const body = rows.map((row) => columns.map((c) => cell(row[c.key] ?? "")).join(","));
  return [head.join(","), ...body, ""].join("\r\n");
}

function cell(value: string | number | boolean): string {
  let text = String(value);
  // A spreadsheet would run a text that begins like a formula.
  if (/^[=+@\t\r]/.test(text) || (text.startsWith("-") && Number.isNaN(Number(text)))) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function save(name: string, content: string): void {
  const url = URL.createObjectURL(new Blob(["\ufeff", content], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "rows"}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
