import { useEffect, useState } from "react";
import { useResource } from "../api/resource.ts";
import type { Actor } from "../api/types.ts";
import { useBootstrap } from "../shell/bootstrap.tsx";
import { Icon } from "../shell/Icon.tsx";
import { Loading, Page, Problem } from "../shell/Page.tsx";
import { ActorPanel } from "./ActorPanel.tsx";
import { ActorTree } from "./ActorTree.tsx";
import { EventLog } from "./EventLog.tsx";
import { everyone, tally } from "./tree.ts";

/** Queues and uptimes change without an event. */
const LOOK_MS = 3000;

export default function SystemPage() {
  const tree = useResource<Actor[]>("/api/actors", (type) => type === "actor_changed");
  const { boot } = useBootstrap();
  const [chosen, setChosen] = useState<string | null>(null);
  const { reload } = tree;
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") reload();
    }, LOOK_MS);
    return () => clearInterval(timer);
  }, [reload]);
  const actors = tree.data ?? [];
  const selected = everyone(actors).find((actor) => actor.name === chosen) ?? actors[0] ?? null;
  return (
    <Page title="System">
      {tree.error && <Problem what="The actors cannot be read" error={tree.error} onRetry={reload} />}
      {(boot?.degraded ?? []).map((what) => (
        <p key={what} className="notice warn">
          <Icon name="warn" />
          {what}
        </p>
      ))}
      {tree.data === null && !tree.error && <Loading what="the actors" />}
      {actors.length > 0 && (
        <>
          <p className="dim tally">
            {tally(actors)}
            {boot && ` · version ${boot.version}`}
          </p>
          <div className="split">
            <ActorTree actors={actors} selected={selected?.name ?? ""} onSelect={setChosen} />
            {selected && <ActorPanel actor={selected} isRoot={selected.name === actors[0]?.name} onDone={reload} />}
          </div>
        </>
      )}
      <EventLog />
    </Page>
  );
}
