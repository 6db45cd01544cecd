// The token: from the URL that `ballpoint up` prints into this tab's storage, and out of the address bar.

const KEY = "token";
const listeners = new Set<() => void>();
let refusedNow = false;

/** Finds a token in `?token=` or `#token=`; returns it and the address without it. */
export function takeToken(address: string): { token: string | null; address: string } {
  const url = new URL(address);
  const fragment = new URLSearchParams(url.hash.slice(1));
  const token = url.searchParams.get(KEY) ?? fragment.get(KEY);
  url.searchParams.delete(KEY);
  if (fragment.has(KEY)) {
    fragment.delete(KEY);
    url.hash = fragment.toString();
  }
  return { token, address: url.href };
}

export const session = {
  /** To be called once, before anything is asked of the server. */
  start(): void {
    const taken = takeToken(location.href);
    if (!taken.token) return;
    sessionStorage.setItem(KEY, taken.token);
    history.replaceState(null, "", taken.address);
  },
  token: (): string | null => sessionStorage.getItem(KEY),
  signIn(token: string): void {
    sessionStorage.setItem(KEY, token);
    refusedNow = false;
    tell();
  },
  /** The server did not take the token. */
  refused(): void {
    if (refusedNow) return;
    refusedNow = true;
    tell();
  },
  isRefused: (): boolean => refusedNow,
  subscribe(listener: () => void): () => void {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

function tell(): void {
  for (const listener of listeners) listener();
}
