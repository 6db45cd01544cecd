// The pictures of the README: `make screens`.
import { fileURLToPath } from 'node:url';

import { expect, test, type Page } from '../page.ts';
import { ask, dialog, expectStatus } from '../parts.ts';

const FOLDER = fileURLToPath(new URL('../../../docs/screens/', import.meta.url));

async function shoot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${FOLDER}${name}.png`, animations: 'disabled', caret: 'hide' });
}

test('pictures of the pages', async ({ page, ballpoint }) => {
  await page.setViewportSize({ width: 1360, height: 860 });
  await page.goto(ballpoint.address('/'));
  const answered = await ask(page, 'pass rate by component');
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
  await expect(page.getByRole('table', { name: 'Rows of the plan' }).getByRole('row').nth(1)).toBeVisible();
  await page.getByRole('button', { name: 'Approve' }).scrollIntoViewIfNeeded();
  await shoot(page, 'write-backs');

  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto(ballpoint.address('/system'));
  await page.getByRole('treeitem', { name: /^metric_registry\b/ }).click();
  await ballpoint.sql('refills', 'update refills_production set updated_at = clock_timestamp() where id = 1');
  await expect(page.getByRole('log', { name: 'Events' })).toContainText('refills');
  await shoot(page, 'system');
});
