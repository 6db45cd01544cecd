// A layered drawing of the lineage: columns left to right, few crossings. Pure arithmetic.
import type { Lineage, LineageNode } from "../api/types.ts";
import { related } from "./related.ts";

export interface Placed {
  node: LineageNode;
  x: number;
  y: number;
  width: number;
}

export interface Edge {
  from: string;
  to: string;
  path: string;
}

export interface Layout {
  nodes: Placed[];
  edges: Edge[];
  columns: { title: string; x: number }[];
  width: number;
  height: number;
}

/** What stands in a column: a node, or the place where an edge passes through. */
interface Slot {
  id: string;
  node: LineageNode | null;
}

interface Link {
  from: string;
  to: string;
}

export const NODE_HEIGHT = 46;
const NODE_ROW = 58;
const PASS_ROW = 16;
const GAP = 34;
const TOP = 34;
const EDGE_PAD = 8;
/** Widths of letters at 13 px; a bit too wide is better than cut. */
const LETTER = 7.3;
const WIDTH_MIN = 116;
const SWEEPS = 8;

const KIND_TITLES: Record<string, string> = { source: "sources", raw: "raw", metric: "metrics", write_back: "write-backs" };

export function layout({ nodes, edges }: Lineage): Layout {
  const known = new Set(nodes.map((node) => node.id));
  const real = edges.filter((edge) => known.has(edge.from) && known.has(edge.to) && edge.from !== edge.to);
  const rank = ranks(nodes, real);
  const { columns, links, ways } = withPasses(nodes, real, rank);
  for (let i = 0; i < SWEEPS; i += 1) sweep(columns, links, i % 2 === 0);
  const rowOf = (slot: Slot) => (slot.node ? NODE_ROW : PASS_ROW);
  const heightOf = (column: Slot[]) => column.reduce((sum, slot) => sum + rowOf(slot), 0);
  const tallest = Math.max(0, ...columns.map(heightOf));
  const places = new Map<string, { x: number; y: number; width: number }>();
  const titles: Layout["columns"] = [];
  let x = EDGE_PAD;
  for (const column of columns) {
    const width = Math.max(WIDTH_MIN, ...column.map(({ node }) => (node ? widthOf(node) : 0)));
    let y = TOP + (tallest - heightOf(column)) / 2;
    for (const slot of column) {
      places.set(slot.id, { x, y, width });
      y += rowOf(slot);
    }
    titles.push({ title: titleOf(column), x });
    x += width + GAP;
  }
  const middle = (id: string) => places.get(id)!.y + (known.has(id) ? NODE_HEIGHT : PASS_ROW) / 2;
  return {
    nodes: columns.flat().flatMap(({ node }) => (node ? [{ node, ...places.get(node.id)! }] : [])),
    edges: real.map(({ from, to }, i) => ({ from, to, path: curve(ways[i]!, places, middle) })),
    columns: titles,
    width: Math.max(0, x - GAP + EDGE_PAD),
    height: TOP + tallest,
  };
}

export const widthOf = (node: LineageNode): number => Math.ceil(node.name.length * LETTER) + 44;

function titleOf(column: Slot[]): string {
  const nodes = column.flatMap(({ node }) => (node ? [node] : []));
  return [...new Set(nodes.map((node) => KIND_TITLES[node.kind] ?? node.layer ?? "models"))].join(", ");
}

