import { type KeyboardEvent, useRef, useState } from "react";
import type { Actor } from "../api/types.ts";
import { count, duration } from "../charts/format.ts";
import { Icon } from "../shell/Icon.tsx";
import { Status } from "../shell/Status.tsx";
import { type Line, lines, onKey } from "./tree.ts";

interface Props {
  actors: Actor[];
  selected: string;
  onSelect: (name: string) => void;
}

/** Who supervises whom. Selecting shows the actor beside it; deeds stand there, not in the tree. */
export function ActorTree({ actors, selected, onSelect }: Props) {
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set());
  const box = useRef<HTMLDivElement>(null);
  const all = lines(actors, closed);
  const toggle = (name: string, close: boolean) =>
    setClosed((old) => {
      const next = new Set(old);
      if (close) next.add(name);
      else next.delete(name);
      return next;
    });
  const onKeyDown = (event: KeyboardEvent) => {
    const move = event.ctrlKey || event.metaKey || event.altKey ? null : onKey(event.key, all, selected, closed);
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    if ("open" in move) toggle(move.open, false);
    else if ("close" in move) toggle(move.close, true);
    else {
      onSelect(move.select);
      box.current?.querySelector<HTMLElement>(`[data-name="${CSS.escape(move.select)}"]`)?.focus();
    }
  };
  return (
    <div className="card tree" role="tree" aria-label="Actors" ref={box} onKeyDown={onKeyDown}>
      {all.map((line) => (
        <Item
          key={line.actor.name}
          line={line}
          selected={line.actor.name === selected}
          closed={closed.has(line.actor.name)}
          onSelect={() => onSelect(line.actor.name)}
          onToggle={() => toggle(line.actor.name, !closed.has(line.actor.name))}
        />
      ))}
    </div>
  );
}

interface ItemProps {
  line: Line;
  selected: boolean;
  closed: boolean;
  onSelect: () => void;
  onToggle: () => void;
}

function Item({ line, selected, closed, onSelect, onToggle }: ItemProps) {
  const { actor, level } = line;
  const branches = actor.children.length > 0;
  const facts = [
    actor.uptime_ms !== null && duration(actor.uptime_ms),
    actor.queue > 0 && `queue ${actor.queue}`,
    actor.restarts > 0 && count(actor.restarts, "restart"),
  ].filter(Boolean);
  return (
    <div
      role="treeitem"
      aria-level={level}
      aria-posinset={line.place}
      aria-setsize={line.siblings}
      aria-selected={selected}
      aria-expanded={branches ? !closed : undefined}
      data-name={actor.name}
      tabIndex={selected ? 0 : -1}
      className={`line level-${Math.min(level, 6)}`}
      onClick={onSelect}
      onDoubleClick={branches ? onToggle : undefined}
    >
      <span className="twist" onClick={branches ? onToggle : undefined}>
        {branches && <Icon name={closed ? "right" : "down"} />}
      </span>
      <span className="name">{actor.name}</span> <Status state={actor.state} wellWhenRunning /> <span className="dim small facts">{facts.join(" · ")}</span>
    </div>
  );
}
