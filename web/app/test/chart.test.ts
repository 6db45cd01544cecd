import { describe, expect, it } from "vitest";
import type { ChartSpec, Row } from "../src/api/types.ts";
import { config, height, type Ink } from "../src/charts/config.ts";
import { cumulative, plot } from "../src/charts/series.ts";
import { columns, firstView, titleOf, views } from "../src/charts/views.ts";

const ink: Ink = { series: ["#1", "#2", "#3", "#4", "#5"], text: "#t", grid: "#g", surface: "#s", font: "sans" };
const en = { locale: "en-GB" };
const rate = { key: "P.rate", title: "Pass Rate", unit: "percent" };

const bars: ChartSpec = { type: "bar", title: "Pass Rate by component", x: { key: "P.part", title: "Component" }, series: null, y: [rate] };
const barRows: Row[] = [
  { "P.part": "springs", "P.rate": "97.6" },
  { "P.part": "bodies", "P.rate": "95.6" },
  { "P.part": null, "P.rate": null },
];
const lineSpec: ChartSpec = {
  type: "line",
  title: "Rate by week",
  x: { key: "P.at.week", title: "week" },
  series: { key: "P.part", title: "Component" },
  y: [rate],
};
const lineRows: Row[] = ["2026-09-07", "2026-08-31"].flatMap((day) =>
  ["bodies", "springs"].map((part) => ({ "P.at.week": `${day}T00:00:00.000`, "P.at": `${day}T00:00:00.000`, "P.part": part, "P.rate": "3" })),
);
const kpi: ChartSpec = { type: "kpi", title: "Pass Rate", x: null, series: null, y: [rate] };

describe("views of a result", () => {
  it("are only those that can be drawn, the server's choice first", () => {
    expect(views(kpi, [{ "P.rate": "1" }])).toEqual(["kpi", "table"]);
    expect(views(bars, barRows)).toEqual(["bar", "line", "table"]);
    expect(views(bars, [])).toEqual(["table"]);
    expect(views(null, barRows)).toEqual(["table"]);
    expect(firstView(lineSpec, lineRows)).toBe("line");
    expect(firstView({ ...bars, type: "pareto" }, barRows)).toBe("bar");
    expect(firstView({ ...bars, type: "table" }, barRows)).toBe("table");
    expect(firstView(lineSpec, [])).toBe("table");
    expect(firstView(bars, barRows.slice(0, 1))).toBe("kpi");
  });

  it("name each column, and do not repeat a time without its step", () => {
    const found = columns(lineSpec, lineRows);
    expect(found.map((c) => [c.title, c.numeric])).toEqual([
      ["week", false],
      ["Component", false],
      ["Pass Rate", true],
    ]);
    expect(titleOf("Production.avgCycleTime")).toBe("avg cycle time");
  });
});

describe("series", () => {
  it("stand in the order of time, one a group", () => {
    const plotted = plot(lineSpec, lineRows, en);
    expect(plotted.labels).toEqual(["31 Aug", "7 Sept"]);
    expect(plotted.series.map((s) => [s.name, s.values])).toEqual([
      ["bodies", [3, 3]],
      ["springs", [3, 3]],
    ]);
  });

  it("are at most five, the largest, and the others are counted", () => {
    const rows = Array.from({ length: 16 }, (_, i) => ({ "P.at.week": i % 2 ? "2026-01-01" : "2026-01-08", "P.part": `part ${i >> 1}`, "P.rate": String(i) }));
    const plotted = plot(lineSpec, rows, en);
    expect(plotted.series.map((s) => s.name)).toEqual(["part 7", "part 6", "part 5", "part 4", "part 3"]);
    expect(plotted.hidden).toBe(3);
  });

  it("have holes where there is no value, not zeros", () => {
    expect(plot(bars, barRows, en).series[0]!.values).toEqual([97.6, 95.6, null]);
    expect(plot(bars, barRows, en).labels).toEqual(["springs", "bodies", "–"]);
  });

  it("add up to the whole in a Pareto chart", () => {
    expect(cumulative([50, 30, null, 20])).toEqual([50, 80, 80, 100]);
    expect(cumulative([0, null])).toEqual([0, 0]);
  });
});

describe("Chart.js' configuration", () => {
  it("names both axes of every series, or bars move to the wrong one", () => {
    const made = config({ ...bars, type: "pareto" }, barRows, "bar", ink, en);
    const ids = made.data.datasets.map((d) => [d.type, "yAxisID" in d ? d.yAxisID : null]);
    expect(ids).toEqual([
      ["bar", "y"],
      ["line", "y2"],
    ]);
    expect(Object.keys(made.options!.scales!)).toEqual(["x", "y", "y2"]);
    expect(made.options!.scales!["y2"]).toMatchObject({ min: 0, max: 100 });
  });

  it("begins bars at zero and lines at the data", () => {
    const y = (kind: "bar" | "line") => config(bars, barRows, kind, ink, en).options!.scales!["y"] as { beginAtZero?: boolean };
    expect(y("bar").beginAtZero).toBe(true);
    expect(y("line").beginAtZero).toBe(false);
  });

  it("lays bars down where names are long, and gives each a line", () => {
    const rows = ["MACHINE-R-03", "MACHINE-B-04"].map((part) => ({ "P.part": part, "P.rate": "1" }));
    expect(config(bars, rows, "bar", ink, en).options!.indexAxis).toBe("y");
    expect(config(bars, barRows, "bar", ink, en).options!.indexAxis).toBe("x");
    const many = Array.from({ length: 30 }, (_, i) => ({ "P.part": `MACHINE-${i}`, "P.rate": "1" }));
    expect(height(bars, many, "bar")).toBeGreaterThanOrEqual(30 * 26);
    expect(config(bars, many, "bar", ink, en).options!.scales!["y"]!.ticks).toMatchObject({ autoSkip: false });
  });

  it("tells lines apart by dash and point as well as by colour", () => {
    const [a, b] = config(lineSpec, lineRows, "line", ink, en).data.datasets as { borderDash: number[]; pointStyle: string; borderColor: string }[];
    expect(a!.borderColor).not.toBe(b!.borderColor);
    expect(a!.borderDash).not.toEqual(b!.borderDash);
    expect(a!.pointStyle).not.toBe(b!.pointStyle);
  });

  it("gives two units two axes, and one unit one", () => {
    const two: ChartSpec = { ...bars, y: [rate, { key: "P.count", title: "Units", unit: "units" }] };
    const rows = barRows.map((row) => ({ ...row, "P.count": "10" }));
    expect(Object.keys(config(two, rows, "line", ink, en).options!.scales!)).toEqual(["x", "y", "y2"]);
    expect(Object.keys(config(lineSpec, lineRows, "line", ink, en).options!.scales!)).toEqual(["x", "y"]);
  });

  it("hands the computed font on, for a canvas inherits none", () => {
    expect(config(bars, barRows, "bar", ink, en).options!.scales!["x"]!.ticks).toMatchObject({ font: { family: "sans" } });
  });
});
