import { useResource } from "../api/resource.ts";
import type { Lineage, LineageNode } from "../api/types.ts";
import { ago } from "../charts/format.ts";
import { upstream } from "../pipeline/related.ts";
import { Status } from "../shell/Status.tsx";

/** The assets that the query's cubes are made from, sources first as the lineage lists them. */
export function behind(query: unknown, { nodes, edges }: Lineage): LineageNode[] {
  const cubes = new Set([...JSON.stringify(query ?? null).matchAll(/"(\w+)\.\w+/g)].map(([, cube]) => cube!));
  const metrics = nodes.filter((node) => node.kind === "metric" && cubes.has(node.name));
  const made = new Set(metrics.flatMap((metric) => [...upstream(metric.id, edges)]));
  return nodes.filter((node) => made.has(node.id) && node.kind !== "metric");
}

/** Sources, tables and models behind an answer as they are now: how fresh, and whether their tests pass. */
export function Behind({ query }: { query: unknown }) {
  const { data } = useResource<Lineage>("/api/lineage");
  const nodes = data ? behind(query, data) : [];
  if (nodes.length === 0) return null;
  const now = Date.now();
  return (
    <ul className="behind" aria-label="Made from">
      {nodes.map((node) => (
        <li key={node.id}>
          <Status state={node.status} />
          <span className="grow">{node.name}</span>
          <span className="dim">
            {node.tests && node.tests.failed > 0 && `${node.tests.failed} tests failed, `}
            {node.tests && node.tests.failed === 0 && node.tests.passed > 0 && `${node.tests.passed} tests passed, `}
            {ago(node.fresh_at, now)}
          </span>
        </li>
      ))}
    </ul>
  );
}
