import { useEffect, useState } from "react";
import { postJson } from "../api/client.ts";
import { useResource } from "../api/resource.ts";
import type { Plan } from "../api/types.ts";
import { clock, count, figure } from "../charts/format.ts";
import { Sql } from "../ask/Sql.tsx";
import { Confirm } from "../shell/Dialog.tsx";
import { Loading, Problem } from "../shell/Page.tsx";
import { Status } from "../shell/Status.tsx";
import { useToast } from "../shell/Toasts.tsx";
import { type Deed, deeds, effect, isBusy, stateWord, WORDS } from "./plan.ts";
import { RowDiff } from "./RowDiff.tsx";

/** While something is under way. */
const LOOK_MS = 700;

export function PlanView({ id, allowed, onDone }: { id: string; allowed: boolean; onDone: () => void }) {
  const found = useResource<Plan>(`/api/write-backs/plans/${encodeURIComponent(id)}`, (type) => /plan|write_back/.test(type));
  const plan = found.data;
  const busy = plan !== null && isBusy(plan);
  const { reload } = found;
  useEffect(() => {
    if (!busy) {
      onDone();
      return;
    }
    const timer = setInterval(reload, LOOK_MS);
    return () => clearInterval(timer);
  }, [busy, plan?.state, reload, onDone]);
  if (found.error && !plan) return <Problem what="The plan cannot be read" error={found.error} onRetry={reload} />;
  if (!plan) return <Loading what="the plan" />;
  return (
    <section className="card plan" aria-label={`Plan ${plan.sync}`}>
      <div className="card-head">
        <h2>
          {plan.sync} → {plan.table} in {plan.source}
        </h2>
        <Status state={busy ? "running" : plan.state} word={stateWord(plan)} />
      </div>
      {plan.reason && <p>{plan.reason}</p>}
      {plan.error && (
        <p className="problem" role="alert">
          {plan.error}
        </p>
      )}
      <Told plan={plan} />
      {plan.ddl.length > 0 && (
        <details className="ddl" open={plan.state === "planned"}>
          <summary>{count(plan.ddl.length, "statement")} run first in the source</summary>
          <Sql text={plan.ddl.join(";\n")} />
        </details>
      )}
      {plan.state !== "planning" && <RowDiff plan={plan} />}
      <Deeds plan={plan} allowed={allowed} onDone={reload} />
    </section>
  );
}

/** Who asked, who approved, what was written and found again. */
function Told({ plan }: { plan: Plan }) {
  const facts: [string, string | null][] = [
    ["Planned", `${clock(plan.created_at)}, asked for by ${plan.requested_by}${plan.origin === "proposal" ? " (proposed)" : ""}`],
    ["Approved", plan.approved_at ? `${clock(plan.approved_at)} by ${plan.approved_by ?? "?"}` : null],
    ["Comment", plan.comment],
    ["Applied", plan.applied_at ? `${clock(plan.applied_at)}${plan.written === null ? "" : `: ${figure(plan.written)} rows written`}` : null],
    ["Undone", plan.undone_at ? clock(plan.undone_at) : null],
    ["Read back", readBack(plan)],
    ["Plan hash", plan.hash],
  ];
  return (
    <dl className="facts-list">
      {facts.map(([name, value]) =>
        value ? (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{name === "Plan hash" ? <code>{value}</code> : value}</dd>
          </div>
        ) : null,
      )}
    </dl>
  );
}

/** What was found in the target afterwards: "same 1,336, different 0". */
function readBack({ read_back }: Plan): string | null {
  const found = Object.entries(read_back ?? {}).filter(([, value]) => typeof value === "number");
  return found.length === 0 ? null : found.map(([what, n]) => `${what} ${figure(n as number)}`).join(", ");
}

function Deeds({ plan, allowed, onDone }: { plan: Plan; allowed: boolean; onDone: () => void }) {
  const [deed, setDeed] = useState<Deed | null>(null);
  const toast = useToast();
  const possible = deeds(plan);
  if (possible.length === 0) return null;
  const body = (words: string) => {
    const comment = words.trim() ? { comment: words.trim() } : {};
    return deed === "approve" ? { hash: plan.hash, ...comment } : deed === "reject" ? comment : {};
  };
  return (
    <div className="actions deeds">
      {possible.map((name, i) => (
        <button key={name} type="button" className={i === 0 && name !== "undo" ? "primary" : undefined} disabled={!allowed} onClick={() => setDeed(name)}>
          {WORDS[name]}
        </button>
      ))}
      {!allowed && <span className="dim small">Takes the role operator.</span>}
      {deed && (
        <Confirm
          title={`${WORDS[deed]} this plan?`}
          deed={WORDS[deed]}
          danger={deed === "undo" || deed === "reject"}
          comment={deed === "approve" || deed === "reject"}
          onClose={() => setDeed(null)}
          onConfirm={async (words) => {
            await postJson(`/api/write-backs/plans/${encodeURIComponent(plan.id)}/${deed}`, body(words));
            toast(`${plan.sync}: ${deed} done`);
            onDone();
          }}
        >
          <p>{effect(deed, plan)}</p>
        </Confirm>
      )}
    </div>
  );
}
