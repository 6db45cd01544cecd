// What a node comes from and what comes of it.

interface Link {
  from: string;
  to: string;
}

export function related(id: string, edges: Link[]): Set<string> {
  return new Set([...reach(id, edges, "from", "to"), ...reach(id, edges, "to", "from")]);
}

/** A node and all that it is made from. */
export const upstream = (id: string, edges: Link[]): Set<string> => reach(id, edges, "to", "from");

function reach(start: string, edges: Link[], here: "from" | "to", there: "from" | "to"): Set<string> {
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
