import { createRoot } from "react-dom/client";
import { session } from "./api/session.ts";
import { App } from "./shell/App.tsx";
import { startTheme } from "./shell/theme.ts";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/ask.css";
import "./styles/pages.css";

session.start();
startTheme();
createRoot(document.getElementById("app")!).render(<App />);
