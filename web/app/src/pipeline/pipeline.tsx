import { lazy, Suspense, useEffect, useMemo, useState } from "react";
import { useLocation, useSearch } from "wouter";
import { postJson, said } from "../api/client.ts";
import { useResource } from "../api/resource.ts";
import type { Lineage } from "../api/types.ts";
import { figure } from "../charts/format.ts";
import { mayOperate, useBootstrap } from "../shell/bootstrap.tsx";
import { Empty, Loading, Page, Problem } from "../shell/Page.tsx";
import { useToast } from "../shell/Toasts.tsx";
import { AssetTable } from "./AssetTable.tsx";
import { Incidents, Schedules } from "./Duties.tsx";
import { focused, layout } from "./layout.ts";
import { NodePanel } from "./NodePanel.tsx";
import { Runs } from "./Runs.tsx";

const Graph = lazy(() => import("./graph.tsx"));

/** "3 min ago" grows old. */
const CLOCK_MS = 10_000;

export default function PipelinePage() {
  const lineage = useResource<Lineage>("/api/lineage", (type) => type !== "actor_changed");
  const [selected, setSelected] = useState<string | null>(null);
  const [focus, setFocus] = useFocus();
  const now = useNow();
  const shown = useMemo(() => (lineage.data ? focused(lineage.data, focus) : null), [lineage.data, focus]);
  const node = lineage.data?.nodes.find((it) => it.id === selected);
  const toggle = (id: string) => setSelected(id === selected ? null : id);
  return (
    <Page title="Pipeline" actions={<RunNow />}>
      {lineage.error && <Problem what="The pipeline cannot be read" error={lineage.error} onRetry={lineage.reload} />}
      {lineage.data?.error && <Problem what="The models cannot be read" error={lineage.data.error} />}
      {!lineage.data && !lineage.error && <Loading what="the pipeline" />}
      {shown && lineage.data && (
        <>
          {shown.nodes.length === 0 && <Empty>No sources, models or metrics yet: add a source to ballpoint.toml.</Empty>}
          {focus && (
            <p className="notice">
              Only what belongs to {lineage.data.nodes.find((it) => it.id === focus)?.name ?? focus} is shown.
              <button type="button" className="link" onClick={() => setFocus(null)}>
                Show all
              </button>
            </p>
          )}
          {shown.nodes.length > 0 && (
            <div className={node ? "split graph-split" : "graph-split"}>
              <div className="card flush">
                <Suspense fallback={<Loading what="the graph" />}>
                  <Graph lineage={shown} selected={selected} now={now} onSelect={toggle} />
                </Suspense>
              </div>
              {node && (
                <NodePanel node={node} lineage={lineage.data} focus={focus} onFocus={setFocus} onSelect={setSelected} onClose={() => setSelected(null)} />
              )}
            </div>
          )}
          {shown.nodes.length > 0 && <AssetTable nodes={layout(shown).nodes.map((placed) => placed.node)} selected={selected} now={now} onSelect={setSelected} />}
        </>
      )}
      <Runs now={now} />
      <div className="halves">
        <Incidents now={now} />
        <Schedules />
      </div>
    </Page>
  );
}

/** The focus stands in the address, so that it can be shared and survives a reload. */
function useFocus(): [string | null, (id: string | null) => void] {
  const search = useSearch();
  const [, navigate] = useLocation();
  const set = (id: string | null) => navigate(id === null ? "/pipeline" : `/pipeline?focus=${encodeURIComponent(id)}`, { replace: true });
  return [new URLSearchParams(search).get("focus"), set];
}

function useNow(): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), CLOCK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** One pass over everything; what did not change is not loaded again. */
function RunNow() {
  const [busy, setBusy] = useState(false);
  const { boot } = useBootstrap();
  const toast = useToast();
  const run = () => {
    setBusy(true);
    postJson<{ rows?: number; errors?: string[] }>("/api/run")
      .then((report) => toast(report?.errors?.length ? report.errors.join("; ") : `The run is through: ${figure(report?.rows ?? 0)} rows loaded`))
      .catch((error: unknown) => toast(`The run failed: ${said(error)}`))
      .finally(() => setBusy(false));
  };
  return (
    <button type="button" className="primary" disabled={busy || !mayOperate(boot)} title={mayOperate(boot) ? undefined : "Takes the role operator"} onClick={run}>
      {busy ? "Running…" : "Run now"}
    </button>
  );
}
