// Light, dark, or as the system has it. Kept; shown by `data-theme` on the root.
import { useSyncExternalStore } from "react";

export type Theme = "system" | "light" | "dark";
const KEY = "theme";
const ORDER: Theme[] = ["system", "light", "dark"];
const dark = () => matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function chosen(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function startTheme(): void {
  show();
  dark().addEventListener("change", tell);
}

function show(): void {
  const theme = chosen();
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

function tell(): void {
  show();
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const shown = (): "light" | "dark" => {
  const theme = chosen();
  return theme === "system" ? (dark().matches ? "dark" : "light") : theme;
};

export function useTheme(): { chosen: Theme; shown: "light" | "dark"; next: () => void } {
  const now = useSyncExternalStore(subscribe, () => `${chosen()} ${shown()}`);
  const [theme, looks] = now.split(" ") as [Theme, "light" | "dark"];
  return {
    chosen: theme,
    shown: looks,
    next: () => {
      localStorage.setItem(KEY, ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length]!);
      tell();
    },
  };
}
