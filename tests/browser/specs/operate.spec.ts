import { expect, test } from '../page.ts';
import { dialog } from '../parts.ts';

type Actor = { name: string; incarnation: number; children?: Actor[] };

function find(actors: Actor[], name: string): Actor | undefined {
  for (const actor of actors) {
    const found = actor.name === name ? actor : find(actor.children ?? [], name);
    if (found) return found;
  }
  return undefined;
}

test('an actor is restarted only after its confirmation, and the tree and the events show it', async ({ page, ballpoint }) => {
  const incarnation = async () => {
    const tree = await ballpoint.api<Actor | Actor[]>('/api/actors');
    return find([tree].flat(), 'orchestrator')!.incarnation;
  };
  await page.goto(ballpoint.address('/system'));
  await page.getByRole('treeitem', { name: /^orchestrator\b/ }).click();
  const actor = page.getByRole('region', { name: 'Actor orchestrator' });
  const before = await incarnation();

  await actor.getByRole('button', { name: 'Restart' }).click();
  await dialog(page, 'Restart orchestrator?').getByRole('button', { name: 'Cancel' }).click();
  expect(await incarnation()).toBe(before);

  await actor.getByRole('button', { name: 'Restart' }).click();
  await dialog(page, 'Restart orchestrator?').getByRole('button', { name: 'Restart' }).click();
  await expect(dialog(page, 'Restart orchestrator?')).toBeHidden();
  expect(await incarnation()).toBe(before + 1);
  await expect(actor).toContainText(`Incarnation${before + 1}`);
  await expect(page.getByRole('log', { name: 'Events' })).toContainText('orchestrator');
});

test('an actor is paused and resumed', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/system'));
  await page.getByRole('treeitem', { name: /^loader\.springs\b/ }).click();
  const actor = page.getByRole('region', { name: 'Actor loader.springs' });
  await actor.getByRole('button', { name: 'Pause' }).click();
  await dialog(page, 'Pause loader.springs?').getByRole('button', { name: 'Pause' }).click();
  await expect(page.getByRole('treeitem', { name: /^loader\.springs\b.*paused/ })).toBeVisible();
  await actor.getByRole('button', { name: 'Resume' }).click();
  await dialog(page, 'Resume loader.springs?').getByRole('button', { name: 'Resume' }).click();
  await expect(page.getByRole('treeitem', { name: /^loader\.springs\b.*running/ })).toBeVisible();
});

test('the pipeline shows every layer, and a run of it appears with its steps', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/pipeline'));
  const graph = page.getByRole('region', { name: 'Graph' });
  for (const name of [/^refills\b.*, source/, /^fct_production\b/, /^Production\b.*, metrics/]) {
    await expect(graph.getByRole('button', { name }).first()).toBeVisible();
  }
  await graph.getByRole('button', { name: /^fct_production\b/ }).click();
  await expect(page.getByRole('region', { name: 'fct_production', exact: true })).toContainText('Read by');

  const runs = page.getByRole('table', { name: 'Runs' });
  const newest = async () => (await ballpoint.api<{ items: { id: string }[] }>('/api/runs?limit=1')).items[0]?.id;
  const before = await newest();
  await page.getByRole('button', { name: 'Run now' }).click();
  await ballpoint.until('the run is recorded', async () => (await newest()) !== before);
  await runs.getByRole('button', { name: /^Steps of / }).first().click();
  await expect(runs.getByRole('button', { expanded: true })).toHaveCount(1);
});

test('a row that is committed in a source shows on the page without a reload', async ({ page, ballpoint }) => {
  await page.goto(ballpoint.address('/system'));
  const events = page.getByRole('log', { name: 'Events' });
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await ballpoint.sql(
    'bodies',
    'update bodies_production set updated_at = clock_timestamp() where id = (select max(id) from bodies_production)',
  );
  await expect(events).toContainText('bodies');
});
