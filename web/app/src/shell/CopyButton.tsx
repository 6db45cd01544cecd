import { useState } from "react";
import { Icon } from "./Icon.tsx";

/** Puts `text` on the clipboard and says so on itself. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const [word, setWord] = useState("Copy");
  const copy = () => {
    navigator.clipboard.writeText(text).then(
      () => setWord("Copied"),
      () => setWord("Not allowed"),
    );
    setTimeout(() => setWord("Copy"), 2000);
  };
  return (
    <button type="button" className="quiet" aria-label={`${word} ${what}`} onClick={copy}>
      <Icon name={word === "Copied" ? "ok" : "copy"} />
      {word}
    </button>
  );
}
