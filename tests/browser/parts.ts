// The page's parts by role and name, as a person or a screen reader finds them.
import { expect, type Locator, type Page } from './page.ts';

export const FACTS = 'marts.fct_production';
export const QUESTION = 'pass rate by component';
export const AMBIGUOUS = 'performance by line';

export async function ask(page: Page, question: string): Promise<Locator> {
  await page.getByRole('textbox', { name: 'Question' }).fill(question);
  await page.getByRole('button', { name: 'Ask', exact: true }).click();
  return turn(page, question);
}

/** The newest turn with that question. */
export function turn(page: Page, question: string): Locator {
  return page.getByRole('article', { name: question, exact: true }).last();
}

export async function expectStatus(turn: Locator, status: 'streaming' | 'done' | 'stopped' | 'failed'): Promise<void> {
  await expect(turn).toHaveAttribute('data-status', status);
}

export function pages(page: Page): Locator {
  return page.getByRole('navigation', { name: 'Pages' });
}

export function dialog(page: Page, name: string | RegExp): Locator {
  return page.getByRole('dialog', { name });
}
