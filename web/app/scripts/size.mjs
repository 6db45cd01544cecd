// Holds web/dist to its budgets, gzipped: what the first page needs, the charts, everything.
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const KB = 1024;
const dist = fileURLToPath(new URL("../../dist/", import.meta.url));
const sizes = new Map(
  readdirSync(dist, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`)
    .map((path) => [path.slice(dist.length).replace(/^\//, ""), gzipSync(readFileSync(path), { level: 9 }).length]),
);

const index = readFileSync(`${dist}/index.html`, "utf8");
const first = ["index.html", ...[...index.matchAll(/(?:src|href)="\/([^"]+)"/g)].map((found) => found[1])];
const sum = (names) => names.reduce((total, name) => total + (sizes.get(name) ?? 0), 0);

const budgets = [
  ["first route", sum(first), 100 * KB],
  ["charts", sum(["assets/chart.js"]), 70 * KB],
  ["graph", sum(["assets/graph.js"]), 80 * KB],
  ["styles", sum(["assets/app.css"]), 12 * KB],
  ["everything", sum([...sizes.keys()]), 350 * KB],
];

let over = false;
for (const [name, size, most] of budgets) {
  const fits = size > 0 && size <= most;
  over ||= !fits;
  console.log(`${fits ? "ok  " : "OVER"} ${name}: ${(size / KB).toFixed(1)} of ${most / KB} KB gzipped`);
}
if (sizes.size > 0 && [...sizes.keys()].some((name) => name.endsWith(".map"))) {
  console.log("OVER source maps are not for web/dist");
  over = true;
}
process.exit(over ? 1 : 0);
