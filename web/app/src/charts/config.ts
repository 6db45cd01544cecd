// A neutral chart → Chart.js' configuration. Pure: no canvas, no document.
import type { ChartConfiguration, ChartDataset } from "chart.js";
import type { ChartSpec, Row } from "../api/types.ts";
import { figure, suffix, withUnit, type Wording } from "./format.ts";
import { cumulative, plot, type Plot } from "./series.ts";
import { overTime } from "./views.ts";

/** Colours as the theme has them, resolved. */
export interface Ink {
  series: string[];
  text: string;
  grid: string;
  surface: string;
  font: string;
}

export type Kind = "bar" | "line";
type Config = ChartConfiguration<Kind, (number | null)[], string>;
type Dataset = ChartDataset<Kind, (number | null)[]>;

/** A second cue beside the colour. */
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3], [1, 2]];
const POINTS = ["circle", "rect", "triangle", "rectRot", "cross"] as const;

/** Names longer than this are read along the axis, not under it. */
const NAME_MAX = 9;

export function config(spec: ChartSpec, rows: Row[], kind: Kind, ink: Ink, wording: Wording = {}): Config {
  const plotted = plot(spec, rows, wording);
  const units = new Set(plotted.series.map((s) => s.unit));
  const pareto = kind === "bar" && spec.type === "pareto" && plotted.series.length === 1;
  const lying = kind === "bar" && !pareto && !overTime(spec, rows) && needsRoom(plotted);
  const datasets: Dataset[] = plotted.series.map((series, i) =>
    kind === "bar"
      ? { ...barLook(ink, i), label: series.name, data: series.values, ...axisIds(lying, twoAxes(units) && i > 0) }
      : { ...lineLook(ink, i), label: series.name, data: series.values, xAxisID: "x", yAxisID: twoAxes(units) && i > 0 ? "y2" : "y" },
  );
  if (pareto) datasets.push(share(plotted, ink));
  return {
    type: kind,
    data: { labels: plotted.labels, datasets },
    options: options({ plotted, ink, lying, pareto, second: twoAxes(units), wording, kind }),
  };
}

const twoAxes = (units: Set<string | null>): boolean => units.size === 2;

const needsRoom = ({ labels }: Plot): boolean => labels.length > 8 || labels.some((l) => l.length > NAME_MAX);

// Every axis is named: with an axis missing, Chart.js moves bars to whichever is there.
const axisIds = (lying: boolean, second: boolean) =>
  lying ? { xAxisID: second ? "x2" : "x", yAxisID: "y", indexAxis: "y" as const } : { xAxisID: "x", yAxisID: second ? "y2" : "y" };

function barLook(ink: Ink, i: number) {
  const color = ink.series[i % ink.series.length]!;
  return { type: "bar" as const, backgroundColor: color, borderColor: ink.surface, borderWidth: 1, borderRadius: 2, maxBarThickness: 44 };
}

function lineLook(ink: Ink, i: number) {
  const color = ink.series[i % ink.series.length]!;
  return {
    type: "line" as const,
    borderColor: color,
    backgroundColor: color,
    borderWidth: 2,
    borderDash: DASHES[i % DASHES.length]!,
    pointStyle: POINTS[i % POINTS.length]!,
    pointRadius: 2.5,
    spanGaps: true,
  };
}

function share(plotted: Plot, ink: Ink): Dataset {
  return { ...lineLook(ink, 1), label: "Share of the whole, running", data: cumulative(plotted.series[0]!.values), xAxisID: "x", yAxisID: "y2" };
}

interface Made {
  plotted: Plot;
  ink: Ink;
  lying: boolean;
  pareto: boolean;
  second: boolean;
  wording: Wording;
  kind: Kind;
}

function options({ plotted, ink, lying, pareto, second, wording, kind }: Made): NonNullable<Config["options"]> {
  const unit = plotted.series[0]?.unit ?? null;
  const secondUnit = pareto ? "percent" : (plotted.series.find((s) => s.unit !== unit)?.unit ?? null);
  const font = { family: ink.font, size: 12 };
  const values = (of: string | null) => ({
    beginAtZero: kind === "bar",
    grid: { color: ink.grid },
    border: { display: false },
    ticks: { color: ink.text, font, maxTicksLimit: 6, callback: (v: string | number) => tick(v, of, wording) },
  });
  const names = {
    grid: { display: false },
    border: { color: ink.grid },
    ticks: { color: ink.text, font, autoSkip: !lying, maxRotation: lying ? 0 : 40 },
  };
  const other = pareto || second;
  const opposite = { ...values(secondUnit), grid: { display: false }, ...(pareto ? { min: 0, max: 100 } : {}) };
  return {
    responsive: true,
    maintainAspectRatio: false,
    animation: false,
    locale: wording.locale ?? "",
    indexAxis: lying ? "y" : "x",
    interaction: { mode: "index", intersect: false, axis: lying ? "y" : "x" },
    scales: lying
      ? { x: values(unit), y: names, ...(other ? { x2: { ...opposite, position: "top" as const } } : {}) }
      : { x: names, y: values(unit), ...(other ? { y2: { ...opposite, position: "right" as const } } : {}) },
    plugins: {
      legend: {
        display: plotted.series.length > 1 || pareto,
        position: "bottom",
        align: "start",
        labels: { color: ink.text, font, usePointStyle: kind === "line", boxWidth: 10, boxHeight: kind === "line" ? 7 : 10, padding: 14 },
      },
      tooltip: {
        callbacks: {
          label: (item) => {
            const own = pareto && item.datasetIndex === 1 ? "percent" : (plotted.series[item.datasetIndex]?.unit ?? null);
            return `${item.dataset.label ?? ""}: ${withUnit((lying ? item.parsed.x : item.parsed.y) ?? null, own, wording)}`;
          },
        },
      },
    },
  };
}

const tick = (value: string | number, unit: string | null, wording: Wording): string => {
  const number = Number(value);
  const plain = new Intl.NumberFormat(wording.locale, { maximumFractionDigits: 3 }).format(number);
  return unit === "percent" || unit === "%" ? plain + suffix(unit) : unit === null ? figure(number, null, wording) : plain;
};

/** How high the drawing is, CSS pixels: lying bars need a line each. */
export function height(spec: ChartSpec, rows: Row[], kind: Kind): number {
  const plotted = plot(spec, rows);
  const lying = kind === "bar" && spec.type !== "pareto" && !overTime(spec, rows) && needsRoom(plotted);
  if (!lying) return 280;
  const legend = plotted.series.length > 1 ? 36 : 0;
  return Math.max(140, plotted.labels.length * Math.max(28, 14 * plotted.series.length + 12) + 36 + legend);
}
