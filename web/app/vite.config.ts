import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The running program that the development server passes requests on to.
const backend = process.env["BALLPOINT_URL"] ?? "http://127.0.0.1:4000";
const passed = ["/api", "/cubejs-api", "/readyz", "/livez"];

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  root: at("src"),
  publicDir: at("static"),
  plugins: [react()],
  build: {
    outDir: at("../dist"),
    emptyOutDir: true,
    target: "es2023",
    cssTarget: ["chrome123", "firefox128", "safari17.5"],
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    // Names without hashes: a change of the app is a change of few files; the server gives ETags.
    rolldownOptions: {
      output: {
        entryFileNames: "assets/app.js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/app[extname]",
        // What several parts need: named here, or its name would change with its content.
        codeSplitting: { groups: [{ name: "shared", minShareCount: 2 }] },
      },
    },
  },
  server: {
    proxy: Object.fromEntries(
      passed.map((path) => [
        path,
        {
          target: backend,
          changeOrigin: true,
          configure: (proxy: { on: (event: "proxyReq", listener: (request: { setHeader: (name: string, value: string) => void }) => void) => void }) => {
            // The program answers its own origin alone.
            proxy.on("proxyReq", (request) => request.setHeader("origin", backend));
          },
        },
      ]),
    ),
  },
  test: { root: at("."), include: ["test/**/*.test.ts"], environment: "node" },
});
