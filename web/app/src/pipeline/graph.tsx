import { type KeyboardEvent, useMemo } from "react";
import type { Lineage } from "../api/types.ts";
import { ago } from "../charts/format.ts";
import { Icon } from "../shell/Icon.tsx";
import { look } from "../shell/Status.tsx";
import { layout, NODE_HEIGHT, type Placed } from "./layout.ts";
import { related } from "./related.ts";
import { KINDS } from "./words.ts";

interface Props {
  lineage: Lineage;
  selected: string | null;
  now: number;
  onSelect: (id: string) => void;
}

/** Where everything comes from and goes to. The table below it says the same in words. */
export default function Graph({ lineage, selected, now, onSelect }: Props) {
  const drawn = useMemo(() => layout(lineage), [lineage]);
  const path = useMemo(() => (selected ? related(selected, lineage.edges) : null), [selected, lineage]);
  const shade = (...ids: string[]) => (path === null || ids.every((id) => path.has(id)) ? "" : " off");
  return (
    <div className="graph" role="region" aria-label="Graph" tabIndex={0}>
      <svg width={drawn.width} height={drawn.height} viewBox={`0 0 ${drawn.width} ${drawn.height}`} role="group" aria-label="Lineage">
        {drawn.columns.map(({ title, x }) => (
          <text key={x} x={x} y={16} className="column">
            {title}
          </text>
        ))}
        {drawn.edges.map((edge) => (
          <path key={`${edge.from} ${edge.to}`} d={edge.path} className={`edge${shade(edge.from, edge.to)}${path && !shade(edge.from, edge.to) ? " on" : ""}`} />
        ))}
        {drawn.nodes.map((placed) => (
          <Node key={placed.node.id} placed={placed} now={now} pressed={placed.node.id === selected} shade={shade(placed.node.id)} onSelect={onSelect} />
        ))}
      </svg>
    </div>
  );
}

interface NodeProps {
  placed: Placed;
  now: number;
  pressed: boolean;
  shade: string;
  onSelect: (id: string) => void;
}

function Node({ placed, now, pressed, shade, onSelect }: NodeProps) {
  const { node, x, y, width } = placed;
  const [tone, icon] = look(node.status);
  const sub = node.fresh_at ? ago(node.fresh_at, now) : node.status;
  const choose = () => onSelect(node.id);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose();
  };
  return (
    <g
      role="button"
      tabIndex={0}
      aria-pressed={pressed}
      aria-label={`${node.name} ${sub}, ${KINDS[node.kind] ?? node.kind}, ${node.status}`}
      className={`node ${tone} ${node.status}${shade}`}
      transform={`translate(${x} ${y})`}
      onClick={choose}
      onKeyDown={onKeyDown}
    >
      <rect width={width} height={NODE_HEIGHT} rx={8} />
      <g transform="translate(9 7)" className="mark">
        <Icon name={icon} />
      </g>
      <text x={30} y={19} className="name">
        {node.name}
      </text>{" "}
      <text x={30} y={36} className="sub">
        {sub}
      </text>
    </g>
  );
}
