// axe-core in the page: every rule of WCAG 2.2 A and AA and its best practices, no exception.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { expect, type Page } from './page.ts';

const SOURCE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

type Violation = { id: string; help: string; nodes: { target: unknown; failureSummary?: string }[] };

export async function expectAccessible(page: Page, what: string): Promise<void> {
  // Through the debugger, which the page's policy does not bind.
  await page.evaluate(SOURCE);
  const violations = await page.evaluate(async (tags) => {
    const { axe } = window as unknown as { axe: { run: (on: Document, options: object) => Promise<{ violations: Violation[] }> } };
    const found = await axe.run(document, { runOnly: { type: 'tag', values: tags } });
    return found.violations;
  }, TAGS);
  const told = violations.map(({ id, help, nodes }) => ({
    id,
    help,
    nodes: nodes.map((node) => `${JSON.stringify(node.target)}: ${node.failureSummary ?? ''}`),
  }));
  expect(told, `axe-core on ${what}`).toEqual([]);
}
