// Builds the app aside and compares it with what is committed in web/dist, byte by byte.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const app = fileURLToPath(new URL("..", import.meta.url));
const committed = fileURLToPath(new URL("../../dist/", import.meta.url));
const aside = mkdtempSync(join(tmpdir(), "ballpoint-dist-"));

const files = (root) =>
  new Map(
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path.slice(root.length).replace(/^\//, ""), readFileSync(path)]),
  );

try {
  await build({ configFile: join(app, "vite.config.ts"), logLevel: "warn", build: { outDir: aside } });
  const [built, kept] = [files(aside), files(committed)];
  const names = [...new Set([...built.keys(), ...kept.keys()])].sort();
  const other = names.filter((name) => !(built.has(name) && kept.has(name) && built.get(name).equals(kept.get(name))));
  if (other.length > 0) {
    console.error(`web/dist is not what these sources build: ${other.join(", ")}\nRun \`npm run build\` in web/app and commit web/dist.`);
    process.exitCode = 1;
  } else {
    console.log(`web/dist is what these sources build: ${names.length} files`);
  }
} finally {
  rmSync(aside, { recursive: true });
}
