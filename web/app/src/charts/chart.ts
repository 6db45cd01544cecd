// Chart.js, only the parts we draw with. Loaded with the first chart: it is half of all the code.
import {
  BarController,
  BarElement,
  CategoryScale,
  Chart,
  Legend,
  LinearScale,
  LineController,
  LineElement,
  type Plugin,
  PointElement,
  Tooltip,
} from "chart.js";
import type { ChartSpec, Row } from "../api/types.ts";
import { config, type Ink, type Kind } from "./config.ts";
import { withUnit } from "./format.ts";

/** Bars that few are read without a tooltip. */
const LABELLED_MAX = 16;

Chart.register(BarController, BarElement, CategoryScale, Legend, LinearScale, LineController, LineElement, PointElement, Tooltip);

/** Writes its value at the end of each bar. */
function values(ink: Ink, unit: string | null): Plugin<"bar"> {
  return {
    id: "values",
    afterDatasetsDraw(chart) {
      const { ctx } = chart;
      const lying = chart.options.indexAxis === "y";
      ctx.save();
      ctx.font = `12px ${ink.font}`;
      ctx.fillStyle = ink.text;
      ctx.textAlign = lying ? "left" : "center";
      ctx.textBaseline = lying ? "middle" : "bottom";
      chart.getDatasetMeta(0).data.forEach((bar, i) => {
        const value = chart.data.datasets[0]!.data[i];
        if (typeof value === "number") ctx.fillText(withUnit(value, unit), bar.x + (lying ? 6 : 0), bar.y - (lying ? 0 : 4));
      });
      ctx.restore();
    },
  };
}

/** Draws into `canvas`; returns what takes it away again. */
export function draw(canvas: HTMLCanvasElement, spec: ChartSpec, rows: Row[], kind: Kind): () => void {
  const ink = inkOf(canvas);
  const made = config(spec, rows, kind, ink);
  const labelled = kind === "bar" && made.data.datasets.length === 1 && rows.length <= LABELLED_MAX;
  if (labelled) {
    made.plugins = [values(ink, spec.y[0]?.unit ?? null) as Plugin<Kind>];
    made.options!.layout = { padding: made.options!.indexAxis === "y" ? { right: 64 } : { top: 18 } };
  }
  const chart = new Chart(canvas, made as ConstructorParameters<typeof Chart>[1]);
  return () => chart.destroy();
}

/** The theme's colours: a canvas knows no custom properties, so a probe resolves them. */
function inkOf(canvas: HTMLCanvasElement): Ink {
  const probe = document.createElement("span");
  probe.hidden = true;
  canvas.parentElement!.append(probe);
  const color = (name: string) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const ink = {
    series: [1, 2, 3, 4, 5].map((n) => color(`series-${n}`)),
    text: color("dim"),
    grid: color("line"),
    surface: color("surface"),
    font: getComputedStyle(canvas.parentElement!).fontFamily,
  };
  probe.remove();
  return ink;
}
