// The first page: one question, its answer with chart, rows, query and SQL.
import { drawChart } from "/assets/chart.js";

const thread = document.getElementById("thread");
const form = document.getElementById("ask");
const field = document.getElementById("question");
let conversation = null;

const token = takeToken();
watchHealth();
offerExamples();
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = field.value.trim();
  if (question) ask(question);
});
const asked = new URLSearchParams(location.search).get("q");
if (asked) ask(asked);

// The token of the printed URL is kept for this tab and taken out of the address bar.
function takeToken() {
  const url = new URL(location.href);
  const given = url.searchParams.get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    url.searchParams.delete("token");
    history.replaceState(null, "", url);
  }
  return sessionStorage.getItem("token");
}

async function ask(question) {
  field.value = "";
  const turn = element("article", "turn");
  turn.append(element("h2", "", question), element("p", "answer", "…"));
  thread.append(turn);
  turn.scrollIntoView({ block: "nearest" });
  try {
    const response = await fetch("/api/ask", {
      method: "POST",
      headers: { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify({ question, conversation_id: conversation ?? undefined }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error?.message ?? answer.error ?? `HTTP ${response.status}`);
    conversation = answer.conversation_id;
    show(turn, answer);
  } catch (error) {
    turn.classList.add("failed");
    turn.querySelector(".answer").textContent = `This question got no answer: ${error.message}`;
  }
  field.focus();
}

function show(turn, answer) {
  turn.classList.add(answer.behaviour);
  turn.dataset.behaviour = answer.behaviour;
  turn.querySelector(".answer").textContent = answer.answer;
  if (answer.options?.length) turn.append(optionButtons(answer.options));
  if (answer.chart && answer.rows?.length) turn.append(drawChart(answer.chart, answer.rows));
  if (answer.rows?.length) turn.append(fold("Rows", rowsTable(answer.rows)));
  if (answer.query) turn.append(fold("Query", code(JSON.stringify(answer.query, null, 2))));
  if (answer.sql) turn.append(fold("SQL", code(answer.sql)));
  const from = [answer.backend && `Answered by: ${answer.backend}`, freshness(answer.freshness), answer.proof_id && `Proof ${answer.proof_id}`];
  turn.append(element("p", "from", from.filter(Boolean).join(" · ")));
}

function freshness(data) {
  if (!data?.data_to) return null;
  const shown = (moment) => moment.slice(0, 16).replace("T", " ");
  return `Data from ${shown(data.data_from)} to ${shown(data.data_to)} UTC`;
}

function optionButtons(options) {
  const box = element("div", "options");
  for (const option of options) {
    const button = element("button", "", option.label);
    button.type = "button";
    button.addEventListener("click", () => ask(option.label));
    box.append(button);
  }
  return box;
}

function rowsTable(rows) {
  const table = element("table");
  const names = Object.keys(rows[0]);
  const numeric = new Set(names.filter((n) => rows.every((r) => r[n] == null || isNumber(r[n]))));
  const head = table.createTHead().insertRow();
  for (const name of names) {
    const cell = element("th", numeric.has(name) ? "number" : "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows.slice(0, 500)) {
    const line = body.insertRow();
    for (const name of names) line.append(element("td", numeric.has(name) ? "number" : "", row[name] ?? "–"));
  }
  const box = element("div", "scroll");
  box.tabIndex = 0;
  box.append(table);
  return box;
}

function isNumber(value) {
  return value !== "" && value !== true && value !== false && Number.isFinite(Number(value));
}

// What a newcomer may ask, made from what the project measures.
async function offerExamples() {
  const box = document.getElementById("examples");
  const response = await fetch("/cubejs-api/v1/meta", { headers: token ? { authorization: token } : {} });
  if (!response.ok) return;
  const cubes = (await response.json()).cubes
    .map(({ measures, dimensions }) => ({ measures, dimension: dimensions.find((d) => d.type === "string" && !d.primaryKey) }))
    .filter(({ dimension }) => dimension)
    .sort((a, b) => b.measures.length - a.measures.length);
  if (!cubes.length) return;
  const { measures, dimension } = cubes[0];
  for (const measure of measures.slice(0, 4)) {
    const question = `${measure.shortTitle} by ${dimension.shortTitle}`;
    const button = element("button", "", question);
    button.type = "button";
    button.addEventListener("click", () => ask(question));
    box.append(button);
  }
}

async function watchHealth() {
  const place = document.getElementById("health");
  for (;;) {
    try {
      const body = await (await fetch("/readyz")).json();
      place.textContent = body.degraded?.length ? `degraded: ${body.degraded.join(", ")}` : body.health === "HEALTH" ? "all parts running" : "starting…";
      place.classList.toggle("degraded", Boolean(body.degraded?.length));
    } catch {
      place.textContent = "not reachable";
      place.classList.add("degraded");
    }
    await new Promise((resolve) => setTimeout(resolve, 5000));
  }
}

function fold(title, content) {
  const details = element("details");
  details.append(element("summary", "", title), content);
  return details;
}

function code(text) {
  const pre = element("pre", "", text);
  pre.tabIndex = 0;
  return pre;
}

function element(name, className = "", text = null) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== null) node.textContent = String(text);
  return node;
}
