import { useState } from "react";
import type { Answer } from "../api/types.ts";
import { Chart } from "../charts/Chart.tsx";
import { csv, save } from "../charts/csv.ts";
import { DataTable } from "../charts/DataTable.tsx";
import { moment } from "../charts/format.ts";
import { Kpi } from "../charts/Kpi.tsx";
import { columns, firstView, type View, views } from "../charts/views.ts";
import { Icon } from "../shell/Icon.tsx";

const NAMES: Record<View, string> = { kpi: "KPI", bar: "Bar", line: "Line", table: "Table" };

/** A result: one object, several views, and the way to its proof. */
export function ResultCard({ answer, onProof }: { answer: Answer; onProof: () => void }) {
  const { chart, rows, freshness } = answer;
  const possible = views(chart, rows);
  const [view, setView] = useState<View>(() => firstView(chart, rows));
  const title = chart?.title ?? "Rows";
  const heads = columns(chart, rows);
  return (
    <figure className="card result" aria-label={title}>
      <header className="card-head">
        <h3>{title}</h3>
        {possible.length > 1 && (
          <div className="switch" role="group" aria-label="View">
            {possible.map((name) => (
              <button type="button" key={name} aria-pressed={view === name} onClick={() => setView(name)}>
                {NAMES[name]}
              </button>
            ))}
          </div>
        )}
      </header>
      {view === "kpi" && chart && <Kpi spec={chart} row={rows[0]!} />}
      {(view === "bar" || view === "line") && chart && <Chart spec={chart} rows={rows} kind={view} />}
      {view === "table" && <DataTable caption={title} columns={heads} rows={rows} />}
      <footer className="card-foot">
        <button type="button" className="quiet strong" onClick={onProof}>
          <Icon name="info" />
          How I got this
        </button>
        <button type="button" className="quiet" onClick={() => save(title, csv(heads, rows))}>
          <Icon name="download" />
          CSV
        </button>
        {freshness?.data_to && <span className="dim small facts">Data to {moment(freshness.data_to)}</span>}
      </footer>
    </figure>
  );
}
