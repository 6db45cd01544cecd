// A running `ballpoint up` on a free port and a data dir of its own, and the databases below it.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** The clock of the example's seeds: "last week" is a week that has data. */
const NOW = '2026-03-31T10:00:00Z';

/** How long a state is waited for that will come: the machine may be busy with something else. */
export const PATIENCE = 180_000;

function program(): string {
  const target = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
  const path = process.env.BALLPOINT ?? join(target, 'debug/ballpoint');
  if (!existsSync(path)) {
    throw new Error(`${path} is not there: build it (cargo build), or name another in BALLPOINT`);
  }
  return path;
}

export class Ballpoint {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** `http://127.0.0.1:PORT` */
    readonly base: string,
    readonly token: string,
    private readonly log: string[],
  ) {}

  static async start(): Promise<Ballpoint> {
    const folder = mkdtempSync(join(tmpdir(), 'ballpoint-browser-'));
    // As root, the unprivileged user that runs PostgreSQL has to reach its data.
    chmodSync(folder, 0o755);
    const environment = { ...process.env };
    delete environment.OTEL_EXPORTER_OTLP_ENDPOINT;
    const child = spawn(
      program(),
      ['--data-dir', join(folder, 'data'), 'up', '--listen', '127.0.0.1:0', '--now', NOW],
      // Outside of any project: the one inside the binary is served.
      { cwd: folder, env: environment, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const log: string[] = [];
    createInterface({ input: child.stderr! }).on('line', (line) => log.push(line));
    const url = await new Promise<URL>((found, failed) => {
      createInterface({ input: child.stdout! }).on('line', (line) => {
        log.push(line);
        const word = line.split(/\s+/).find((part) => /^http:\/\/.*[?#]token=/.test(part));
        if (word) found(new URL(word));
      });
      child.once('exit', (code) => failed(new Error(`ballpoint up ended with ${code}:\n${log.join('\n')}`)));
    });
    const token = url.searchParams.get('token') ?? new URLSearchParams(url.hash.slice(1)).get('token') ?? '';
    const ballpoint = new Ballpoint(child, folder, url.origin, token, log);
    await ballpoint.until('every stage has finished its first pass', async () => {
      const reply = await fetch(`${url.origin}/readyz`);
      return reply.status === 200;
    });
    return ballpoint;
  }

  /** The address that a person opens. */
  address(path = '/', query: Record<string, string> = {}): string {
    const parameters = new URLSearchParams({ ...query, token: this.token });
    return `${this.base}${path}?${parameters}`;
  }

  async api<T>(path: string, body?: unknown): Promise<T> {
    const reply = await fetch(`${this.base}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await reply.text();
    if (!reply.ok) throw new Error(`${path}: ${reply.status} ${text}`);
    return JSON.parse(text) as T;
  }

  /** The types of the parts of a streamed answer, in their order. */
  async stream(question: string): Promise<string[]> {
    const reply = await fetch(`${this.base}/api/chat/stream`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ question }),
    });
    const lines = (await reply.text()).split('\n').filter((line) => line.startsWith('data: {'));
    return lines.map((line) => (JSON.parse(line.slice(6)) as { type: string }).type);
  }

  /** What psql prints for a statement in one of the databases, unaligned. */
  async sql(database: string, statement: string): Promise<string> {
    const { databases } = await this.api<{ databases: Record<string, string> }>('/api/status');
    const run = spawnSync('psql', ['-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-c', statement, databases[database]!], {
      encoding: 'utf8',
    });
    if (run.status !== 0) throw new Error(`${statement}: ${run.stderr || String(run.error)}`);
    return run.stdout.trim();
  }

  /** Keeps whoever reads a table waiting, until the function that it returns is called. */
  async hold(database: string, table: string): Promise<() => Promise<void>> {
    const { databases } = await this.api<{ databases: Record<string, string> }>('/api/status');
    const psql = spawn('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', databases[database]!], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const ended = once(psql, 'exit');
    const locked = new Promise<void>((done, failed) => {
      createInterface({ input: psql.stdout! }).on('line', (line) => line === 'held' && done());
      psql.once('exit', () => failed(new Error(`${table} could not be held`)));
    });
    psql.stdin!.write(`begin; lock table ${table} in access exclusive mode; select 'held';\n`);
    await locked;
    return async () => {
      psql.stdin!.end('rollback;\n');
      await ended;
    };
  }

  async until(what: string, holds: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + PATIENCE;
    for (;;) {
      if (await holds().catch(() => false)) return;
      if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}\n${this.log.slice(-20).join('\n')}`);
      await new Promise((next) => setTimeout(next, 100));
    }
  }

  /** SIGTERM, as an operator stops it; its cluster stops with it. */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      const killing = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE);
      await ended;
      clearTimeout(killing);
    }
    this.stopCluster();
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 50, retryDelay: 100 });
  }

  /** A cluster outlives a program that was killed. */
  private stopCluster(): void {
    const file = join(this.folder, 'data/pg/postmaster.pid');
    if (!existsSync(file)) return;
    const pid = Number(readFileSync(file, 'utf8').split('\n')[0]);
    if (pid > 0) process.kill(pid, 'SIGINT');
  }
}
