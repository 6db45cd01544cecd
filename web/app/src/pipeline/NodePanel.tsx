import { useState } from "react";
import { Link } from "wouter";
import { postJson, said } from "../api/client.ts";
import type { Lineage, LineageNode } from "../api/types.ts";
import { clock, figure } from "../charts/format.ts";
import { mayOperate, useBootstrap } from "../shell/bootstrap.tsx";
import { Icon } from "../shell/Icon.tsx";
import { Status } from "../shell/Status.tsx";
import { useToast } from "../shell/Toasts.tsx";
import { testsOf } from "./AssetTable.tsx";
import { KINDS } from "./words.ts";

interface Props {
  node: LineageNode;
  lineage: Lineage;
  focus: string | null;
  onFocus: (id: string | null) => void;
  onSelect: (id: string) => void;
  onClose: () => void;
}

/** One asset: where it stands, what is beside it, what can be done. */
export function NodePanel({ node, lineage, focus, onFocus, onSelect, onClose }: Props) {
  const { boot } = useBootstrap();
  const near = (here: "from" | "to", there: "from" | "to") =>
    lineage.edges.filter((e) => e[here] === node.id).flatMap((e) => lineage.nodes.filter((n) => n.id === e[there]));
  const facts: [string, string][] = [
    ["Relation", node.relation ?? ""],
    ["Fresh at", node.fresh_at ? clock(node.fresh_at) : ""],
    ["Rows", node.rows === null || node.rows === undefined ? "" : figure(node.rows)],
    ["Tests", testsOf(node) === "–" ? "" : testsOf(node)],
    ["About", node.detail ?? ""],
  ];
  return (
    <section className="card panel" aria-label={node.name}>
      <div className="card-head">
        <h2>{node.name}</h2>
        <button type="button" className="plain" aria-label={`Close ${node.name}`} onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <p className="dim">
        {node.layer && node.kind === "model" ? `${node.layer} model` : (KINDS[node.kind] ?? node.kind)} · <Status state={node.status} />
      </p>
      <dl className="facts-list">
        {facts
          .filter(([, value]) => value !== "")
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
        <Neighbours name="Reads" nodes={near("to", "from")} onSelect={onSelect} />
        <Neighbours name="Read by" nodes={near("from", "to")} onSelect={onSelect} />
      </dl>
      <div className="actions">
        <button type="button" aria-pressed={focus === node.id} onClick={() => onFocus(focus === node.id ? null : node.id)}>
          Focus
        </button>
        {node.kind === "source" && <SyncButton source={node.name} allowed={mayOperate(boot)} />}
        {node.kind === "write_back" && (
          <Link className="button" href="/write-backs">
            Write-backs
          </Link>
        )}
      </div>
    </section>
  );
}

function Neighbours({ name, nodes, onSelect }: { name: string; nodes: LineageNode[]; onSelect: (id: string) => void }) {
  if (nodes.length === 0) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd className="actions">
        {nodes.map((node) => (
          <button type="button" className="link" key={node.id} onClick={() => onSelect(node.id)}>
            {node.name}
          </button>
        ))}
      </dd>
    </div>
  );
}

function SyncButton({ source, allowed }: { source: string; allowed: boolean }) {
  const [busy, setBusy] = useState(false);
  const toast = useToast();
  const sync = () => {
    setBusy(true);
    postJson<{ rows?: number }>("/api/sync", { sources: [source] })
      .then((report) => toast(`${source} synced: ${figure(report?.rows ?? 0)} rows`))
      .catch((error: unknown) => toast(`${source}: ${said(error)}`))
      .finally(() => setBusy(false));
  };
  return (
    <button type="button" disabled={busy || !allowed} onClick={sync}>
      {busy ? "Syncing…" : "Sync now"}
    </button>
  );
}
