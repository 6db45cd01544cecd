import { useState } from "react";
import { Link, useLocation, useParams } from "wouter";
import { postJson, said } from "../api/client.ts";
import { useResource } from "../api/resource.ts";
import type { Plan, Sync, WriteBacks } from "../api/types.ts";
import { clock } from "../charts/format.ts";
import { mayOperate, useBootstrap } from "../shell/bootstrap.tsx";
import { Empty, Loading, Page, Problem } from "../shell/Page.tsx";
import { Status } from "../shell/Status.tsx";
import { Counts } from "./Counts.tsx";
import { isBusy, stateWord } from "./plan.ts";
import { PlanView } from "./PlanView.tsx";
import { ProposeBox } from "./ProposeBox.tsx";

export default function WriteBacksPage() {
  const { plan: chosen } = useParams<{ plan?: string }>();
  const [, navigate] = useLocation();
  const { boot } = useBootstrap();
  const all = useResource<WriteBacks>("/api/write-backs", (type) => /plan|write_back|build_published/.test(type));
  const show = (plan: Plan) => {
    all.reload();
    navigate(`/write-backs/${plan.id}`);
  };
  const { syncs = [], plans = [] } = all.data ?? {};
  const operator = mayOperate(boot);
  return (
    <Page title="Write-backs">
      {all.error && !all.missing && <Problem what="The write-backs cannot be read" error={all.error} onRetry={all.reload} />}
      {!all.data && !all.error && <Loading what="the write-backs" />}
      {all.data?.syncs_error && <Problem what="The syncs cannot be read" error={all.data.syncs_error} />}
      {(all.missing || (all.data && syncs.length === 0 && !all.data.syncs_error)) && <Empty>No syncs: add [reverse_etl] path to ballpoint.toml, and a sync file there.</Empty>}
      {syncs.length > 0 && (
        <>
          <ProposeBox allowed={operator} actions={[...new Set(syncs.flatMap((sync) => sync.actions ?? []))]} onPlan={show} />
          <Syncs syncs={syncs} allowed={operator} onPlan={show} />
        </>
      )}
      {chosen && <PlanView key={chosen} id={chosen} allowed={operator} onDone={all.reload} />}
      {(syncs.length > 0 || plans.length > 0) && <Plans plans={plans} chosen={chosen ?? null} />}
    </Page>
  );
}

function Syncs({ syncs, allowed, onPlan }: { syncs: Sync[]; allowed: boolean; onPlan: (plan: Plan) => void }) {
  return (
    <section className="card" aria-label="Syncs">
      <h2>Syncs</h2>
      <ul className="rows">
        {syncs.map((sync) => (
          <SyncLine key={sync.name} sync={sync} allowed={allowed} onPlan={onPlan} />
        ))}
      </ul>
    </section>
  );
}

function SyncLine({ sync, allowed, onPlan }: { sync: Sync; allowed: boolean; onPlan: (plan: Plan) => void }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const plan = () => {
    setBusy(true);
    setProblem(null);
    postJson<Plan>(`/api/write-backs/${encodeURIComponent(sync.name)}/plan`)
      .then(onPlan)
      .catch((error: unknown) => setProblem(said(error)))
      .finally(() => setBusy(false));
  };
  return (
    <li>
      <span className="grow">
        <strong>{sync.name}</strong>{" "}
        <span className="dim">
          → {sync.table} in {sync.source}
          {sync.mode && ` (${sync.mode})`}
        </span>
        {sync.description && <span className="dim small effect">{sync.description}</span>}
        {problem && (
          <span className="problem" role="alert">
            {problem}
          </span>
        )}
      </span>
      <button type="button" disabled={busy || !allowed} aria-label={`Plan ${sync.name}`} onClick={plan}>
        {busy ? "Planning…" : "Plan"}
      </button>
    </li>
  );
}

/** All plans, newest first: those that wait, and what became of the others. */
function Plans({ plans, chosen }: { plans: Plan[]; chosen: string | null }) {
  return (
    <section className="card" aria-label="History">
      <h2>Plans</h2>
      {plans.length === 0 && <Empty>No plans yet. A plan shows every row before anything is written.</Empty>}
      <ul className="rows" aria-label="Plans">
        {plans.map((plan) => (
          <li key={plan.id}>
            <Status state={isBusy(plan) ? "running" : plan.state} word={stateWord(plan)} />
            <span className="grow">
              <Link href={`/write-backs/${plan.id}`} aria-current={plan.id === chosen ? "true" : undefined}>
                {plan.sync}
              </Link>{" "}
              <span className="dim">{clock(plan.created_at)}</span>
              {plan.reason && <span className="dim small effect">{plan.reason}</span>}
            </span>
            <Counts counts={plan.counts} />
          </li>
        ))}
      </ul>
    </section>
  );
}
