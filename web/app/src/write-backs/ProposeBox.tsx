import { type FormEvent, useState } from "react";
import { postJson, said } from "../api/client.ts";
import type { Plan, Proposal } from "../api/types.ts";

/** Words → a plan with its reason. Never a write: that takes an approval. */
export function ProposeBox({ allowed, actions, onPlan }: { allowed: boolean; actions: string[]; onPlan: (plan: Plan) => void }) {
  const [request, setRequest] = useState("");
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!request.trim()) return;
    setBusy(true);
    setRefusal(null);
    postJson<Proposal>("/api/write-backs/propose", { request: request.trim() })
      .then(({ plan, refusal: why }) => {
        if (plan) onPlan(plan);
        else setRefusal(why ?? "This could not be made into a plan.");
      })
      .catch((error: unknown) => setRefusal(said(error)))
      .finally(() => setBusy(false));
  };
  return (
    <section className="card">
      <form aria-label="Propose a write-back" onSubmit={submit}>
        <h2>Propose a write-back</h2>
        <div className="row">
          <label className="field grow">
            What should be written?
            <input
              value={request}
              maxLength={500}
              placeholder={actions[0] ? `${actions[0]} … with more than 5 % …` : "what to do, and with which rows"}
              disabled={!allowed}
              onChange={(event) => setRequest(event.target.value)}
            />
          </label>
          <button type="submit" className="primary" disabled={busy || !allowed}>
            {busy ? "Proposing…" : "Propose"}
          </button>
        </div>
        <p className="dim small">{actions.length > 0 && `Known: ${actions.join(", ")}. `}
          {allowed ? "Makes a plan with its rows and its reason. Nothing is written before somebody approves it." : "Takes the role operator."}</p>
        <div role="status">{refusal && <p className="problem">{refusal}</p>}</div>
      </form>
    </section>
  );
}
