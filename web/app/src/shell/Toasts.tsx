import { createContext, type ReactNode, useCallback, useContext, useState } from "react";

const Context = createContext<(text: string) => void>(() => undefined);

/** Says something short that needs no answer. */
export const useToast = (): ((text: string) => void) => useContext(Context);

const SHOWN_MS = 6000;

export function Toasts({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<{ id: number; text: string }[]>([]);
  const show = useCallback((text: string) => {
    const id = Date.now() + Math.random();
    setToasts((old) => [...old.slice(-2), { id, text }]);
    setTimeout(() => setToasts((old) => old.filter((t) => t.id !== id)), SHOWN_MS);
  }, []);
  return (
    <Context value={show}>
      {children}
      <div className="toasts" role="status">
        {toasts.map((toast) => (
          <p key={toast.id} className="toast">
            {toast.text}
          </p>
        ))}
      </div>
    </Context>
  );
}
