import { lazy } from "react";
import { Page } from "../shell/Page.tsx";
const Graph = lazy(() => import("./graph.tsx"));
export default function PipelinePage() { return <Page title="Pipeline"><Graph /></Page>; }
