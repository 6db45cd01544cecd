import { Fragment, useState } from "react";
import { useResource } from "../api/resource.ts";
import type { Run } from "../api/types.ts";
import { ago, clock, duration, figure } from "../charts/format.ts";
import { Icon } from "../shell/Icon.tsx";
import { Empty, Problem } from "../shell/Page.tsx";
import { Status } from "../shell/Status.tsx";

const RUNS_SHOWN = 20;

/** What ran last, newest first; each opens to its steps. */
export function Runs({ now }: { now: number }) {
  const runs = useResource<{ items: Run[] }>(`/api/runs?limit=${RUNS_SHOWN}`, (type) => /sync_|build_|run|plan|metrics_/.test(type));
  const [open, setOpen] = useState<string | null>(null);
  const items = runs.data?.items ?? [];
  return (
    <section className="card" aria-label="Last runs">
      <h2>Runs</h2>
      {runs.error && <Problem what="The runs cannot be read" error={runs.error} onRetry={runs.reload} />}
      {runs.data && items.length === 0 && <Empty>Nothing has run yet.</Empty>}
      {items.length > 0 && (
        <div className="scroll" tabIndex={0} role="group" aria-label="Table of runs">
          <table aria-label="Runs">
            <thead>
              <tr>
                <th scope="col">Run</th>
                <th scope="col">State</th>
                <th scope="col">Started</th>
                <th scope="col" className="number">
                  Took
                </th>
                <th scope="col" className="number">
                  Tries
                </th>
                <th scope="col">Why, or what failed</th>
              </tr>
            </thead>
            <tbody>
              {items.map((run) => (
                <Fragment key={run.id}>
                  <RunLine run={run} now={now} open={open === run.id} onToggle={() => setOpen(open === run.id ? null : run.id)} />
                  {open === run.id && (
                    <tr>
                      <td colSpan={6}>
                        <Steps run={run} />
                      </td>
                    </tr>
                  )}
                </Fragment>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

interface LineProps {
  run: Run;
  now: number;
  open: boolean;
  onToggle: () => void;
}

function RunLine({ run, now, open, onToggle }: LineProps) {
  const name = [run.kind, run.scope].filter(Boolean).join(" ");
  return (
    <tr>
      <th scope="row">
        <button type="button" className="link" aria-expanded={open} aria-label={`Steps of ${name}, ${clock(run.started_at)}`} onClick={onToggle}>
          <Icon name={open ? "down" : "right"} />
          {name}
        </button>
      </th>
      <td>
        <Status state={run.state} />
      </td>
      <td title={clock(run.started_at)}>{ago(run.started_at, now)}</td>
      <td className="number">{duration(run.ms)}</td>
      <td className="number">{run.attempts}</td>
      <td>{run.error ? <span className="status bad wrap">{run.error}</span> : <span className="dim">{run.trigger}</span>}</td>
    </tr>
  );
}

function Steps({ run }: { run: Run }) {
  const full = useResource<Run>(`/api/runs/${run.id}`, (type) => run.state === "running" && /sync_|build_|table_|run/.test(type));
  const steps = full.data?.steps ?? [];
  if (full.error) return <Problem what="The steps cannot be read" error={full.error} />;
  if (full.data && steps.length === 0) return <Empty>No steps were recorded.</Empty>;
  return (
    <>
      <ol className="run-steps">
        {steps.map((step, i) => (
          <li key={i}>
            <Status state={step.state} />
            <span className="grow">{step.name}</span>
            {step.attempt > 1 && <span className="dim">try {step.attempt}</span>}
            {step.rows !== null && <span className="dim">{figure(step.rows)} rows</span>}
            <span className="dim">{duration(step.ms)}</span>
            {step.error && <span className="status bad wrap">{step.error}</span>}
          </li>
        ))}
      </ol>
      {run.trace_id && (
        <p className="dim small">
          Trace <code>{run.trace_id}</code>
        </p>
      )}
    </>
  );
}
