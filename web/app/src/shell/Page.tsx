import { type ReactNode, useEffect } from "react";
import { Icon } from "./Icon.tsx";

/** A page's frame: its heading, what can be done at once, its sections. */
export function Page({ title, actions, children }: { title: string; actions?: ReactNode; children: ReactNode }) {
  useEffect(() => {
    document.title = `${title} · Ballpoint`;
  }, [title]);
  return (
    <main className="page" id="main">
      <div className="page-head">
        <h1>{title}</h1>
        {actions && <div className="actions">{actions}</div>}
      </div>
      {children}
    </main>
  );
}

/** A failed reading, with the way to try again. */
export function Problem({ what, error, onRetry }: { what: string; error: string; onRetry?: () => void }) {
  return (
    <div className="problem" role="alert">
      <p>
        <Icon name="failed" /> {what}: {error}
      </p>
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Nothing there, and what would bring something. */
export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}

export function Loading({ what }: { what: string }) {
  return (
    <p className="loading" role="status">
      Reading {what}…
    </p>
  );
}
