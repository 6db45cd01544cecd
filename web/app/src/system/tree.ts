// The supervision tree as the lines of an ARIA tree, and where the keys lead in it.
import type { Actor } from "../api/types.ts";

export interface Line {
  actor: Actor;
  /** From 1. */
  level: number;
  parent: string | null;
  /** Among its siblings, from 1. */
  place: number;
  siblings: number;
}

/** The visible lines, top to bottom; what is in `closed` hides what is below it. */
export function lines(actors: Actor[], closed: ReadonlySet<string>, level = 1, parent: string | null = null): Line[] {
  return actors.flatMap((actor, i) => {
    const own: Line = { actor, level, parent, place: i + 1, siblings: actors.length };
    const below = closed.has(actor.name) ? [] : lines(actor.children, closed, level + 1, actor.name);
    return [own, ...below];
  });
}

export type Move = { select: string } | { open: string } | { close: string } | null;

/** What a key does on the line `at`, as trees behave everywhere. */
export function onKey(key: string, all: Line[], at: string, closed: ReadonlySet<string>): Move {
  const i = all.findIndex((line) => line.actor.name === at);
  const line = all[i];
  if (!line) return null;
  const to = (target: Line | undefined): Move => (target ? { select: target.actor.name } : null);
  const branches = line.actor.children.length > 0;
  switch (key) {
    case "ArrowDown":
      return to(all[i + 1]);
    case "ArrowUp":
      return to(all[i - 1]);
    case "Home":
      return to(all[0]);
    case "End":
      return to(all.at(-1));
    case "ArrowRight":
      if (!branches) return null;
      return closed.has(at) ? { open: at } : to(all[i + 1]);
    case "ArrowLeft":
      if (branches && !closed.has(at)) return { close: at };
      return line.parent ? { select: line.parent } : null;
    default:
      return key.length === 1 ? to(byFirstLetter(all, i, key)) : null;
  }
}

function byFirstLetter(all: Line[], from: number, key: string): Line | undefined {
  const after = [...all.slice(from + 1), ...all.slice(0, from)];
  return after.find((line) => line.actor.name.toLowerCase().startsWith(key.toLowerCase()));
}

export const everyone = (actors: Actor[]): Actor[] => actors.flatMap((actor) => [actor, ...everyone(actor.children)]);

/** "14 actors: 13 running, 1 backoff". */
export function tally(actors: Actor[]): string {
  const counts = new Map<string, number>();
  const all = everyone(actors);
  for (const { state } of all) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([state, n]) => `${n} ${state}`);
  return `${all.length} actors: ${parts.join(", ")}`;
}
