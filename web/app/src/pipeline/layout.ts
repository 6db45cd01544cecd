// A layered drawing of the lineage: columns left to right, few crossings. Pure arithmetic.
import type { Lineage, LineageNode } from "../api/types.ts";

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

export const NODE_HEIGHT = 46;
const ROW = 60;
const GAP = 56;
const TOP = 34;
const EDGE_PAD = 8;
/** Widths of letters at 13 px; a bit too wide is better than cut. */
const LETTER = 7.6;
const WIDTH_MIN = 120;
const SWEEPS = 6;

const KIND_TITLES: Record<string, string> = { source: "sources", raw: "raw", metric: "metrics", write_back: "write-backs" };

export function layout({ nodes, edges }: Lineage): Layout {
  const known = new Set(nodes.map((node) => node.id));
  const real = edges.filter((edge) => known.has(edge.from) && known.has(edge.to) && edge.from !== edge.to);
  const columns = inColumns(nodes, real);
  for (let i = 0; i < SWEEPS; i += 1) sweep(columns, real, i % 2 === 0);
  const placed = new Map<string, Placed>();
  const titles: Layout["columns"] = [];
  const tallest = Math.max(0, ...columns.map((column) => column.length));
  let x = EDGE_PAD;
  for (const column of columns) {
    const width = Math.max(WIDTH_MIN, ...column.map((node) => widthOf(node)));
    const top = TOP + ((tallest - column.length) * ROW) / 2;
    column.forEach((node, i) => placed.set(node.id, { node, x, y: top + i * ROW, width }));
    titles.push({ title: titleOf(column), x });
    x += width + GAP;
  }
  return {
    nodes: columns.flat().map((node) => placed.get(node.id)!),
    edges: real.map(({ from, to }) => ({ from, to, path: curve(placed.get(from)!, placed.get(to)!) })),
    columns: titles,
    width: Math.max(0, x - GAP + EDGE_PAD),
    height: TOP + tallest * ROW,
  };
}

export const widthOf = (node: LineageNode): number => Math.ceil(node.name.length * LETTER) + 44;

function titleOf(column: LineageNode[]): string {
  const names = [...new Set(column.map((node) => KIND_TITLES[node.kind] ?? node.layer ?? "models"))];
  return names.join(", ");
}

/** A node stands right of everything it reads; sources first, metrics after all models, write-backs last. */
function inColumns(nodes: LineageNode[], edges: { from: string; to: string }[]): LineageNode[][] {
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
  const last = (kind: string, at: number) => {
    for (const node of nodes) if (node.kind === kind) rank.set(node.id, Math.max(rank.get(node.id)!, at));
  };
  const most = (...kinds: string[]) => Math.max(0, ...nodes.filter((n) => kinds.includes(n.kind)).map((n) => rank.get(n.id)!));
  last("metric", most("source", "raw", "model") + 1);
  last("write_back", most("source", "raw", "model", "metric") + 1);
  const ranks = [...new Set(rank.values())].sort((a, b) => a - b);
  return ranks.map((r) => nodes.filter((node) => rank.get(node.id) === r));
}

function base(node: LineageNode): number {
  if (node.kind === "source") return 0;
  return node.kind === "raw" ? 1 : 2;
}

/** Orders each column by the middle of its neighbours in the column before (or after). */
function sweep(columns: LineageNode[][], edges: { from: string; to: string }[], forward: boolean): void {
  const position = new Map<string, number>();
  const note = (column: LineageNode[]) => column.forEach((node, i) => position.set(node.id, (i + 0.5) / column.length));
  columns.forEach(note);
  const order = forward ? columns : columns.toReversed();
  for (const column of order.slice(1)) {
    const middle = (node: LineageNode): number => {
      const near = edges.flatMap((e) => (forward ? (e.to === node.id ? [e.from] : []) : e.from === node.id ? [e.to] : []));
      const at = near.map((id) => position.get(id)!);
      return at.length === 0 ? position.get(node.id)! : at.reduce((a, b) => a + b, 0) / at.length;
    };
    const middles = new Map(column.map((node) => [node.id, middle(node)]));
    column.sort((a, b) => middles.get(a.id)! - middles.get(b.id)!);
    note(column);
  }
}

function curve(from: Placed, to: Placed): string {
  const [x1, y1] = [from.x + from.width, from.y + NODE_HEIGHT / 2];
  const [x2, y2] = [to.x, to.y + NODE_HEIGHT / 2];
  const bend = Math.max(24, (x2 - x1) / 2);
  return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
}

/** The node with everything it comes from and everything that comes of it. */
export function related(id: string, edges: { from: string; to: string }[]): Set<string> {
  return new Set([...reach(id, edges, "from", "to"), ...reach(id, edges, "to", "from")]);
}

function reach(start: string, edges: { from: string; to: string }[], here: "from" | "to", there: "from" | "to"): Set<string> {
  const found = new Set([start]);
  const open = [start];
  while (open.length > 0) {
    const id = open.pop()!;
    for (const edge of edges) {
      if (edge[here] === id && !found.has(edge[there])) {
        found.add(edge[there]);
        open.push(edge[there]);
      }
    }
  }
  return found;
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
