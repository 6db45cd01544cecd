import { useMemo, useState } from "react";
import type { Row } from "../api/types.ts";
import { figure, suffix, toNumber } from "./format.ts";
import { label } from "./series.ts";
import type { Column } from "./views.ts";

interface Order {
  key: string;
  down: boolean;
}

/** Rows at first; all on demand. */
const ROWS_FIRST = 50;

export function DataTable({ caption, columns, rows }: { caption: string; columns: Column[]; rows: Row[] }) {
  const [order, setOrder] = useState<Order | null>(null);
  const [all, setAll] = useState(false);
  const sorted = useMemo(() => (order ? sort(rows, order) : rows), [rows, order]);
  const shown = all ? sorted : sorted.slice(0, ROWS_FIRST);
  return (
    <>
      <div className="scroll" tabIndex={0} role="group" aria-label={caption}>
        <table>
          <caption className="hidden">{caption}</caption>
          <thead>
            <tr>
              {columns.map((column) => (
                <Head key={column.key} column={column} order={order} onOrder={setOrder} />
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row, i) => (
              <tr key={i}>
                {columns.map((c) => (
                  <td key={c.key} className={c.numeric ? "number" : undefined}>
                    {c.numeric ? figure(row[c.key], c.unit) : label(row[c.key])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length < rows.length && (
        <button type="button" className="quiet" onClick={() => setAll(true)}>
          Show all {rows.length.toLocaleString()} rows
        </button>
      )}
    </>
  );
}

function Head({ column, order, onOrder }: { column: Column; order: Order | null; onOrder: (order: Order) => void }) {
  const mine = order?.key === column.key ? order : null;
  const unit = suffix(column.unit).trim();
  return (
    <th scope="col" className={column.numeric ? "number" : undefined} aria-sort={mine ? (mine.down ? "descending" : "ascending") : "none"}>
      <button type="button" className="sort" onClick={() => onOrder({ key: column.key, down: mine ? !mine.down : column.numeric })}>
        {column.title}
        {unit && <span className="dim"> {unit}</span>}
        <span aria-hidden="true">{mine ? (mine.down ? " ↓" : " ↑") : ""}</span>
      </button>
    </th>
  );
}

function sort(rows: Row[], { key, down }: Order): Row[] {
  const sign = down ? -1 : 1;
  return rows.toSorted((a, b) => {
    const [x, y] = [toNumber(a[key]), toNumber(b[key])];
    if (x !== null && y !== null) return sign * (x - y);
    return sign * String(a[key] ?? "").localeCompare(String(b[key] ?? ""));
  });
}
