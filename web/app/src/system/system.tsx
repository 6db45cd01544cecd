import { Page } from "../shell/Page.tsx";
export default function P() { return <Page title="system"><p>…</p></Page>; }
