// What every page needs to know of the system, read once and again when it changes.
import { createContext, type ReactNode, useContext } from "react";
import { useResource } from "../api/resource.ts";
import type { Bootstrap } from "../api/types.ts";

const Context = createContext<{ boot: Bootstrap | null; error: string | null }>({ boot: null, error: null });

export const useBootstrap = () => useContext(Context);

/** Viewers look and ask; whoever may do more is an operator or an admin. */
export const mayOperate = (boot: Bootstrap | null): boolean => boot !== null && boot.role !== "viewer";

const CHANGES_IT = /^(metrics_|build_|actor_changed|source_|sync_|plan_|write_back|incident)/;

export function BootstrapProvider({ children }: { children: ReactNode }) {
  const { data, error } = useResource<Bootstrap>("/api/bootstrap", (type) => CHANGES_IT.test(type));
  return <Context value={{ boot: data, error }}>{children}</Context>;
}
