import { count, duration } from "../charts/format.ts";
import { Icon } from "../shell/Icon.tsx";
import { look } from "../shell/Status.tsx";
import { isOpen, type Step } from "./turn.ts";

/** What the agents do: open while they work, one line when they are done. */
export function Steps({ steps, busy, ms }: { steps: Step[]; busy: boolean; ms: number | null }) {
  if (steps.length === 0) return busy ? <p className="dim working">Reading the question…</p> : null;
  const list = (
    <ol className="steps">
      {steps.map((step) => (
        <li key={step.id} className={isOpen(step) ? "open" : undefined}>
          <span className={`status ${look(step.status)[0]}`}>
            <Icon name={look(step.status)[1]} />
            <span className="hidden">{step.status}</span>
          </span>
          <span className="agent">{step.agent}</span>
          <span className="grow">
            {step.label}
            {step.attempt !== null && step.attempt > 1 && <span className="dim"> (try {step.attempt})</span>}
          </span>
          <span className="dim">{step.ms === null ? "" : duration(step.ms)}</span>
        </li>
      ))}
    </ol>
  );
  if (busy) return list;
  return (
    <details className="steps-done">
      <summary>
        {count(steps.length, "step")}
        {ms !== null && ` · ${duration(ms)}`}
      </summary>
      {list}
    </details>
  );
}
