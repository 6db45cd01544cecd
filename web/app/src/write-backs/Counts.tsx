import type { PlanCounts } from "../api/types.ts";
import { figure } from "../charts/format.ts";

/** "+12 ~3 −0", each with its word for who cannot see the sign. */
export function Counts({ counts }: { counts: PlanCounts }) {
  const parts: [sign: string, n: number, word: string, tone: string][] = [
    ["+", counts.added, "added", "ok"],
    ["~", counts.changed, "changed", "warn"],
    ["−", counts.removed, "removed", "bad"],
  ];
  return (
    <span className="counts">
      {parts.map(([sign, n, word, tone]) => (
        <span key={word} className={n > 0 ? `status ${tone}` : "dim"}>
          {sign}
          {figure(n)}
          <span className="hidden"> {word}</span>
        </span>
      ))}
      {counts.invalid > 0 && <span className="status bad">{figure(counts.invalid)} invalid</span>}
    </span>
  );
}
