import { lazy, Suspense, useState, useSyncExternalStore } from "react";
import { Link, Route, Switch } from "wouter";
import { EventsProvider, useEvents } from "../api/events.tsx";
import { session } from "../api/session.ts";
import { AskPage } from "../ask/AskPage.tsx";
import { BootstrapProvider } from "./bootstrap.tsx";
import { Loading, Page } from "./Page.tsx";
import { ShortcutsDialog, useNavigationKeys } from "./Shortcuts.tsx";
import { SignIn } from "./SignIn.tsx";
import { Toasts } from "./Toasts.tsx";
import { TopBar } from "./TopBar.tsx";

const SystemPage = lazy(() => import("../system/system.tsx"));
const PipelinePage = lazy(() => import("../pipeline/pipeline.tsx"));
const WriteBacksPage = lazy(() => import("../write-backs/write-backs.tsx"));

/** One route for all three addresses: a conversation gets its id while its first answer streams. */
const ASK = /^\/(?:ask(?:\/(?<id>[^/]+))?)?\/?$/;

export function App() {
  const refused = useSyncExternalStore(session.subscribe, session.isRefused);
  if (refused) return <SignIn />;
  return (
    <EventsProvider>
      <BootstrapProvider>
        <Toasts>
          <Frame />
        </Toasts>
      </BootstrapProvider>
    </EventsProvider>
  );
}

function Frame() {
  const [help, setHelp] = useState(false);
  const [openHelp] = useState(() => () => setHelp(true));
  useNavigationKeys(openHelp);
  return (
    <>
      <a className="skip" href="#main">
        Skip to content
      </a>
      <TopBar onHelp={openHelp} />
      <ReconnectBanner />
      <Suspense fallback={<Loading what="the page" />}>
        <Switch>
          <Route path={ASK}>{({ id }) => <AskPage id={id ?? null} />}</Route>
          <Route path="/system" component={SystemPage} />
          <Route path="/pipeline" component={PipelinePage} />
          <Route path="/write-backs" component={WriteBacksPage} />
          <Route path="/write-backs/:plan" component={WriteBacksPage} />
          <Route>
            <Page title="No such page">
              <p>
                There is nothing at this address. <Link href="/">Ask a question</Link>
              </p>
            </Page>
          </Route>
        </Switch>
      </Suspense>
      {help && <ShortcutsDialog onClose={() => setHelp(false)} />}
    </>
  );
}

/** The live feed is lost: what is shown may be old. A first short break is not worth a word. */
function ReconnectBanner() {
  const { state, tries } = useEvents();
  if (state !== "lost" || tries < 2) return null;
  return (
    <p className="banner" role="status">
      Connection lost. Reconnecting… ({tries})
    </p>
  );
}
