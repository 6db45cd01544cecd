// One result drawn as figures, bars or a line, in SVG. `spec` names the columns, `rows` hold them;
// what cannot be drawn (a table) is left to the rows below the chart.
const WIDTH = 760;
const ROW = 26;
const PLOT = { left: 64, right: 16, top: 12, bottom: 34, height: 260 };
const POINTS_MAX = 2000;

export function drawChart(spec, rows) {
  const kind = spec.type;
  if (kind === "kpi") return kpis(spec, rows);
  if (kind === "line" || kind === "area") return lines(spec, rows);
  if (["bar", "grouped_bar", "pareto"].includes(kind)) return bars(spec, rows);
  return document.createDocumentFragment();
}

const number = (value) => (value == null || value === "" ? null : Number(value));

function shown(value, unit) {
  const n = number(value);
  if (n == null || !Number.isFinite(n)) return "–";
  const digits = Math.abs(n) >= 1000 || Number.isInteger(n) ? 0 : Math.abs(n) < 1 ? 3 : 2;
  const text = n.toLocaleString("en", { maximumFractionDigits: digits });
  return unit === "percent" ? `${text} %` : text;
}

// A day where the step is days, a day and time where it is finer.
function moment(t) {
  return new Date(t).toISOString().slice(0, 16).replace("T", " ").replace(" 00:00", "");
}

function kpis(spec, rows) {
  const box = document.createElement("div");
  box.className = "kpis";
  for (const { key, title, unit } of spec.y) {
    const kpi = document.createElement("div");
    kpi.className = "kpi";
    const value = document.createElement("b");
    value.textContent = shown(rows[0][key], unit);
    const name = document.createElement("span");
    name.textContent = title;
    kpi.append(value, name);
    box.append(kpi);
  }
  return box;
}

function bars(spec, rows) {
  const [measure] = spec.y;
  const items = rows.slice(0, 40).map((row) => ({
    label: [spec.x, spec.series].filter(Boolean).map(({ key }) => row[key] ?? "–").join(" · "),
    value: number(row[measure.key]) ?? 0,
  }));
  const largest = Math.max(...items.map((i) => Math.abs(i.value)), Number.EPSILON);
  const height = items.length * ROW + 8;
  const svg = canvas(height, spec.title);
  items.forEach((item, i) => {
    const y = 4 + i * ROW;
    const width = (Math.abs(item.value) / largest) * (WIDTH - 330);
    svg.append(
      text(item.label, { x: 200, y: y + 17, "text-anchor": "end" }),
      shape("rect", { x: 210, y: y + 3, width, height: ROW - 8, rx: 2, fill: "var(--series-1)" }),
      text(shown(item.value, measure.unit), { x: 218 + width, y: y + 17, class: "value" }),
    );
  });
  return svg;
}

function lines(spec, rows) {
  const groups = new Map();
  for (const row of rows.slice(0, POINTS_MAX)) {
    for (const { key, title } of spec.y) {
      const name = spec.series ? String(row[spec.series.key] ?? "–") : title;
      const value = number(row[key]);
      if (value == null) continue;
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push([Date.parse(`${row[spec.x.key]}Z`), value]);
    }
  }
  const points = [...groups.values()].flat();
  if (points.length < 2 || points.some(([t]) => Number.isNaN(t))) return bars(spec, rows);
  const [x0, x1] = extent(points.map((p) => p[0]));
  const [y0, y1] = extent(points.map((p) => p[1]));
  const x = (t) => PLOT.left + ((t - x0) / (x1 - x0 || 1)) * (WIDTH - PLOT.left - PLOT.right);
  const y = (v) => PLOT.top + (1 - (v - y0) / (y1 - y0 || 1)) * (PLOT.height - PLOT.top - PLOT.bottom);
  const svg = canvas(PLOT.height + (groups.size > 1 ? 24 : 0), spec.title);
  const [measure] = spec.y;
  for (const value of [y0, (y0 + y1) / 2, y1]) {
    svg.append(
      shape("line", { x1: PLOT.left, x2: WIDTH - PLOT.right, y1: y(value), y2: y(value), stroke: "var(--line)" }),
      text(shown(value, measure.unit), { x: PLOT.left - 8, y: y(value) + 4, "text-anchor": "end" }),
    );
  }
  for (const [t, anchor] of [[x0, "start"], [x1, "end"]]) {
    svg.append(text(moment(t), { x: x(t), y: PLOT.height - 12, "text-anchor": anchor }));
  }
  [...groups].forEach(([name, series], i) => {
    const color = `var(--series-${(i % 5) + 1})`;
    series.sort((a, b) => a[0] - b[0]);
    svg.append(shape("polyline", { points: series.map(([t, v]) => `${x(t)},${y(v)}`).join(" "), fill: "none", stroke: color, "stroke-width": 2 }));
    if (groups.size > 1) {
      const at = PLOT.left + i * 150;
      svg.append(shape("rect", { x: at, y: PLOT.height + 4, width: 12, height: 12, fill: color }), text(name, { x: at + 18, y: PLOT.height + 15 }));
    }
  });
  return svg;
}

const extent = (values) => [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];

function canvas(height, title) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "chart", role: "img" });
  const name = shape("title", {});
  name.textContent = title;
  svg.append(name);
  return svg;
}

function text(content, attributes) {
  const node = shape("text", attributes);
  node.textContent = content;
  return node;
}

function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