/** A node stands right of everything it reads; sources first, metrics after all models, write-backs last. */
function ranks(nodes: LineageNode[], edges: Link[]): Map<string, number> {
  const rank = new Map(nodes.map((node) => [node.id, base(node)]));
  // As often as there are nodes at most: a cycle must not hang the page.
  for (let i = 0, moved = true; moved && i < nodes.length; i += 1) {
    moved = false;
    for (const { from, to } of edges) {
      const least = rank.get(from)! + 1;
      if (rank.get(to)! < least && least <= nodes.length + 3) {
        rank.set(to, least);
        moved = true;
      }
    }
  }
  const most = (...kinds: string[]) => Math.max(0, ...nodes.filter((n) => kinds.includes(n.kind)).map((n) => rank.get(n.id)!));
  const last = (kind: string, at: number) => {
    for (const node of nodes) if (node.kind === kind) rank.set(node.id, Math.max(rank.get(node.id)!, at));
  };
  last("metric", most("source", "raw", "model") + 1);
  last("write_back", most("source", "raw", "model", "metric") + 1);
  const used = [...new Set(rank.values())].sort((a, b) => a - b);
  return new Map([...rank].map(([id, r]) => [id, used.indexOf(r)]));
}

function base(node: LineageNode): number {
  if (node.kind === "source") return 0;
  return node.kind === "raw" ? 1 : 2;
}

/** The columns, with a place in each column that an edge crosses, so that it goes around the nodes. */
function withPasses(nodes: LineageNode[], edges: Link[], rank: Map<string, number>) {
  const columns: Slot[][] = Array.from({ length: Math.max(0, ...[...rank.values()].map((r) => r + 1)) }, () => []);
  for (const node of nodes) columns[rank.get(node.id)!]!.push({ id: node.id, node });
  const links: Link[] = [];
  const passes = new Set<string>();
  const ways = edges.map(({ from, to }) => {
    const way = [from];
    for (let at = rank.get(from)! + 1; at < rank.get(to)!; at += 1) {
      // Edges from one node run together as long as they can.
      const id = `${from} >${at}`;
      if (!passes.has(id)) columns[at]!.push({ id, node: null });
      passes.add(id);
      way.push(id);
    }
    way.push(to);
    way.slice(1).forEach((id, i) => links.push({ from: way[i]!, to: id }));
    return way;
  });
  return { columns, links, ways };
}

/** Orders each column by the middle of its neighbours in the column before (or after). */
function sweep(columns: Slot[][], links: Link[], forward: boolean): void {
  const position = new Map<string, number>();
  const note = (column: Slot[]) => column.forEach((slot, i) => position.set(slot.id, (i + 0.5) / column.length));
  columns.forEach(note);
  for (const column of (forward ? columns : columns.toReversed()).slice(1)) {
    const middle = ({ id }: Slot): number => {
      const near = links.flatMap((link) => (forward ? (link.to === id ? [link.from] : []) : link.from === id ? [link.to] : []));
      const at = near.map((it) => position.get(it)!);
      return at.length === 0 ? position.get(id)! : at.reduce((a, b) => a + b, 0) / at.length;
    };
    const middles = new Map(column.map((slot) => [slot.id, middle(slot)]));
    column.sort((a, b) => middles.get(a.id)! - middles.get(b.id)!);
    note(column);
  }
}

function curve(way: string[], places: Map<string, { x: number; y: number; width: number }>, middle: (id: string) => number): string {
  const first = places.get(way[0]!)!;
  let x = first.x + first.width;
  let y = middle(way[0]!);
  let path = `M${x} ${y}`;
  way.slice(1).forEach((id, i) => {
    const place = places.get(id)!;
    const [toX, toY] = [place.x, middle(id)];
    const bend = Math.max(22, Math.abs(toX - x) / 2);
    path += `C${x + bend} ${y} ${toX - bend} ${toY} ${toX} ${toY}`;
    [x, y] = [toX, toY];
    if (i < way.length - 2) {
      x = place.x + place.width;
      path += `H${x}`;
    }
  });
  return path;
}

/** Only what is related to `focus`. */
export function focused(lineage: Lineage, focus: string | null): Lineage {
  if (focus === null || !lineage.nodes.some((node) => node.id === focus)) return lineage;
  const keep = related(focus, lineage.edges);
  return {
    nodes: lineage.nodes.filter((node) => keep.has(node.id)),
    edges: lineage.edges.filter((edge) => keep.has(edge.from) && keep.has(edge.to)),
  };
}
