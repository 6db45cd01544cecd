// A running `ballpoint up` of the example inside the binary, on a free port and a data dir of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
/** The clock of the example's seeds. */
const NOW = '2026-03-31T10:00:00Z';
/** How long a state is waited for that will come: the machine may be busy with something else. */
export const PATIENCE = 240_000;
/** Signs claims; given to the server by its environment. */
export const JWT_SECRET = 'a secret of the client tests, long enough';

export async function start() {
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
  const program = process.env.BALLPOINT ?? join(target, 'debug/ballpoint');
  if (!existsSync(program)) throw new Error(`${program} is not there: build it (cargo build)`);
  const folder = mkdtempSync(join(tmpdir(), 'ballpoint-clients-'));
  // As root, the unprivileged user that runs PostgreSQL has to reach its data.
  chmodSync(folder, 0o755);
  const env = { ...process.env, BALLPOINT__AUTH__JWT_SECRET: JWT_SECRET };
  delete env.OTEL_EXPORTER_OTLP_ENDPOINT;
  const child = spawn(
    program,
    ['--data-dir', join(folder, 'data'), 'up', '--listen', '127.0.0.1:0', '--now', NOW],
    { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const log = [];
  createInterface({ input: child.stderr }).on('line', (line) => log.push(line));
  const url = await new Promise((found, failed) => {
    createInterface({ input: child.stdout }).on('line', (line) => {
      log.push(line);
      const word = line.split(/\s+/).find((part) => /^http:\/\/.*[?#]token=/.test(part));
      if (word) found(new URL(word));
    });
    child.once('exit', (code) => failed(new Error(`ballpoint up ended with ${code}:\n${log.join('\n')}`)));
  });
  const token = url.searchParams.get('token') ?? new URLSearchParams(url.hash.slice(1)).get('token') ?? '';
  const end = Date.now() + PATIENCE;
  while ((await fetch(`${url.origin}/readyz`).catch(() => ({ status: 0 }))).status !== 200) {
    if (Date.now() > end) throw new Error(`not ready within ${PATIENCE} ms\n${log.slice(-20).join('\n')}`);
    await new Promise((next) => setTimeout(next, 200));
  }
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    const pid = join(folder, 'data/pg/postmaster.pid');
    if (existsSync(pid)) process.kill(Number(readFileSync(pid, 'utf8').split('\n')[0]), 'SIGINT');
    rmSync(folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  };
  const dataDir = join(folder, 'data');
  return { base: url.origin, api: `${url.origin}/cubejs-api/v1`, token, stop, program, folder, dataDir };
}
