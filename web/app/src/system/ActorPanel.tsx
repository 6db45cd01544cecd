import { useState } from "react";
import { postJson } from "../api/client.ts";
import type { Actor } from "../api/types.ts";
import { duration } from "../charts/format.ts";
import { mayOperate, useBootstrap } from "../shell/bootstrap.tsx";
import { Confirm } from "../shell/Dialog.tsx";
import { Status } from "../shell/Status.tsx";
import { useToast } from "../shell/Toasts.tsx";
import { everyone } from "./tree.ts";

type Deed = "restart" | "pause" | "resume";
const WORDS: Record<Deed, string> = { restart: "Restart", pause: "Pause", resume: "Resume" };

interface Props {
  actor: Actor;
  /** Everything hangs on it: it is restarted by restarting the program. */
  isRoot: boolean;
  onDone: () => void;
}

/** One actor: how it is, and what an operator may do to it. */
export function ActorPanel({ actor, isRoot, onDone }: Props) {
  const [deed, setDeed] = useState<Deed | null>(null);
  const { boot } = useBootstrap();
  const toast = useToast();
  const below = everyone(actor.children).length;
  const allowed = mayOperate(boot) && !isRoot;
  const resting = actor.state === "paused" || actor.state === "parked";
  return (
    <section className="card panel" aria-label={`Actor ${actor.name}`}>
      <div className="card-head">
        <h2>{actor.name}</h2>
        <Status state={actor.state} wellWhenRunning />
      </div>
      <dl className="facts-list">
        <Fact name="Uptime" value={duration(actor.uptime_ms)} />
        <Fact name="Incarnation" value={String(actor.incarnation)} />
        <Fact name="Restarts" value={String(actor.restarts)} />
        <Fact name="Queue" value={String(actor.queue)} />
        {below > 0 && <Fact name="Supervises" value={String(below)} />}
        {actor.last_error && <Fact name="Last error" value={actor.last_error} />}
      </dl>
      <div className="actions">
        <button type="button" disabled={!allowed} onClick={() => setDeed("restart")}>
          Restart
        </button>
        <button type="button" disabled={!allowed} onClick={() => setDeed(resting ? "resume" : "pause")}>
          {resting ? "Resume" : "Pause"}
        </button>
      </div>
      {!mayOperate(boot) && <p className="dim small">Restarting takes the role operator.</p>}
      {isRoot && <p className="dim small">The root is restarted with the program.</p>}
      {deed && (
        <Confirm
          title={`${WORDS[deed]} ${actor.name}?`}
          deed={WORDS[deed]}
          danger={deed === "pause"}
          onClose={() => setDeed(null)}
          onConfirm={async () => {
            await postJson(`/api/actors/${encodeURIComponent(actor.name)}/${deed}`);
            toast(`${actor.name}: ${deed} done`);
            onDone();
          }}
        >
          <p>{effect(deed, below)}</p>
        </Confirm>
      )}
    </section>
  );
}

function effect(deed: Deed, below: number): string {
  const those = below > 0 ? ` and the ${below} below it` : "";
  switch (deed) {
    case "restart":
      return `It${those} stops and starts again. Questions under way are still answered; queued work resumes from its rows.`;
    case "pause":
      return `It${those} stops until somebody resumes it. Its work waits; the system is degraded meanwhile.`;
    case "resume":
      return `It${those} starts again and takes up the work that waits.`;
  }
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
