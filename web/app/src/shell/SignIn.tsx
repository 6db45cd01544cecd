import { type FormEvent, useState } from "react";
import { session } from "../api/session.ts";

/** Shown when the server refuses the token: says where the right one is. */
export function SignIn() {
  const [token, setToken] = useState("");
  const had = session.token() !== null;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (token.trim()) session.signIn(token.trim());
  };
  return (
    <main className="page narrow" aria-labelledby="sign-in">
      <section className="card">
        <h1 id="sign-in">A token is needed</h1>
        <p>{had ? "This server does not take the token of this tab: it was changed, or belongs to another server." : "This address was opened without its token."}</p>
        <ol>
          <li>
            Open the whole address that <code>ballpoint up</code> printed; it ends in <code>?token=…</code>
          </li>
          <li>
            or paste the token here. It is also in the file <code>token</code> of the data folder.
          </li>
        </ol>
        <form onSubmit={submit} className="row">
          <label className="field grow">
            Token
            <input type="password" autoComplete="off" spellCheck={false} value={token} onChange={(event) => setToken(event.target.value)} />
          </label>
          <button type="submit" className="primary">
            Sign in
          </button>
        </form>
      </section>
    </main>
  );
}
