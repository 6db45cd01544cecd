import { memo, useEffect, useRef, useState } from "react";
import { clock, duration } from "../charts/format.ts";
import { CopyButton } from "../shell/CopyButton.tsx";
import { Icon } from "../shell/Icon.tsx";
import { isTyping, shortcutsOn } from "../shell/Shortcuts.tsx";
import { askAgain } from "./chat.ts";
import { Clarify } from "./Clarify.tsx";
import { ProofDrawer } from "./ProofDrawer.tsx";
import { planner } from "./reading.ts";
import { ResultCard } from "./ResultCard.tsx";
import { Steps } from "./Steps.tsx";
import { Prose } from "./Prose.tsx";
import type { Turn } from "./turn.ts";

interface Props {
  turn: Turn;
  /** The newest: its choices and follow-ups can be taken. */
  last: boolean;
  onAsk: (question: string) => void;
}

/** A question and all that came of it. Finished turns are not drawn again. */
export const AnswerTurn = memo(function AnswerTurn({ turn, last, onAsk }: Props) {
  const [proof, setProof] = useState(false);
  useProofKey(last && turn.answer !== null, () => setProof(true));
  const { answer } = turn;
  const busy = turn.status === "streaming";
  return (
    <article className="turn" data-behaviour={answer?.behaviour} aria-label={turn.question} data-status={turn.status}>
      <h2 className="question">{turn.question}</h2>
      <div className="answer-body">
        <Steps steps={turn.steps} busy={busy} ms={took(turn)} />
        <div className="said" role="status">
          {turn.text !== "" && !turn.clarify && <Prose text={turn.text} />}
        </div>
        {turn.clarify && <Clarify clarify={turn.clarify} definitions={answer?.definition ?? []} active={last && !busy} onAsk={onAsk} />}
        {answer && answer.rows.length > 0 && <ResultCard answer={answer} onProof={() => setProof(true)} />}
        {turn.notices.map((notice) => (
          <p key={notice.text} className={`notice ${notice.level ?? "info"}`} role="status">
            <Icon name={notice.level === "warn" || notice.level === "error" ? "warn" : "info"} />
            {notice.text}
          </p>
        ))}
        {turn.status === "stopped" && <p className="dim">Stopped.</p>}
        {turn.status === "failed" && (
          <div className="problem" role="alert">
            <p>
              <Icon name="failed" /> This question got no answer: {turn.error}
            </p>
            <button type="button" onClick={() => askAgain(turn)}>
              Try again
            </button>
          </div>
        )}
        {!busy && turn.status !== "failed" && <TurnActions turn={turn} last={last} onProof={() => setProof(true)} />}
        {last && !busy && turn.followUps.length > 0 && (
          <ul className="follow-ups" aria-label="Follow-up questions">
            {turn.followUps.map((question) => (
              <li key={question}>
                <button type="button" onClick={() => onAsk(question)}>
                  {question}
                </button>
              </li>
            ))}
          </ul>
        )}
      </div>
      {proof && answer && <ProofDrawer answer={answer} question={turn.question} onClose={() => setProof(false)} />}
    </article>
  );
});

const took = (turn: Turn): number | null => (turn.askedAt !== null && turn.endedAt !== null ? turn.endedAt - turn.askedAt : null);

function TurnActions({ turn, last, onProof }: { turn: Turn; last: boolean; onProof: () => void }) {
  const { answer } = turn;
  const hasCard = answer !== null && answer.rows.length > 0;
  const facts = [
    turn.backend && planner(turn.backend),
    took(turn) !== null && duration(took(turn)),
    turn.askedAt !== null && clock(new Date(turn.askedAt).toISOString()),
  ].filter(Boolean);
  return (
    <div className="turn-actions">
      {!hasCard && answer?.behaviour === "answer" && (
        <button type="button" className="quiet" onClick={onProof}>
          <Icon name="info" />
          How I got this
        </button>
      )}
      {turn.text !== "" && <CopyButton text={turn.text} what="answer" />}
      {last && (
        <button type="button" className="quiet" onClick={() => askAgain(turn)}>
          <Icon name="again" />
          Regenerate
        </button>
      )}
      <span className="dim small facts">{facts.join(" · ")}</span>
    </div>
  );
}

function useProofKey(active: boolean, onProof: () => void): void {
  const newest = useRef(onProof);
  newest.current = onProof;
  useEffect(() => {
    if (!active) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "i" && !isTyping(event) && shortcutsOn()) newest.current();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [active]);
}
