import { describe, expect, it } from "vitest";
import { readEvent } from "../src/api/feed.ts";
import { takeToken } from "../src/api/session.ts";
import type { Actor, Lineage, LineageNode, NodeKind, Plan, PlanRow } from "../src/api/types.ts";
import { behind } from "../src/ask/Behind.tsx";
import { chosen } from "../src/ask/reading.ts";
import { linesOf } from "../src/ask/Facts.tsx";
import { blocks } from "../src/ask/Prose.tsx";
import { folded, tokens } from "../src/ask/Sql.tsx";
import { focused, layout, NODE_HEIGHT } from "../src/pipeline/layout.ts";
import { related } from "../src/pipeline/related.ts";
import { describe as sentence } from "../src/system/describe.ts";
import { lines, onKey, tally } from "../src/system/tree.ts";
import { changes, deeds, effect, isBusy } from "../src/write-backs/plan.ts";

describe("the token", () => {
  it("is taken from the query or the fragment, and leaves nothing behind", () => {
    expect(takeToken("http://h:1/?token=abc&q=x")).toEqual({ token: "abc", address: "http://h:1/?q=x" });
    expect(takeToken("http://h:1/ask/7#token=abc")).toEqual({ token: "abc", address: "http://h:1/ask/7" });
    expect(takeToken("http://h:1/ask#part")).toEqual({ token: null, address: "http://h:1/ask#part" });
  });
});

describe("an event", () => {
  it("is read as it is recorded", () => {
    const recorded = { id: 5, at: "2026-01-01T00:00:00Z", event: { type: "sync_finished", source: "shop", rows: 12 }, trace: null };
    const event = readEvent("sync_finished", "5", JSON.stringify(recorded));
    expect(event).toMatchObject({ id: "5", at: "2026-01-01T00:00:00Z", type: "sync_finished" });
    expect(sentence(event)).toEqual({ tone: "ok", text: "shop synced: 12\u00a0rows" });
  });

  it("that nobody described yet is shown by its values", () => {
    const event = readEvent("limit_failed", null, '{"source":"shop","rows":3,"inner":{}}');
    expect(sentence(event)).toEqual({ tone: "warn", text: "limit failed: source shop, rows 3" });
  });
});

const actor = (name: string, children: Actor[] = [], state = "running"): Actor => ({
  name,
  state,
  incarnation: 1,
  restarts: 0,
  uptime_ms: 1,
  queue: 0,
  last_error: null,
  children,
});

describe("the tree of actors", () => {
  const tree = [actor("root", [actor("ingest", [actor("loader"), actor("watcher", [], "backoff")]), actor("web")])];
  const none = new Set<string>();

  it("is walked by keys as trees are", () => {
    const all = lines(tree, none);
    expect(all.map((line) => [line.actor.name, line.level])).toEqual([["root", 1], ["ingest", 2], ["loader", 3], ["watcher", 3], ["web", 2]]);
    expect(onKey("ArrowDown", all, "ingest", none)).toEqual({ select: "loader" });
    expect(onKey("ArrowUp", all, "root", none)).toBeNull();
    expect(onKey("ArrowLeft", all, "watcher", none)).toEqual({ select: "ingest" });
    expect(onKey("ArrowLeft", all, "ingest", none)).toEqual({ close: "ingest" });
    expect(onKey("ArrowRight", all, "ingest", new Set(["ingest"]))).toEqual({ open: "ingest" });
    expect(onKey("End", all, "root", none)).toEqual({ select: "web" });
    expect(onKey("w", all, "watcher", none)).toEqual({ select: "web" });
  });

  it("hides what is below a closed one", () => {
    expect(lines(tree, new Set(["ingest"])).map((line) => line.actor.name)).toEqual(["root", "ingest", "web"]);
    expect(tally(tree)).toBe("5 actors: 4 running, 1 backoff");
  });
});

const node = (id: string, kind: NodeKind): LineageNode => ({ id, kind, name: id, status: "ok" });

