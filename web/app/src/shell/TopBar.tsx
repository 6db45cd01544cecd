import { Link, useLocation } from "wouter";
import { moment } from "../charts/format.ts";
import { useBootstrap } from "./bootstrap.tsx";
import { Icon } from "./Icon.tsx";
import { useTheme } from "./theme.ts";

const TABS: [path: string, name: string][] = [
  ["/", "Ask"],
  ["/pipeline", "Pipeline"],
  ["/write-backs", "Write-backs"],
  ["/system", "System"],
];

export function TopBar({ onHelp }: { onHelp: () => void }) {
  const [path] = useLocation();
  const { boot } = useBootstrap();
  const current = (tab: string) => (tab === "/" ? path === "/" || path.startsWith("/ask") : path.startsWith(tab));
  return (
    <header className="bar">
      <Link href="/" className="mark">
        Ballpoint
      </Link>
      <nav aria-label="Pages" className="tabs">
        {TABS.map(([tab, name]) => (
          <Link key={tab} href={tab} aria-current={current(tab) ? "page" : undefined}>
            {name}
            {tab === "/write-backs" && boot && boot.write_backs_waiting > 0 && (
              <span className="counter">
                {boot.write_backs_waiting}
                <span className="hidden"> waiting</span>
              </span>
            )}
          </Link>
        ))}
      </nav>
      <div className="bar-end">
        <FreshnessPill />
        <BackendBadge />
        <ThemeButton />
        <button type="button" className="plain wide-only" aria-label="Keyboard shortcuts" onClick={onHelp}>
          <span aria-hidden="true">?</span>
        </button>
      </div>
    </header>
  );
}

/** Up to when the data goes, and whether something does not work. */
function FreshnessPill() {
  const { boot } = useBootstrap();
  if (!boot) return null;
  const bad = boot.degraded.length > 0;
  const to = boot.data?.to;
  const words = to ? `Data to ${moment(to)}` : "No data yet";
  return (
    <Link href={bad ? "/system" : "/pipeline"} className={bad ? "pill warn" : "pill"} title={boot.degraded.join("; ") || undefined}>
      <Icon name={bad ? "warn" : to ? "ok" : "waiting"} />
      <span className="pill-words">{words}</span>
      {bad && <span>· {boot.degraded.length} degraded</span>}
    </Link>
  );
}

/** Who plans the answers; said as it is, never hidden. */
export function BackendBadge() {
  const { boot } = useBootstrap();
  if (!boot) return null;
  const local = boot.backend.name === "planner";
  const title = local
    ? "Answers come from rules, no language model: figures, breakdowns, trends, rankings and comparisons work; free talk does not."
    : "A language model plans the queries; the local planner checks it and steps in when it fails.";
  return (
    <span className="badge wide-only" title={title}>
      {local ? "Local planner" : (boot.backend.model ?? "Language model")}
    </span>
  );
}

function ThemeButton() {
  const theme = useTheme();
  return (
    <button type="button" className="plain" aria-label={`Theme: ${theme.chosen}`} title={`Theme: ${theme.chosen}`} onClick={theme.next}>
      <Icon name={theme.chosen} />
    </button>
  );
}
