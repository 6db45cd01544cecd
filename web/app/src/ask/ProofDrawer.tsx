import { useState } from "react";
import { postJson, said } from "../api/client.ts";
import { useResource } from "../api/resource.ts";
import type { Answer, Definition, Proof, Replay } from "../api/types.ts";
import { csv, save } from "../charts/csv.ts";
import { DataTable } from "../charts/DataTable.tsx";
import { clock, count, duration, moment } from "../charts/format.ts";
import { columns } from "../charts/views.ts";
import { CopyButton } from "../shell/CopyButton.tsx";
import { Dialog } from "../shell/Dialog.tsx";
import { Icon } from "../shell/Icon.tsx";
import { Behind } from "./Behind.tsx";
import { Fact, Part } from "./Part.tsx";
import { chosen, planner } from "./reading.ts";
import { Facts } from "./Facts.tsx";
import { Sql } from "./Sql.tsx";

interface Props {
  answer: Answer;
  question: string;
  onClose: () => void;
}

/** From the words of the question down to the rows: everything that the figures rest on. */
export function ProofDrawer({ answer, question, onClose }: Props) {
  const proof = useResource<Proof>(answer.proof_id ? `/api/proofs/${answer.proof_id}` : null);
  const heads = columns(answer.chart, answer.rows);
  const query = answer.query === null ? null : JSON.stringify(answer.query, null, 2);
  return (
    <Dialog title="How I got this" side onClose={onClose}>
      <p className="dim">{question}</p>
      <Part title="Interpretation">
        <Reading answer={answer} />
      </Part>
      {(answer.definition ?? []).length > 0 && (
        <Part title="Metric definition">
          {answer.definition!.map((definition) => (
            <Metric key={definition.member} definition={definition} />
          ))}
        </Part>
      )}
      {query && (
        <Part title="Query" action={<CopyButton text={query} what="query" />}>
          <pre tabIndex={0} aria-label="Query">{query}</pre>
        </Part>
      )}
      {answer.sql && (
        <Part title="SQL" action={<CopyButton text={answer.sql} what="SQL" />}>
          <Sql text={answer.sql} />
          <Timings proof={proof.data} />
        </Part>
      )}
      {answer.rows.length > 0 && (
        <Part
          title={`Rows (${answer.rows.length.toLocaleString()})`}
          action={
            <button type="button" className="quiet" onClick={() => save(question, csv(heads, answer.rows))}>
              <Icon name="download" />
              CSV
            </button>
          }
        >
          <DataTable caption="Rows of the answer" columns={heads} rows={answer.rows} />
        </Part>
      )}
      {answer.companion && answer.companion.rows.length > 0 && (
        <Part title="Compared with">
          <DataTable caption="Rows that were compared with" columns={columns(answer.chart, answer.companion.rows)} rows={answer.companion.rows} />
        </Part>
      )}
      <Part title="Freshness">
        <FreshnessFacts answer={answer} />
        {answer.query !== null && <Behind query={answer.query} />}
      </Part>
      {proof.data && <Facts proof={proof.data} />}
      <Part title="Proof">
        {proof.error && <p className="problem">{proof.error}</p>}
        <dl className="facts-list">
          {answer.proof_id && <Fact name="Proof" value={answer.proof_id} />}
          {proof.data?.checksum && <Fact name="Checksum" value={proof.data.checksum} />}
          {answer.trace_id && <Fact name="Trace" value={answer.trace_id} />}
          <Fact plain name="Planned by" value={planner(answer.backend)} />
        </dl>
        {answer.proof_id && <ReplayButton id={answer.proof_id} />}
      </Part>
    </Dialog>
  );
}

/** What each word was taken for. */
function Reading({ answer }: { answer: Answer }) {
  const reading = (answer.reading ?? []).filter(({ words, taken_for }) => words !== taken_for);
  if (reading.length === 0) return <p className="dim">The question was taken as it stands.</p>;
  return (
    <dl className="reading">
      {reading.map(({ words, taken_for }, i) => {
        const { taken, others } = chosen(taken_for, answer.query);
        return (
          <div key={i}>
            <dt>“{words}”</dt>
            <dd>
              {taken}
              {others.length > 0 && <span className="dim small effect">could also be {others.join(", ")}</span>}
            </dd>
          </div>
        );
      })}
    </dl>
  );
}

function Metric({ definition }: { definition: Definition }) {
  const { meta } = definition;
  const better = meta?.better ? `${meta.better} is better` : null;
  const facts = [meta?.unit && `unit: ${meta.unit}`, better, definition.member].filter(Boolean);
  return (
    <div className="metric">
      <p>
        <strong>{definition.title ?? definition.member}</strong>
      </p>
      {definition.description && <p>{definition.description}</p>}
      {definition.sql && <Sql text={definition.sql} />}
      <p className="dim small">{facts.join(" · ")}</p>
    </div>
  );
}

function Timings({ proof }: { proof: Proof | null }) {
  const ran = (proof?.statements ?? []).map((s) => s.elapsed_ms).filter((ms): ms is number => typeof ms === "number");
  if (ran.length === 0) return null;
  const total = ran.reduce((a, b) => a + b, 0);
  return (
    <p className="dim small">
      {count(ran.length, "statement")} in {duration(total)}
    </p>
  );
}

function FreshnessFacts({ answer }: { answer: Answer }) {
  const { freshness } = answer;
  if (!freshness) return <p className="dim">No data was read for this.</p>;
  return (
    <dl className="facts-list">
      {freshness.data_from && <Fact plain name="Data from" value={moment(freshness.data_from)} />}
      {freshness.data_to && <Fact plain name="Data to" value={moment(freshness.data_to)} />}
      {freshness.refreshed_at && <Fact plain name="Looked at" value={clock(freshness.refreshed_at)} />}
      <Fact name="Data version" value={String(freshness.data_version)} />
    </dl>
  );
}

/** Runs the statements again and says whether the same rows come. */
function ReplayButton({ id }: { id: string }) {
  const [busy, setBusy] = useState(false);
  const [told, setTold] = useState<{ same: boolean; text: string } | null>(null);
  const replay = () => {
    setBusy(true);
    postJson<Replay>(`/api/proofs/${id}/replay`)
      .then((result) => setTold({ same: result.same, text: tell(result) }))
      .catch((error: unknown) => setTold({ same: false, text: said(error) }))
      .finally(() => setBusy(false));
  };
  return (
    <div className="replay">
      <button type="button" disabled={busy} onClick={replay}>
        <Icon name="again" />
        {busy ? "Running again…" : "Replay proof"}
      </button>
      <p role="status" className={told && !told.same ? "status warn" : "status ok"}>
        {told && <Icon name={told.same ? "ok" : "warn"} />}
        {told?.text}
      </p>
    </div>
  );
}

function tell({ same, rows, changed }: Replay): string {
  if (same) return `The same ${count(rows, "row")} came again.`;
  return `Changed since: ${changed.join("; ") || "the rows"}.`;
}

