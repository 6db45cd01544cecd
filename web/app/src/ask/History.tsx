import { type ReactNode, useEffect, useState } from "react";
import { Link } from "wouter";
import { remove } from "../api/client.ts";
import { useResource } from "../api/resource.ts";
import type { ConversationHead } from "../api/types.ts";
import { mayOperate, useBootstrap } from "../shell/bootstrap.tsx";
import { Confirm, Dialog } from "../shell/Dialog.tsx";
import { Icon } from "../shell/Icon.tsx";
import { Problem } from "../shell/Page.tsx";
import { useChat } from "./chat.ts";

interface Props {
  current: string | null;
  onNew: () => void;
  onChosen?: () => void;
}

/** While somebody types, one search after the last key. */
const TYPED_MS = 200;

export function History({ current, onNew, onChosen }: Props) {
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [deleting, setDeleting] = useState<ConversationHead | null>(null);
  const list = useResource<{ items: ConversationHead[] }>(`/api/conversations?search=${encodeURIComponent(search)}`);
  const mayDelete = mayOperate(useBootstrap().boot);
  const finished = useChat().turns.filter((turn) => turn.status !== "streaming").length;
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed.trim()), TYPED_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(list.reload, [finished, current, list.reload]);
  const items = list.data?.items ?? [];
  return (
    <div className="history">
      <button type="button" className="new" onClick={onNew}>
        <Icon name="plus" />
        New conversation
      </button>
      <label className="hidden" htmlFor={onChosen ? "search-sheet" : "search"}>
        Search conversations
      </label>
      <input
        id={onChosen ? "search-sheet" : "search"}
        type="search"
        placeholder="Search conversations"
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
      />
      {list.error && !list.missing && <Problem what="The history cannot be read" error={list.error} onRetry={list.reload} />}
      <ul>
        {items.map((item) => (
          <li key={item.id}>
            <Link href={`/ask/${item.id}`} aria-current={item.id === current ? "page" : undefined} onClick={onChosen}>
              {item.title || "Untitled"}
            </Link>
            {mayDelete && (
              <button type="button" className="plain" aria-label={`Delete ${item.title || "Untitled"}`} onClick={() => setDeleting(item)}>
                <Icon name="trash" />
              </button>
            )}
          </li>
        ))}
      </ul>
      {list.data && items.length === 0 && <p className="dim small">{search ? "Nothing found." : "No conversations yet."}</p>}
      {deleting && (
        <Confirm
          title="Delete conversation?"
          deed="Delete"
          danger
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await remove(`/api/conversations/${encodeURIComponent(deleting.id)}`);
            list.reload();
            if (deleting.id === current) onNew();
          }}
        >
          <p>“{deleting.title}” and its answers are removed. Their proofs stay.</p>
        </Confirm>
      )}
    </div>
  );
}

export function HistoryDialog({ onClose, children }: { onClose: () => void; children: ReactNode }) {
  return (
    <Dialog title="Conversations" onClose={onClose} side>
      {children}
    </Dialog>
  );
}
