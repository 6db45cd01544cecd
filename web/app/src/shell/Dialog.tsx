import { type FormEvent, type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import { said } from "../api/client.ts";
import { Icon } from "./Icon.tsx";

interface DialogProps {
  title: string;
  onClose: () => void;
  /** At the right edge and as high as the window. */
  side?: boolean;
  children: ReactNode;
}

/** The browser's own modal dialog: focus stays in it, Escape closes it, focus returns. */
export function Dialog({ title, onClose, side = false, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  // A layout effect: it closes while the dialog is still in the page, so that the focus goes back.
  useLayoutEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      className={side ? "side" : undefined}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={id}>{title}</h2>
          <button type="button" className="plain" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  /** The button's word: the deed itself. */
  deed: string;
  danger?: boolean;
  /** Asks for a comment, too. */
  comment?: boolean;
  onClose: () => void;
  onConfirm: (comment: string) => Promise<unknown>;
  /** What will happen. */
  children: ReactNode;
}

/** Says what a deed will do, then does it; a failure stays in the dialog. */
export function Confirm({ title, deed, danger = false, comment = false, onClose, onConfirm, children }: ConfirmProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string | null>(null);
  const [words, setWords] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    onConfirm(words).then(onClose, (failure: unknown) => {
      setBusy(false);
      setError(said(failure));
    });
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        {children}
        {comment && (
          <label className="field">
            Comment (optional)
            <input value={words} onChange={(event) => setWords(event.target.value)} maxLength={500} />
          </label>
        )}
        {error && (
          <p className="problem" role="alert">
            {error}
          </p>
        )}
        <div className="actions end">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" className={danger ? "primary danger" : "primary"} disabled={busy}>
            {busy ? `${deed}…` : deed}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
