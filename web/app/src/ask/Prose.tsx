// Text with a little Markdown: paragraphs, lists, bold, code. Nodes, never HTML: a value of the data stays text.
import type { ReactNode } from "react";

export type Block = { kind: "p"; lines: string[] } | { kind: "ul" | "ol"; items: string[] };

const ITEM = /^\s*(?:[-*•]|(\d+)[.)])\s+(.*)$/;

export function blocks(text: string): Block[] {
  const found: Block[] = [];
  let broken = true;
  for (const line of text.split("\n")) {
    if (line.trim() === "") {
      broken = true;
      continue;
    }
    const item = ITEM.exec(line);
    const kind = item ? (item[1] ? "ol" : "ul") : "p";
    if (broken || found.at(-1)?.kind !== kind) found.push(kind === "p" ? { kind, lines: [] } : { kind, items: [] });
    const last = found.at(-1)!;
    if (last.kind === "p") last.lines.push(line);
    else last.items.push(item![2]!);
    broken = false;
  }
  return found;
}

/** `**bold**` and `` `code` ``; a mark without its partner is a character. */
export function inline(text: string): ReactNode[] {
  return text.split(/(\*\*[^*\n]+\*\*|`[^`\n]+`)/).map((part, i) => {
    if (part.startsWith("**") && part.endsWith("**") && part.length > 4) return <strong key={i}>{part.slice(2, -2)}</strong>;
    if (part.startsWith("`") && part.endsWith("`") && part.length > 2) return <code key={i}>{part.slice(1, -1)}</code>;
    return part;
  });
}

export function Prose({ text }: { text: string }) {
  return (
    <>
      {blocks(text).map((block, i) => {
        if (block.kind === "p") return <p key={i}>{inline(block.lines.join("\n"))}</p>;
        const List = block.kind;
        return (
          <List key={i}>
            {block.items.map((item, j) => (
              <li key={j}>{inline(item)}</li>
            ))}
          </List>
        );
      })}
    </>
  );
}
