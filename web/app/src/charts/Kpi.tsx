import type { ChartSpec, Row } from "../api/types.ts";
import { figure, suffix } from "./format.ts";

/** One row's figures, large. */
export function Kpi({ spec, row }: { spec: ChartSpec; row: Row }) {
  return (
    <dl className="kpis">
      {spec.y.map((y) => (
        <div className="kpi" key={y.key}>
          <dt>{y.title}</dt>
          <dd>
            {figure(row[y.key], y.unit)}
            <span className="unit">{suffix(y.unit)}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}
