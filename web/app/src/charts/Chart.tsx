import { useEffect, useRef } from "react";
import type { ChartSpec, Row } from "../api/types.ts";
import { useTheme } from "../shell/theme.ts";
import { height, type Kind } from "./config.ts";
import { plot } from "./series.ts";

/** A drawn result. The same figures stand in the table beside it, so the drawing is one image to a screen reader. */
export function Chart({ spec, rows, kind }: { spec: ChartSpec; rows: Row[]; kind: Kind }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { shown: theme } = useTheme();
  useEffect(() => {
    let undraw: (() => void) | undefined;
    let gone = false;
    void import("./chart.ts").then(({ draw }) => {
      if (!gone && canvas.current) undraw = draw(canvas.current, spec, rows, kind);
    });
    return () => {
      gone = true;
      undraw?.();
    };
  }, [spec, rows, kind, theme]);
  const hidden = plot(spec, rows).hidden;
  return (
    <div className="chart">
      <div className="chart-box" style={{ height: height(spec, rows, kind) }}>
        <canvas ref={canvas} role="img" aria-label={`${spec.title}: ${kind} chart. The table holds the same figures.`} />
      </div>
      {hidden > 0 && <p className="dim small">{hidden} more series are in the table.</p>}
    </div>
  );
}
