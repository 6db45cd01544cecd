import { type KeyboardEvent, useLayoutEffect, useRef, useState } from "react";
import { Icon } from "../shell/Icon.tsx";

interface Props {
  streaming: boolean;
  /** The last question, to be taken up again with the up key. */
  last: string;
  onSend: (question: string) => void;
  onStop: () => void;
}

const QUESTION_MAX = 2000;
const DRAFT = "draft";

export function Composer({ streaming, last, onSend, onStop }: Props) {
  const [text, setText] = useState(() => sessionStorage.getItem(DRAFT) ?? "");
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    sessionStorage.setItem(DRAFT, text);
    const box = field.current!;
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, 180)}px`;
  }, [text]);
  const send = () => {
    const question = text.trim();
    if (!question) return;
    setText("");
    onSend(question);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" && !event.shiftKey && !event.nativeEvent.isComposing) {
      event.preventDefault();
      send();
    }
    if (event.key === "ArrowUp" && text === "" && last !== "") {
      event.preventDefault();
      setText(last);
    }
  };
  return (
    <form
      className="composer"
      aria-label="Ask your data"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label htmlFor="question" className="hidden">
        Question
      </label>
      <div className="composer-box">
        <textarea
          ref={field}
          id="question"
          rows={1}
          maxLength={QUESTION_MAX}
          placeholder="Ask your data…"
          value={text}
          autoFocus={matchMedia("(pointer: fine)").matches}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {streaming ? (
          <button type="button" onClick={onStop}>
            <Icon name="stop" />
            Stop
          </button>
        ) : (
          <button type="submit" className="primary">
            Ask
          </button>
        )}
      </div>
    </form>
  );
}
