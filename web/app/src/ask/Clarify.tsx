import { useEffect, useId, useRef } from "react";
import type { Definition, Option } from "../api/types.ts";
import { isTyping, shortcutsOn } from "../shell/Shortcuts.tsx";

interface Props {
  clarify: { question: string; options: Option[] };
  definitions: Definition[];
  active: boolean;
  onAsk: (question: string) => void;
}

const OPTIONS_MAX = 4;

/** The question back: one button a meaning, keys 1 to 4. */
export function Clarify({ clarify, definitions, active, onAsk }: Props) {
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const options = clarify.options.slice(0, OPTIONS_MAX);
  const choose = useRef((_: number) => undefined as void);
  choose.current = (i) => {
    const option = options[i];
    if (option) onAsk(option.question ?? option.label);
  };
  useEffect(() => {
    if (!active) return;
    // The choice is what comes next, unless the reader already writes something else.
    const field = document.getElementById("question") as HTMLTextAreaElement | null;
    if (field && document.activeElement === field && field.value === "") box.current?.querySelector("button")?.focus();
    const onKey = (event: KeyboardEvent) => {
      const at = "1234".indexOf(event.key);
      if (at >= 0 && event.key.length === 1 && !isTyping(event) && shortcutsOn()) choose.current(at);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [active]);
  return (
    <div className="clarify" role="group" aria-labelledby={id} ref={box}>
      <p id={id}>{clarify.question}</p>
      <div className="options">
        {options.map((option, i) => (
          <button type="button" key={option.label} disabled={!active} onClick={() => choose.current(i)}>
            <kbd aria-hidden="true">{i + 1}</kbd>
            <span>
              {option.label}
              <Effect option={option} definitions={definitions} />
            </span>
          </button>
        ))}
        {active && (
          <button type="button" className="quiet" onClick={() => document.getElementById("question")?.focus()}>
            Something else
          </button>
        )}
      </div>
    </div>
  );
}

/** What a choice stands for, where the registry defines it. */
function Effect({ option, definitions }: { option: Option; definitions: Definition[] }) {
  const measures = (option.query as { measures?: string[] } | undefined)?.measures ?? [];
  const meaning = definitions.find((d) => d.member === measures[0])?.description;
  return meaning && measures.length === 1 ? <span className="dim small effect">{meaning}</span> : null;
}
