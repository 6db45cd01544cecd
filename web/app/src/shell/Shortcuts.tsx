import { useEffect, useState } from "react";
import { useLocation } from "wouter";
import { Dialog } from "./Dialog.tsx";

const KEYS: [keys: string, does: string][] = [
  ["/", "go to the question"],
  ["Enter", "send the question (Shift+Enter: a new line)"],
  ["Esc", "stop the answer; close what is open"],
  ["1 – 4", "choose between the offered meanings"],
  ["n", "new conversation"],
  ["i", "how the last answer was got"],
  ["g then a, p, s, w", "go to Ask, Pipeline, System, Write-backs"],
  ["?", "this list"],
];

const PAGES: Record<string, string> = { a: "/", p: "/pipeline", s: "/system", w: "/write-backs" };
const OFF = "shortcuts-off";

export const shortcutsOn = (): boolean => localStorage.getItem(OFF) === null;

/** Whether a key was meant as text or for an open dialog. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement | null;
  const inField = target?.closest("input, textarea, select, [contenteditable]") != null;
  return inField || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") !== null;
}

/** Listens for `g x` and `?`. */
export function useNavigationKeys(onHelp: () => void): void {
  const [, navigate] = useLocation();
  useEffect(() => {
    let afterG = false;
    const onKey = (event: KeyboardEvent) => {
      if (isTyping(event) || !shortcutsOn()) return;
      if (event.key === "?") onHelp();
      const page = PAGES[event.key];
      if (afterG && page) {
        event.preventDefault();
        navigate(page);
      }
      afterG = event.key === "g";
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [navigate, onHelp]);
}

export function ShortcutsDialog({ onClose }: { onClose: () => void }) {
  const [on, setOn] = useState(shortcutsOn);
  const toggle = () => {
    if (on) localStorage.setItem(OFF, "1");
    else localStorage.removeItem(OFF);
    setOn(!on);
  };
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <dl className="keys">
        {KEYS.map(([keys, does]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <label className="check">
        <input type="checkbox" checked={on} onChange={toggle} /> Single-key shortcuts are on
      </label>
    </Dialog>
  );
}