describe("the lineage", () => {
  const lineage: Lineage = {
    nodes: [node("cube", "metric"), node("m2", "model"), node("m1", "model"), node("r1", "raw"), node("r2", "raw"), node("s", "source"), node("wb", "write_back")],
    edges: [
      { from: "s", to: "r1" },
      { from: "s", to: "r2" },
      { from: "r1", to: "m1" },
      { from: "m1", to: "m2" },
      { from: "r2", to: "m2" },
      { from: "m2", to: "cube" },
      { from: "m1", to: "wb" },
      { from: "gone", to: "m1" },
    ],
  };

  it("is drawn left to right: everything stands right of what it reads", () => {
    const drawn = layout(lineage);
    const x = (id: string) => drawn.nodes.find((it) => it.node.id === id)!.x;
    for (const { from, to } of drawn.edges) expect(x(from)).toBeLessThan(x(to));
    expect(drawn.edges).toHaveLength(7);
    expect(x("wb")).toBeGreaterThan(x("cube"));
    expect(drawn.columns.map((column) => column.title)).toEqual(["sources", "raw", "models", "models", "metrics", "write-backs"]);
  });

  it("lays no node over another and all within the drawing", () => {
    const drawn = layout(lineage);
    for (const a of drawn.nodes) {
      expect(a.x + a.width).toBeLessThanOrEqual(drawn.width);
      expect(a.y + NODE_HEIGHT).toBeLessThanOrEqual(drawn.height);
      for (const b of drawn.nodes) {
        if (a !== b && a.x === b.x) expect(Math.abs(a.y - b.y)).toBeGreaterThanOrEqual(NODE_HEIGHT);
      }
    }
  });

  it("says what an answer is made from", () => {
    const query = { measures: ["cube.rate"], dimensions: ["other.part"] };
    expect(behind(query, lineage).map((it) => it.id)).toEqual(["m2", "m1", "r1", "r2", "s"]);
    expect(behind({ measures: ["unknown.rate"] }, lineage)).toEqual([]);
    expect(behind(null, lineage)).toEqual([]);
  });

  it("survives a cycle", () => {
    const round = { nodes: [node("a", "model"), node("b", "model")], edges: [{ from: "a", to: "b" }, { from: "b", to: "a" }] };
    expect(layout(round).nodes).toHaveLength(2);
    expect(layout({ nodes: [], edges: [] }).width).toBeGreaterThanOrEqual(0);
  });

  it("can be narrowed to what belongs to one node", () => {
    expect([...related("m1", lineage.edges)].sort()).toEqual(["cube", "gone", "m1", "m2", "r1", "s", "wb"]);
    expect(focused(lineage, "r2").nodes.map((it) => it.id).sort()).toEqual(["cube", "m2", "r2", "s"]);
    expect(focused(lineage, "unknown")).toBe(lineage);
  });
});

const plan = (more: Partial<Plan>): Plan => ({
  id: "1",
  sync: "quality",
  source: "shop",
  table: "public.q",
  mode: "upsert",
  origin: "sync",
  state: "planned",
  under_way: null,
  hash: "h",
  requested_by: "me",
  reason: "",
  counts: { added: 2, changed: 1, removed: 0, unchanged: 5, invalid: 1, skipped: 0 },
  ddl: ["create table q ()"],
  error: null,
  approved_by: null,
  approved_at: null,
  comment: null,
  written: null,
  read_back: null,
  created_at: "2026-01-01T00:00:00Z",
  applied_at: null,
  undone_at: null,
  ...more,
});

describe("a plan", () => {
  it("offers only what its state allows", () => {
    expect(deeds(plan({}))).toEqual(["approve", "reject"]);
    expect(deeds(plan({ state: "approved" }))).toEqual(["apply", "reject"]);
    expect(deeds(plan({ state: "applied" }))).toEqual(["undo"]);
    for (const state of ["planning", "rejected", "undone", "failed"] as const) expect(deeds(plan({ state }))).toEqual([]);
    expect(deeds(plan({ state: "approved", under_way: "apply" }))).toEqual([]);
    expect(isBusy(plan({ state: "planning" }))).toBe(true);
  });

  it("says what approving it will do", () => {
    expect(effect("approve", plan({})).replaceAll("\u00a0", " ")).toContain("add 2 rows, change 1 row of public.q in shop. 1 statement run first. Left out: 1 invalid row.");
  });

  it("shows the columns that differ, old and new", () => {
    const row: PlanRow = { seq: 1, key: { id: "7" }, kind: "changed", old: { id: "7", hold: "f", score: "9" }, new: { id: "7", hold: "t", score: "9" }, problem: null };
    expect(changes(row)).toEqual([{ column: "hold", old: "f", new: "t" }]);
    expect(changes({ ...row, kind: "added", old: null })).toHaveLength(2);
  });
});

describe("the reading of a word", () => {
  it("names the member that the query took before what it could have been", () => {
    const query = { measures: ["A.rate"], filters: [{ member: "A.part", values: ["x"] }] };
    expect(chosen("B.rate or A.rate", query)).toEqual({ taken: "A.rate", others: ["B.rate"] });
    expect(chosen("last week", query)).toEqual({ taken: "last week", others: [] });
    expect(chosen("C.x or D.x", null)).toEqual({ taken: "C.x or D.x", others: [] });
  });
});

describe("text of the data", () => {
  it("stays text: no HTML is made of it", () => {
    expect(blocks("<b>x</b>\n\n- one\n- two\n1. first")).toEqual([
      { kind: "p", lines: ["<b>x</b>"] },
      { kind: "ul", items: ["one", "two"] },
      { kind: "ol", items: ["first"] },
    ]);
  });

  it("of a statement is told apart and not changed", () => {
    const sql = `SELECT "a b", 'it''s', 10.5 FROM t WHERE x = 1 -- why`;
    const found = tokens(sql);
    expect(found.map((token) => token.text).join("")).toBe(sql);
    expect(found.filter((token) => token.kind === "key").map((token) => token.text)).toEqual(["SELECT", "FROM", "WHERE"]);
    expect(found.find((token) => token.kind === "text")?.text).toBe("'it''s'");
    expect(folded("SELECT a FROM t GROUP BY 1")).toBe("SELECT a\nFROM t\nGROUP BY 1");
  });

  it("of a proof is listed, whatever its shape", () => {
    expect(linesOf([{ name: "stg", status: "pass", nested: {} }, "plain"])).toEqual(["stg · status pass", "plain"]);
    expect(linesOf({ shop: "0/1A" })).toEqual(["shop: 0/1A"]);
    expect(linesOf(undefined)).toEqual([]);
  });
});
