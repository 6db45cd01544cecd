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
  PointElement,
  Tooltip,
} from "chart.js";
import type { ChartSpec, Row } from "../api/types.ts";
import { config, type Ink, type Kind } from "./config.ts";

Chart.register(BarController, BarElement, CategoryScale, Legend, LinearScale, LineController, LineElement, PointElement, Tooltip);

/** Draws into `canvas`; returns what takes it away again. */
export function draw(canvas: HTMLCanvasElement, spec: ChartSpec, rows: Row[], kind: Kind): () => void {
  const chart = new Chart(canvas, config(spec, rows, kind, inkOf(canvas)) as ConstructorParameters<typeof Chart>[1]);
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
