import { useResource } from "../api/resource.ts";
import type { Incident, Schedule } from "../api/types.ts";
import { ago, clock } from "../charts/format.ts";
import { Empty, Problem } from "../shell/Page.tsx";
import { Status } from "../shell/Status.tsx";

/** What is wrong now, and what was lately. */
export function Incidents({ now }: { now: number }) {
  const found = useResource<{ items: Incident[] }>("/api/incidents", (type) => /incident|source_|sync_|build_/.test(type));
  if (found.missing) return null;
  const items = found.data?.items ?? [];
  return (
    <section className="card" aria-label="Incidents">
      <h2>Incidents</h2>
      {found.error && <Problem what="The incidents cannot be read" error={found.error} onRetry={found.reload} />}
      {found.data && items.length === 0 && <Empty>None. What fails for longer, or grows stale, opens one here.</Empty>}
      <ul className="rows">
        {items.map((incident) => (
          <li key={incident.id}>
            <Status state={incident.closed_at ? "closed" : "open"} />
            <span className="grow">
              {incident.title.replaceAll("_", " ")}
              {incident.detail && <span className="dim small effect">{incident.detail}</span>}
            </span>
            <span className="dim" title={clock(incident.opened_at)}>
              {incident.closed_at ? `closed ${ago(incident.closed_at, now)}` : `open since ${ago(incident.opened_at, now)}`}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** When what runs by itself. */
export function Schedules() {
  const found = useResource<{ items: Schedule[] }>("/api/schedules", (type) => /schedule|run/.test(type));
  if (found.missing) return null;
  const items = found.data?.items ?? [];
  return (
    <section className="card" aria-label="Schedules">
      <h2>Schedules</h2>
      {found.error && <Problem what="The schedules cannot be read" error={found.error} onRetry={found.reload} />}
      {found.data && items.length === 0 && <Empty>None: runs follow the data. Add [schedules.&lt;name&gt;] to ballpoint.toml for fixed times.</Empty>}
      <ul className="rows">
        {items.map((schedule) => (
          <li key={schedule.name}>
            <strong>{schedule.name}</strong>
            <code>{schedule.cron}</code>
            <span className="dim grow">{schedule.timezone}</span>
            <span>next {clock(schedule.next_at, { timeZone: schedule.timezone })}</span>
            {schedule.last_state && <Status state={schedule.last_state} word={`last: ${schedule.last_state.replaceAll("_", " ")}`} />}
          </li>
        ))}
      </ul>
    </section>
  );
}
