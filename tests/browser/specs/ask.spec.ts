import { expect, test } from '../page.ts';
import { AMBIGUOUS, ask, dialog, expectStatus, FACTS, pages, QUESTION, turn } from '../parts.ts';

test('a question streams its steps and ends in a card that opens to its proof', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  await expect(page.getByRole('list', { name: 'Suggested questions' }).getByRole('button')).toHaveCount(4);
  expect(page.url(), 'the token stays in nobody’s history').not.toContain(ballpoint.token);

  const parts = await ballpoint.stream(QUESTION);
  for (const part of ['start', 'data-step', 'text-delta', 'data-answer', 'finish']) {
    expect(parts, 'the parts that an answer comes in').toContain(part);
  }
  const answered = await ask(page, QUESTION);
  await expectStatus(answered, 'done');
  await expect(answered.getByText(/^\d+\ssteps?\b/)).toBeVisible();

  const card = answered.getByRole('figure').first();
  await expect(card.getByRole('img')).toBeVisible();
  await card.getByRole('group', { name: 'View' }).getByRole('button', { name: 'Table' }).click();
  await expect(card.getByRole('table').getByRole('row')).toHaveCount(4);
  for (const component of ['refills', 'bodies', 'springs']) {
    await expect(card.getByRole('table')).toContainText(component);
  }

  await card.getByRole('button', { name: 'How I got this' }).click();
  const drawer = dialog(page, 'How I got this');
  for (const part of ['Interpretation', 'Metric definition', 'Query', 'SQL', 'Rows (3)', 'Freshness', 'Proof']) {
    await expect(drawer.getByRole('region', { name: part, exact: true })).toBeVisible();
  }
  await expect(drawer.getByRole('region', { name: 'Query', exact: true })).toContainText('Production.passRate');
  await expect(drawer.getByRole('region', { name: 'SQL', exact: true })).toContainText(/select/i);
  await drawer.getByRole('button', { name: 'Replay proof' }).click();
  await expect(drawer.getByText('The same 3 rows came again.')).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(drawer).toBeHidden();
});

test('every figure of an answer is what plain SQL on the source says', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  const answered = await ask(page, 'how many refills were made?');
  await expectStatus(answered, 'done');
  const counted = Number(await ballpoint.sql('refills', 'select count(*) from refills_production'));
  await expect(answered.getByRole('figure').first()).toContainText(counted.toLocaleString('en-GB'));
});

test('a question with two readings is asked back, and a choice answers it', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  const asked = await ask(page, AMBIGUOUS);
  const choices = asked.getByRole('group').filter({ has: page.getByRole('button', { name: 'Something else' }) });
  await expect(choices).toBeVisible();
  await expectStatus(asked, 'done');
  // The first key is the first choice.
  await page.keyboard.press('1');
  const answered = page.getByRole('article').nth(1);
  await expectStatus(answered, 'done');
  await expect(answered.getByRole('button', { name: 'How I got this' })).toBeVisible();
});

test('an answer under way can be stopped', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  const release = await ballpoint.hold('warehouse', FACTS);
  try {
    const asked = await ask(page, QUESTION);
    await expectStatus(asked, 'streaming');
    await page.getByRole('button', { name: 'Stop' }).click();
    await expectStatus(asked, 'stopped');
    await expect(page.getByRole('button', { name: 'Ask', exact: true })).toBeVisible();
  } finally {
    await release();
  }
  // And the next one is answered.
  await expectStatus(await ask(page, 'avg oee by machine'), 'done');
});

test('actors restarted while an answer streams cost nothing: it arrives', async ({ page, ballpoint, context }) => {
  await page.goto(ballpoint.address('/'));
  const release = await ballpoint.hold('warehouse', FACTS);
  try {
    const asked = await ask(page, QUESTION);
    await expectStatus(asked, 'streaming');
    const system = await context.newPage();
    await system.goto(ballpoint.address('/system'));
    for (const name of ['chat', 'analyst', 'metric_registry']) {
      await system.getByRole('treeitem', { name: new RegExp(`^${name}\\b`) }).click();
      const actor = system.getByRole('region', { name: `Actor ${name}`, exact: true });
      await actor.getByRole('button', { name: 'Restart' }).click();
      await dialog(system, `Restart ${name}?`).getByRole('button', { name: 'Restart' }).click();
      await expect(dialog(system, `Restart ${name}?`)).toBeHidden();
    }
    await system.close();
    await expectStatus(asked, 'streaming');
  } finally {
    await release();
  }
  const answered = turn(page, QUESTION);
  await expectStatus(answered, 'done');
  await expect(answered.getByRole('figure').first()).toBeVisible();
});

test('a follow-up goes on from the answer before', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  await expectStatus(await ask(page, QUESTION), 'done');
  const followUps = page.getByRole('list', { name: 'Follow-up questions' }).getByRole('button');
  await followUps.first().click();
  const second = page.getByRole('article').nth(1);
  await expectStatus(second, 'done');
  await expect(second.getByRole('button', { name: 'How I got this' })).toBeVisible();
});

test('a conversation survives a reload, is found again and can be deleted', async ({ page, ballpoint }) => {
  const question = 'reject rate by machine last week';
  await page.goto(ballpoint.address('/'));
  await expectStatus(await ask(page, question), 'done');
  await expect(page).toHaveURL(/\/ask\/[^/]+$/);
  await page.reload();
  await expectStatus(turn(page, question), 'done');
  await expect(turn(page, question).getByRole('button', { name: 'How I got this' })).toBeVisible();

  const conversations = page.getByRole('complementary', { name: 'Conversations' });
  await conversations.getByRole('button', { name: 'New conversation' }).click();
  await expect(page.getByRole('article')).toHaveCount(0);
  await conversations.getByRole('searchbox').fill('reject rate');
  await conversations.getByRole('link', { name: question }).click();
  await expectStatus(turn(page, question), 'done');
  await conversations.getByRole('button', { name: `Delete ${question}` }).click();
  await dialog(page, 'Delete conversation?').getByRole('button', { name: 'Delete' }).click();
  await expect(conversations.getByRole('link', { name: question })).toHaveCount(0);
});

test('a question in the address is asked at once, and what it holds stays text', async ({ page, ballpoint }) => {
  const odd = '<img src=x onerror=alert(1)> rate';
  await page.goto(ballpoint.address('/', { q: odd }));
  await expectStatus(turn(page, odd), 'done');
  await expect(page.locator('main img[src="x"]')).toHaveCount(0);
});

test('the pages are reached by their tabs', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/'));
  for (const name of ['Pipeline', 'Write-backs', 'System', 'Ask']) {
    await pages(page).getByRole('link', { name }).click();
    await expect(pages(page).getByRole('link', { name })).toHaveAttribute('aria-current', 'page');
    await expect(page.getByRole('heading', { level: 1, name })).toBeAttached();
  }
});

test('without a token the page tells where to find it', async ({ page, ballpoint }) => {
  await page.goto(`${ballpoint.base}/`);
  await expect(page.getByRole('heading', { name: 'A token is needed' })).toBeVisible();
  await page.getByRole('textbox', { name: 'Token' }).fill(ballpoint.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(page.getByRole('textbox', { name: 'Question' })).toBeVisible();
});
