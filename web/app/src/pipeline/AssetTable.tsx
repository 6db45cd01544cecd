import type { LineageNode } from "../api/types.ts";
import { ago, figure } from "../charts/format.ts";
import { Status } from "../shell/Status.tsx";
import { KINDS } from "./words.ts";

interface Props {
  nodes: LineageNode[];
  selected: string | null;
  now: number;
  onSelect: (id: string) => void;
}

/** The graph's nodes in words: also the way through it by keyboard and screen reader. */
export function AssetTable({ nodes, selected, now, onSelect }: Props) {
  return (
    <section className="card" aria-label="Assets">
      <h2>Assets</h2>
      <div className="scroll" tabIndex={0} role="group" aria-label="Table of assets">
        <table aria-label="Assets">
          <thead>
            <tr>
              <th scope="col">Name</th>
              <th scope="col">Kind</th>
              <th scope="col">Status</th>
              <th scope="col">Fresh</th>
              <th scope="col" className="number">
                Rows
              </th>
              <th scope="col" className="number">
                Tests
              </th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((node) => (
              <tr key={node.id} aria-current={node.id === selected ? "true" : undefined}>
                <th scope="row">
                  <button type="button" className="link" onClick={() => onSelect(node.id)}>
                    {node.name}
                  </button>
                </th>
                <td>{node.kind === "model" && node.layer ? node.layer : (KINDS[node.kind] ?? node.kind)}</td>
                <td>
                  <Status state={node.status} />
                </td>
                <td>{node.fresh_at ? ago(node.fresh_at, now) : "–"}</td>
                <td className="number">{figure(node.rows ?? null)}</td>
                <td className="number">{testsOf(node)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

export function testsOf({ tests }: LineageNode): string {
  if (!tests || tests.passed + tests.failed === 0) return "–";
  return tests.failed > 0 ? `${tests.failed} failed of ${tests.passed + tests.failed}` : `${tests.passed} passed`;
}
