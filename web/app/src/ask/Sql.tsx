// SQL with its words told apart; a tokenizer is enough for reading.

export type Token = { kind: "word" | "key" | "text" | "number" | "name" | "note"; text: string };

const KEYS = new Set(
  "select from where group by order having limit offset as on and or not in is null case when then else end join left right inner outer full cross with union all distinct asc desc between like ilike filter over partition interval true false nulls first last cast".split(
    " ",
  ),
);
const TOKENS = /(--[^\n]*)|('(?:[^']|'')*')|("(?:[^"]|"")*")|(\b\d+(?:\.\d+)?\b)|([A-Za-z_]\w*)|([\s\S])/g;

export function tokens(sql: string): Token[] {
  const found: Token[] = [];
  for (const [text, note, literal, name, number, word] of sql.matchAll(TOKENS)) {
    const kind = note ? "note" : literal ? "text" : name ? "name" : number ? "number" : word && KEYS.has(word.toLowerCase()) ? "key" : "word";
    const last = found.at(-1);
    if (kind === "word" && last?.kind === "word") last.text += text;
    else found.push({ kind, text });
  }
  return found;
}

const BREAKS = /\s+(?=(?:FROM|WHERE|GROUP BY|ORDER BY|HAVING|LIMIT|LEFT JOIN|INNER JOIN|UNION)\b)/g;

/** Statements are kept as one line; their clauses are read better below each other. */
export const folded = (sql: string): string => (sql.includes("\n") ? sql : sql.replace(BREAKS, "\n"));

export function Sql({ text }: { text: string }) {
  return (
    <pre className="sql" tabIndex={0} aria-label="SQL">
      {tokens(folded(text)).map((token, i) => (token.kind === "word" ? token.text : <span key={i} className={`sql-${token.kind}`}>{token.text}</span>))}
    </pre>
  );
}
