import { useEvents } from "../api/events.tsx";
import { Empty } from "../shell/Page.tsx";
import { Status } from "../shell/Status.tsx";
import { describe } from "./describe.ts";

const WORD = { ok: "ok", warn: "warn", bad: "failed", quiet: "info" } as const;
const STATE = { ok: "ok", warn: "warn", bad: "failed", quiet: "queued" } as const;
const STATES: Record<string, string> = { connecting: "connecting…", live: "live", lost: "not connected", absent: "not served" };

/** What happens, as it happens; newest first. */
export function EventLog() {
  const { recent, state } = useEvents();
  return (
    <section className="card" aria-label="Live events">
      <div className="card-head">
        <h2>Events</h2>
        <span className="dim small">{STATES[state]}</span>
      </div>
      <div className="events" role="log" aria-label="Events" tabIndex={0}>
        {recent.length === 0 && <Empty>Nothing has happened since this page was opened.</Empty>}
        {recent.map((event, i) => {
          const { tone, text } = describe(event);
          return (
            <p key={event.id ?? `${event.at}.${i}`}>
              <time className="dim" dateTime={event.at}>
                {new Date(event.at).toLocaleTimeString()}
              </time>
              <Status state={STATE[tone]} word={WORD[tone]} />
              <span className="grow">{text}</span>
            </p>
          );
        })}
      </div>
    </section>
  );
}
