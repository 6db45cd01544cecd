import { expectAccessible } from '../axe.ts';
import { expect, expectNoSidewaysScroll, test, type Page } from '../page.ts';
import { ask, dialog, expectStatus, QUESTION } from '../parts.ts';

/** A page as somebody finds it, loaded. */
const PAGES: [name: string, path: string, ready: (page: Page) => Promise<void>][] = [
  ['Ask, empty', '/', (page) => expect(page.getByRole('list', { name: 'Suggested questions' })).toBeVisible()],
  ['System', '/system', (page) => expect(page.getByRole('treeitem').nth(5)).toBeVisible()],
  ['Pipeline', '/pipeline', (page) => expect(page.getByRole('region', { name: 'Graph' }).getByRole('button').nth(5)).toBeVisible()],
  ['Write-backs', '/write-backs', (page) => expect(page.getByRole('button', { name: /^Plan / }).first()).toBeVisible()],
];

for (const scheme of ['light', 'dark'] as const) {
  for (const [name, path, ready] of PAGES) {
    test(`${name} has no axe-core violation in ${scheme}, nor at the width of a phone`, async ({ page, ballpoint }) => {
      await page.emulateMedia({ colorScheme: scheme });
      await page.goto(ballpoint.address(path));
      await ready(page);
      await expectAccessible(page, `${name}, ${scheme}`);
      for (const width of [390, 320]) {
        await page.setViewportSize({ width, height: 800 });
        await expectNoSidewaysScroll(page);
      }
      await expectAccessible(page, `${name}, ${scheme}, 320 px`);
    });
  }

  test(`an answer, its table and its drawer have no axe-core violation in ${scheme}`, async ({ page, ballpoint }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(ballpoint.address('/'));
    const answered = await ask(page, QUESTION);
    await expectStatus(answered, 'done');
    await expect(answered.getByRole('img')).toBeVisible();
    await expectAccessible(page, `answer, ${scheme}`);
    await answered.getByRole('button', { name: 'Table' }).click();
    await expectAccessible(page, `table, ${scheme}`);
    await answered.getByRole('button', { name: 'How I got this' }).click();
    await expect(dialog(page, 'How I got this').getByRole('region', { name: 'Proof' })).toBeVisible();
    await expectAccessible(page, `drawer, ${scheme}`);
    await page.setViewportSize({ width: 390, height: 800 });
    await expectNoSidewaysScroll(page);
    await page.keyboard.press('Escape');
    await expectNoSidewaysScroll(page);
    await expectAccessible(page, `answer, ${scheme}, 390 px`);
  });

  test(`a plan, its confirmation and an actor's have no axe-core violation in ${scheme}`, async ({ page, ballpoint }) => {
    await page.emulateMedia({ colorScheme: scheme });
    await page.goto(ballpoint.address('/write-backs'));
    await page.getByRole('button', { name: 'Plan bodies_quality_feedback' }).click();
    const plan = page.getByRole('region', { name: 'Plan bodies_quality_feedback' });
    await expect(plan.getByRole('button', { name: 'Approve' })).toBeVisible();
    await expectAccessible(page, `plan, ${scheme}`);
    await plan.getByRole('button', { name: 'Approve' }).click();
    await expectAccessible(page, `confirmation, ${scheme}`);
    await page.keyboard.press('Escape');
    await page.goto(ballpoint.address('/system'));
    await page.getByRole('treeitem', { name: /^orchestrator\b/ }).click();
    await page.getByRole('button', { name: 'Restart' }).click();
    await expectAccessible(page, `restart, ${scheme}`);
  });
}

test('a question is asked, its proof read and an actor restarted with the keyboard alone', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  const field = page.getByRole('textbox', { name: 'Question' });
  await expect(field).toBeFocused();
  await page.keyboard.type(QUESTION);
  await page.keyboard.press('Enter');
  await expectStatus(page.getByRole('article', { name: QUESTION }), 'done');
  await tabTo(page, 'How I got this');
  await page.keyboard.press('Enter');
  const drawer = dialog(page, 'How I got this');
  await expect(drawer).toBeVisible();
  // Focus does not leave the dialog but for the browser's own bar, and comes back after it.
  for (let i = 0; i < 30; i += 1) {
    await page.keyboard.press('Tab');
    const inside = await page.evaluate(() => document.activeElement === document.body || !!document.activeElement?.closest('dialog'));
    expect(inside, 'focus stays in the dialog').toBe(true);
  }
  await page.keyboard.press('Escape');
  await expect(drawer).toBeHidden();
  await expect(page.getByRole('button', { name: 'How I got this' })).toBeFocused();

  await page.goto(ballpoint.address('/system'));
  await expect(page.getByRole('treeitem').first()).toBeVisible();
  await tabTo(page, undefined, 'treeitem');
  await page.keyboard.press('End');
  await tabTo(page, 'Restart');
  await page.keyboard.press('Enter');
  const asked = dialog(page, /^Restart /);
  await expect(asked).toBeVisible();
  await tabTo(page, 'Cancel');
  await page.keyboard.press('Enter');
  await expect(asked).toBeHidden();
});

/** Presses Tab until what has the focus has that name, or that role. */
async function tabTo(page: Page, name?: string, role?: string): Promise<void> {
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press('Tab');
    const reached = await page.evaluate(
      ([name, role]) => {
        const element = document.activeElement;
        if (role) return element?.getAttribute('role') === role;
        return element?.getAttribute('aria-label') === name || element?.textContent?.trim() === name;
      },
      [name, role],
    );
    if (reached) return;
  }
  throw new Error(`Tab never reaches ${name ?? role}`);
}
