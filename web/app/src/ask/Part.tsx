import type { ReactNode } from "react";

/** A named part of the drawer. */
export function Part({ title, action, children }: { title: string; action?: ReactNode; children: ReactNode }) {
  return (
    <section className="part" aria-label={title}>
      <div className="card-head">
        <h3>{title}</h3>
        {action}
      </div>
      {children}
    </section>
  );
}

/** A name and its value; values that are not words stand in the machine's letters. */
export function Fact({ name, value, plain = false }: { name: string; value: string; plain?: boolean }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{plain ? value : <code>{value}</code>}</dd>
    </div>
  );
}
