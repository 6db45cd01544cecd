import { type KeyboardEvent, useEffect, useId, useRef, useState } from "react";
import { getJson, said } from "../api/client.ts";
import type { Plan, PlanRow, PlanRows } from "../api/types.ts";
import { figure } from "../charts/format.ts";
import { Empty, Problem } from "../shell/Page.tsx";
import { changes, keyOf } from "./plan.ts";

type Kind = "added" | "changed" | "removed" | "invalid";
const TABS: [Kind, string][] = [
  ["added", "Added"],
  ["changed", "Changed"],
  ["removed", "Removed"],
  ["invalid", "Invalid"],
];
const PAGE_ROWS = 50;

/** Every row that the plan touches, old → new, by what happens to it. */
export function RowDiff({ plan }: { plan: Plan }) {
  const first = TABS.find(([kind]) => plan.counts[kind] > 0)?.[0] ?? "added";
  const [kind, setKind] = useState<Kind>(first);
  const id = useId();
  const tabs = useRef<HTMLDivElement>(null);
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const at = (TABS.findIndex(([name]) => name === kind) + step + TABS.length) % TABS.length;
    setKind(TABS[at]![0]);
    tabs.current?.querySelectorAll("button")[at]?.focus();
  };
  return (
    <div className="diff">
      <div role="tablist" aria-label="Rows" ref={tabs} onKeyDown={onKeyDown}>
        {TABS.map(([name, title]) => (
          <button
            type="button"
            role="tab"
            key={name}
            id={`${id}-${name}`}
            aria-selected={kind === name}
            aria-controls={`${id}-rows`}
            tabIndex={kind === name ? 0 : -1}
            onClick={() => setKind(name)}
          >
            {title} {figure(plan.counts[name])}
          </button>
        ))}
        <span className="dim small unchanged">
          {figure(plan.counts.unchanged)} unchanged{plan.counts.skipped ? `, ${figure(plan.counts.skipped)} skipped` : ""}
        </span>
      </div>
      <div role="tabpanel" id={`${id}-rows`} aria-labelledby={`${id}-${kind}`} tabIndex={0}>
        <Rows key={`${plan.id} ${kind} ${plan.hash}`} plan={plan} kind={kind} />
      </div>
    </div>
  );
}

function Rows({ plan, kind }: { plan: Plan; kind: Kind }) {
  const [rows, setRows] = useState<PlanRow[]>([]);
  const [asked, setAsked] = useState<number | null>(null);
  const [read, setRead] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const total = plan.counts[kind];
  useEffect(() => {
    if (total === 0) return;
    let gone = false;
    const after = asked === null ? "" : `&after=${asked}`;
    getJson<PlanRows>(`/api/write-backs/plans/${encodeURIComponent(plan.id)}/rows?kind=${kind}&limit=${PAGE_ROWS}${after}`).then(
      (page) => {
        if (gone) return;
        setRows((old) => (asked === null ? page.items : [...old.filter((row) => row.seq <= asked), ...page.items]));
        setRead(true);
      },
      (error: unknown) => {
        if (!gone) setProblem(said(error));
      },
    );
    return () => {
      gone = true;
    };
  }, [plan.id, kind, asked, total]);
  if (total === 0) return <Empty>No {kind} rows.</Empty>;
  if (problem) return <Problem what="The rows cannot be read" error={problem} />;
  return (
    <>
      <div className="scroll" tabIndex={0} role="group" aria-label={`Rows that are ${kind}`}>
        <table aria-label="Rows of the plan" aria-busy={!read}>
          <thead>
            <tr>
              <th scope="col">{keyTitle(rows)}</th>
              <th scope="col">{kind === "invalid" ? "Problem" : "Old → new"}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.seq}>
                <th scope="row">{keyOf(row)}</th>
                <td>{kind === "invalid" ? <span className="status bad wrap">{row.problem}</span> : <Changes row={row} />}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {read && rows.length < total && (
        <button type="button" className="quiet" onClick={() => setAsked(rows.at(-1)?.seq ?? null)}>
          Show more ({figure(total - rows.length)} left)
        </button>
      )}
    </>
  );
}

const keyTitle = (rows: PlanRow[]): string => Object.keys(rows[0]?.key ?? {}).join(" · ") || "Key";

function Changes({ row }: { row: PlanRow }) {
  return (
    <ul className="changes">
      {changes(row).map((change) => (
        <li key={change.column}>
          <span className="dim">{change.column}</span>{" "}
          {row.kind !== "added" && (
            <>
              <del>{change.old ?? "∅"}</del> <span aria-hidden="true">→</span>{" "}
            </>
          )}
          {row.kind !== "removed" && <ins>{change.new ?? "∅"}</ins>}
        </li>
      ))}
    </ul>
  );
}
