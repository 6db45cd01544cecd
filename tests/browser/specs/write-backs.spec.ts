import { type Ballpoint } from '../ballpoint.ts';
import { expect, test, type Page } from '../page.ts';
import { dialog } from '../parts.ts';

const SYNC = 'refills_quality_feedback';
const TABLE = 'public.quality_feedback';

async function written(ballpoint: Ballpoint): Promise<number> {
  const exists = await ballpoint.sql('refills', `select to_regclass('${TABLE}') is not null`);
  return exists === 't' ? Number(await ballpoint.sql('refills', `select count(*) from ${TABLE}`)) : 0;
}

async function confirm(page: Page, deed: string): Promise<void> {
  await page.getByRole('region', { name: `Plan ${SYNC}` }).getByRole('button', { name: deed, exact: true }).click();
  const asked = dialog(page, `${deed} this plan?`);
  await asked.getByRole('button', { name: deed, exact: true }).click();
  await expect(asked).toBeHidden();
}

test('a plan is shown row by row, approved, applied, seen in the source, and undone', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/write-backs'));
  await page.getByRole('button', { name: `Plan ${SYNC}` }).click();
  const plan = page.getByRole('region', { name: `Plan ${SYNC}` });
  await expect(plan).toContainText('waits for approval');
  await expect(plan).toContainText(/create table/i);
  const added = plan.getByRole('tab', { name: /^Added [1-9]/ });
  await expect(added).toBeVisible();
  await expect(plan.getByRole('table', { name: 'Rows of the plan' }).getByRole('row').nth(1)).toBeVisible();
  expect(await written(ballpoint), 'a plan writes nothing').toBe(0);

  await confirm(page, 'Approve');
  await expect(plan).toContainText('approved');
  expect(await written(ballpoint), 'an approval writes nothing').toBe(0);
  await confirm(page, 'Apply');
  await expect(plan).toContainText('applied');
  const count = Number((await added.innerText()).replace(/\D/g, ''));
  expect(await written(ballpoint)).toBe(count);

  await confirm(page, 'Undo');
  await expect(plan).toContainText('undone');
  await ballpoint.until('the rows are gone', async () => (await written(ballpoint)) === 0);
});

test('a request in words becomes a plan with its reason, which can be rejected', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/write-backs'));
  const before = await written(ballpoint);
  await page.getByRole('textbox', { name: 'What should be written?' }).fill('hold refill batches with more than 5 % ink leaks');
  await page.getByRole('button', { name: 'Propose' }).click();
  const plan = page.getByRole('region', { name: `Plan ${SYNC}` });
  await expect(plan).toContainText('waits for approval');
  await confirm(page, 'Reject');
  await expect(plan).toContainText('rejected');
  expect(await written(ballpoint)).toBe(before);
  await expect(page.getByRole('list', { name: 'Plans' })).toContainText('rejected');
});
