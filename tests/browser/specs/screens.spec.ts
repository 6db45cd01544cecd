// The pictures of the README: `make screens`.
import { fileURLToPath } from 'node:url';

import { expect, test, type Page } from '../page.ts';
import { ask, dialog, expectStatus } from '../parts.ts';

const FOLDER = fileURLToPath(new URL('../../../docs/screens/', import.meta.url));

async function shoot(page: Page, name: string): Promise<void> {
  // A toast or a running animation is not what the page is about.
  await page.waitForLoadState('networkidle').catch(() => undefined);
  await page.screenshot({ path: `${FOLDER}${name}.png`, animations: 'disabled', caret: 'hide' });
}

test('pictures of the pages', async ({ page, ballpoint }) => {
  await page.setViewportSize({ width: 1200, height: 780 });
  await page.goto(ballpoint.address('/'));
  const answered = await ask(page, 'defect rate by machine last week');
  await expectStatus(answered, 'done');
  await expect(answered.getByRole('img')).toBeVisible();
  await shoot(page, 'ask');
  await answered.getByRole('button', { name: 'How I got this' }).click();
  await expect(dialog(page, 'How I got this').getByRole('region', { name: 'Proof' })).toBeVisible();
  await shoot(page, 'proof');

  await page.goto(ballpoint.address('/pipeline'));
  await expect(page.getByRole('region', { name: 'Graph' }).getByRole('button').nth(5)).toBeVisible();
  await shoot(page, 'pipeline');

  await page.goto(ballpoint.address('/write-backs'));
  await page.getByRole('textbox', { name: 'What should be written?' }).fill('hold refill batches with more than 5 % ink leaks');
  await page.getByRole('button', { name: 'Propose' }).click();
  await expect(page.getByRole('button', { name: 'Approve' })).toBeVisible();
  await shoot(page, 'write-backs');

  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto(ballpoint.address('/system'));
  await page.getByRole('treeitem', { name: /^metric_registry\b/ }).click();
  await shoot(page, 'system');
});
