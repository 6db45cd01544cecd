// What every spec gets: the running program, and a page that fails its spec when it breaks the
// content security policy, throws, or logs an error.
import { test as base, expect, type Locator, type Page } from '@playwright/test';

import { Ballpoint } from './ballpoint.ts';

type Fixtures = { watched: void };
type Shared = { ballpoint: Ballpoint };

export const test = base.extend<Fixtures, Shared>({
  ballpoint: [
    async ({}, use) => {
      const ballpoint = await Ballpoint.start();
      await use(ballpoint);
      await ballpoint.stop();
    },
    { scope: 'worker', timeout: 240_000 },
  ],
  watched: [
    async ({ page }, use) => {
      const faults: string[] = [];
      await page.exposeFunction('reportViolation', (text: string) => faults.push(text));
      await page.addInitScript(() => {
        document.addEventListener('securitypolicyviolation', (event) => {
          const report = (window as unknown as { reportViolation: (text: string) => void }).reportViolation;
          report(`content security policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
        });
      });
      page.on('pageerror', (error) => faults.push(`thrown: ${error.message}`));
      page.on('console', (message) => {
        if (message.type() === 'error' && !isExpected(message.text())) faults.push(`logged: ${message.text()}`);
      });
      await use();
      expect(faults).toEqual([]);
    },
    { auto: true },
  ],
});

/** The browser itself logs a line for each reply that is an error; a restart of the web actor cuts the feed. */
function isExpected(text: string): boolean {
  return /^Failed to load resource|net::ERR_(INCOMPLETE_CHUNKED_ENCODING|CONNECTION_|NETWORK_CHANGED|ABORTED)/.test(text);
}

/** Nothing reaches out of the window, at whatever width. */
export async function expectNoSidewaysScroll(page: Page): Promise<void> {
  const [content, window] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  expect(content, 'the page scrolls sideways').toBeLessThanOrEqual(window!);
}

export { expect };
export type { Locator, Page };
