import { moment } from "../charts/format.ts";
import { useBootstrap } from "../shell/bootstrap.tsx";
import { Problem } from "../shell/Page.tsx";

/** Before the first question: what may be asked, and up to when the data goes. */
export function Greeting({ onAsk }: { onAsk: (question: string) => void }) {
  const { boot, error } = useBootstrap();
  if (!boot) return error ? <Problem what="The system cannot be reached" error={error} /> : null;
  const { from, to } = boot.data ?? { from: null, to: null };
  return (
    <section className="greeting">
      <h2>What do you want to know?</h2>
      {to ? (
        <p className="dim">
          Data{from && ` from ${moment(from)}`} to {moment(to)}
        </p>
      ) : (
        <FirstSteps sources={boot.sources} />
      )}
      {boot.suggested.length > 0 && (
        <ul className="suggested" aria-label="Suggested questions">
          {boot.suggested.slice(0, 4).map((question) => (
            <li key={question}>
              <button type="button" onClick={() => onAsk(question)}>
                {question}
              </button>
            </li>
          ))}
        </ul>
      )}
      <p className="dim small">Every number opens to its definition, query, SQL, rows and freshness.</p>
    </section>
  );
}

function FirstSteps({ sources }: { sources: string[] }) {
  return (
    <ol className="dim">
      <li>{sources.length > 0 ? `Sources: ${sources.join(", ")}` : "Connect a source in ballpoint.toml"}</li>
      <li>The first load runs; the Pipeline page shows how far it is</li>
      <li>Then ask here</li>
    </ol>
  );
}
