// How a question was read: by whom, and what its words were taken for.

/** `A.rate or B.rate` → what the query holds of it, and the rest; all of it where the query holds none. */
export function chosen(takenFor: string, query: unknown): { taken: string; others: string[] } {
  const candidates = takenFor.split(" or ");
  const text = JSON.stringify(query ?? null);
  const taken = candidates.filter((member) => text.includes(`"${member}"`));
  if (taken.length === 0) return { taken: takenFor, others: [] };
  return { taken: taken.join(", "), others: candidates.filter((member) => !taken.includes(member)) };
}

/** Who planned, in words. */
export const planner = (backend: string): string => (backend === "planner" ? "Local planner" : backend === "llm" ? "Language model" : backend);
