import { Page } from "../shell/Page.tsx";
export default function P() { return <Page title="write-backs"><p>…</p></Page>; }
