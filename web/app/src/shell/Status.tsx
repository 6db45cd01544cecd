import { Icon, type IconName } from "./Icon.tsx";

type Tone = "ok" | "running" | "warn" | "bad" | "quiet";

const LOOKS: Record<string, [Tone, IconName]> = {
  ok: ["ok", "ok"],
  running: ["running", "running"],
  succeeded: ["ok", "ok"],
  success: ["ok", "ok"],
  nothing_new: ["quiet", "ok"],
  skipped: ["quiet", "stop"],
  interrupted: ["warn", "warn"],
  planning: ["running", "running"],
  done: ["ok", "ok"],
  finished: ["ok", "ok"],
  passed: ["ok", "ok"],
  applied: ["ok", "ok"],
  closed: ["ok", "ok"],
  approved: ["ok", "ok"],
  starting: ["running", "running"],
  retrying: ["warn", "again"],
  backoff: ["warn", "again"],
  warn: ["warn", "warn"],
  stale: ["warn", "warn"],
  open: ["bad", "warn"],
  degraded: ["warn", "warn"],
  parked: ["bad", "failed"],
  failed: ["bad", "failed"],
  error: ["bad", "failed"],
  invalid: ["bad", "failed"],
  paused: ["warn", "paused"],
  stopped: ["quiet", "stop"],
  rejected: ["quiet", "failed"],
  undone: ["quiet", "again"],
  planned: ["running", "waiting"],
  queued: ["quiet", "waiting"],
  waiting: ["running", "waiting"],
};

export const look = (state: string): [Tone, IconName] => LOOKS[state] ?? ["quiet", "unknown"];

/** A state as icon, word and colour together. An actor that runs is well, a run that runs is on its way. */
export function Status({ state, word, wellWhenRunning = false }: { state: string; word?: string; wellWhenRunning?: boolean }) {
  const [tone, icon] = look(wellWhenRunning && state === "running" ? "ok" : state);
  return (
    <span className={`status ${tone}`}>
      <Icon name={icon} />
      {word ?? state.replaceAll("_", " ")}
    </span>
  );
}
