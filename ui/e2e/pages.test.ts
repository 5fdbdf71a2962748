import { readFileSync, writeFileSync } from 'node:fs';
import axe from 'axe-core';
import type { Page } from 'playwright-core';
import { afterEach, expect, test } from 'vitest';
import { inBrowser } from './world';

/** Findings of axe, which is in the page, that keep people from using it. */
async function findings(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const { violations } = await (window as unknown as { axe: typeof axe }).axe.run(document, { resultTypes: ['violations'] });
    return violations
      .filter((v) => v.impact === 'serious' || v.impact === 'critical')
      .map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).slice(0, 3).join(', ')}`);
  });
}

inBrowser('the pages', ({ world, visit, leave }) => {
  afterEach(leave);

  test('alerts that fire', async () => {
    const page = await visit(`${world.allInOne}/alerts?state=firing`);
    await page.locator('.alert-head', { hasText: 'TargetDown' }).click();
    await page.locator('.alert-row', { hasText: 'of broken is down' }).waitFor();
    expect(await page.locator('.alert-rule', { hasText: 'NoOrders' }).count()).toBe(0);
    // The expression leads to the query page.
    await page.locator('.expr-link').click();
    await page.waitForURL(/g0\.expr=/);
    expect(new URL(page.url()).searchParams.get('g0.expr')).toBe('up == 0');
    // There is nothing to draw until the target has been down for a step of the graph.
    const drawn = async () => {
      await page.reload();
      return page
        .locator('.u-over')
        .waitFor({ timeout: 3_000 })
        .then(() => true, () => false);
    };
    await expect.poll(drawn, { timeout: 30_000 }).toBe(true);
  });

  test('rules, with the error of the one that fails', async () => {
    const page = await visit(`${world.allInOne}/rules`);
    await page.getByRole('radio', { name: /^err/ }).click();
    await page.locator('.rule-row', { hasText: 'many-to-many' }).waitFor();
    expect(await page.locator('.rule-row').count()).toBe(1);
    expect(page.url()).toContain('health=err');
  });

  test('targets, by health and words', async () => {
    const page = await visit(`${world.allInOne}/targets?health=down`);
    await page.locator('.target-row', { hasText: '503 Service Unavailable' }).waitFor();
    expect(await page.locator('.target-row').count()).toBe(2);
    await page.getByRole('radio', { name: /^all/ }).click();
    await page.getByLabel('Search labels, addresses, errors').fill('team="checkout"');
    await expect.poll(() => page.locator('.target-row').count()).toBe(1);
    await page.goto(`${world.allInOne}/service-discovery?state=dropped`);
    const dropped = page.locator('.found-row', { hasText: 'unwanted:1' });
    await dropped.getByRole('button', { name: 'step by step' }).click();
    await dropped.locator('.steps li', { hasText: 'drop source_labels=[__address__] regex=unwanted.*' }).locator('.badge').waitFor();
  });

  test('ten thousand targets and rules scroll', async () => {
    const many = 10_000;
    const page = await visit(`${world.allInOne}/status`);
    await page.route(/\/api\/v1\/targets(\?|$)/, async (route) => {
      const real = await (await route.fetch()).json();
      const [one] = real.data.activeTargets;
      real.data.activeTargets = Array.from({ length: many }, (_, i) => {
        const instance = `host-${String(i).padStart(5, '0')}:9100`;
        return { ...one, scrapeUrl: `http://${instance}/metrics`, globalUrl: `http://${instance}/metrics`, labels: { ...one.labels, instance } };
      });
      await route.fulfill({ json: real });
    });
    await page.route(/\/api\/v1\/rules(\?|$)/, async (route) => {
      const real = await (await route.fetch()).json();
      const [group] = real.data.groups;
      const rule = { ...group.rules[0], alerts: [] };
      group.rules = Array.from({ length: many }, (_, i) => ({ ...rule, name: `rule:number:${i}` }));
      real.data.groups = [group];
      await route.fulfill({ json: real });
    });
    for (const [path, row, last] of [
      ['/targets', '.target-row', 'host-09999:9100'],
      ['/rules', '.rule-row', 'rule:number:9999'],
    ] as const) {
      await page.goto(`${world.allInOne}${path}`);
      await page.locator(row).first().waitFor();
      // Rows that come into view are measured, and the page grows: the end is where it stays the end.
      await expect
        .poll(async () => {
          await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
          return page.locator(row, { hasText: last }).count();
        })
        .toBe(1);
      expect(await page.locator(row).count()).toBeLessThan(300);
    }
  });

  test('a querier shows the alerts, rules and targets of others', async () => {
    const page = await visit(`${world.querier}/alerts?state=firing`);
    await page.locator('.alert-head', { hasText: 'TargetDown' }).waitFor();
    await page.locator('nav a', { hasText: 'Rules' }).click();
    await page.locator('.rule-row', { hasText: 'odd:ratio' }).waitFor();
    await page.locator('nav a', { hasText: 'Targets' }).click();
    await page.locator('.target-row', { hasText: '503 Service Unavailable' }).waitFor();
    expect(await page.locator('nav a', { hasText: 'Service discovery' }).count()).toBe(0);
  });

  test('a configuration that is wrong is told on every page', async () => {
    const page = await visit(`${world.allInOne}/targets`);
    await page.locator('.target-row').first().waitFor();
    const notice = page.locator('.notice', { hasText: 'Configuration reload has failed.' });
    expect(await notice.count()).toBe(0);
    const config = readFileSync(world.config, 'utf8');
    const reload = () => fetch(`${world.allInOne}/-/reload`, { method: 'POST' });
    try {
      writeFileSync(world.config, 'scrape_configs: [{bad: true}]');
      expect((await reload()).status).toBe(500);
      await page.reload();
      await notice.waitFor();
    } finally {
      writeFileSync(world.config, config);
      expect((await reload()).status).toBe(200);
    }
    await notice.waitFor({ state: 'detached', timeout: 15_000 });
  });

  test('stores, one of them down', async () => {
    const page = await visit(`${world.querier}/stores`);
    await page.locator('.store-row', { hasText: 'cluster="test"' }).waitFor();
    const down = page.locator('.store-row', { hasText: 'down' });
    await down.locator('.target-error').waitFor();
    expect(await page.locator('.store-row').count()).toBe(2);
    expect(await page.locator('nav a').allInnerTexts()).toEqual(expect.arrayContaining(['Query', 'Stores']));
  });

  test('blocks in the bucket on a line of time', async () => {
    const page = await visit(`${world.allInOne}/bucket`);
    const blocks = page.locator('.lane .block');
    // The bucket is listed now and then.
    await expect.poll(() => blocks.count(), { timeout: 60_000 }).toBeGreaterThan(10);
    await blocks.nth(2).click();
    const details = page.locator('.block-details');
    await details.locator('dt', { hasText: 'Samples' }).waitFor();
    const ulid = await details.locator('h2').innerText();
    expect(page.url()).toContain(ulid);
    // Dragging zooms.
    const box = (await page.locator('.timeline-rows').boundingBox())!;
    const before = await blocks.count();
    await page.mouse.move(box.x + box.width * 0.1, box.y + box.height - 6);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height - 6, { steps: 4 });
    await page.mouse.up();
    await expect.poll(() => blocks.count()).toBeLessThan(before);
    // A bucket without blocks says when the first one comes.
    await page.goto(`${world.prefixed}/bucket`);
    await page.getByText('The first block is cut and shipped in about').waitFor();
  }, 90_000);

  test('a block is marked where that is allowed', async () => {
    const page = await visit(`${world.viewer}/blocks`);
    const blocks = page.locator('.lane .block');
    await expect.poll(() => blocks.count(), { timeout: 60_000 }).toBeGreaterThan(0);
    await blocks.last().click();
    const details = page.locator('.block-details');
    await details.getByRole('button', { name: 'no compaction' }).click();
    await details.getByLabel('Why').fill('look first');
    await details.getByRole('button', { name: 'Mark for no compaction' }).click();
    await details.locator('.badge', { hasText: 'no-compact' }).waitFor();
    await details.getByText('look first').waitFor();
  }, 90_000);

  test('light, dark and as the system has it', async () => {
    const page = await visit(`${world.allInOne}/status`, { dark: true });
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    await expect.poll(theme).toBe('dark');
    const dark = await background();
    await page.getByRole('radio', { name: 'Light' }).click();
    await expect.poll(theme).toBe('light');
    expect(await background()).not.toBe(dark);
    // It is remembered.
    await page.reload();
    await expect.poll(theme).toBe('light');
  });

  test('keys lead everywhere', async () => {
    const page = await visit(`${world.allInOne}/status`);
    await page.locator('nav a', { hasText: 'Targets' }).waitFor();
    await page.keyboard.press('?');
    await page.locator('dialog', { hasText: 'metrics explorer' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('g');
    await page.keyboard.press('t');
    await page.locator('.target-row').first().waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('devices');
    await expect.poll(() => page.locator('.target-row').count()).toBe(1);
  });

  test('a prefix, and addresses of earlier pages', async () => {
    const page = await visit(`${world.prefixed}/graph?g0.expr=1&g0.tab=1`);
    await page.locator('.single', { hasText: 'scalar' }).waitFor();
    expect(page.url()).toContain(`${world.prefixed}/query?`);
    await page.locator('nav a', { hasText: 'Flags' }).click();
    await page.locator('td', { hasText: '--web.external-url' }).waitFor();
    expect(page.url()).toBe(`${world.prefixed}/flags`);
    await page.goto(`${world.prefixed}/status/config`);
    await page.locator('.yaml', { hasText: 'scrape_configs' }).waitFor();
    expect(page.url()).toBe(`${world.prefixed}/config`);
    await page.goto(`${world.prefixed}/nowhere`);
    await page.getByText('There is no such page').waitFor();
  });

  const pages: [base: 'allInOne' | 'querier' | 'viewer', path: string, sign: string, act?: (page: Page) => Promise<void>][] = [
    ['allInOne', '/query?g0.expr=up&g0.tab=1', '.results .row'],
    ['allInOne', '/query?g0.expr=shop_queue_length&g0.tab=graph', '.legend-row'],
    ['allInOne', '/query?g0.expr=sum(up)&g0.tab=explain&g0.analyze=1', '.plan-row'],
    ['querier', '/query?g0.expr=up&g0.tab=1', '.results .row'],
    ['querier', '/query?g0.expr=up&g0.tab=graph', '.legend-row', (page) => page.getByTitle('Choose the time').click()],
    ['allInOne', '/query', '.cm-content', (page) => page.getByRole('button', { name: 'Metrics explorer' }).click()],
    ['allInOne', '/query?g0.expr=up&g0.tab=explain&g0.show_tree=1', '.piece .badge'],
    ['allInOne', '/alerts', '.alert-rule', (page) => page.locator('.alert-head').first().click()],
    ['allInOne', '/rules', '.rule-row'],
    ['allInOne', '/targets', '.target-row'],
    ['allInOne', '/service-discovery', '.found-row'],
    ['allInOne', '/alertmanager-discovery', '.card'],
    ['querier', '/stores', '.store-row'],
    ['allInOne', '/tsdb-status', '.bars'],
    ['allInOne', '/bucket', '.lane .block', (page) => page.locator('.lane .block').nth(4).click()],
    ['viewer', '/blocks', '.lane .block'],
    ['allInOne', '/status', '.facts'],
    ['allInOne', '/flags', '.flags'],
    ['allInOne', '/config', '.yaml'],
  ];
  test.each(pages)('%s%s can be used by everyone', async (base, path, sign, act) => {
    const page = await visit(`${world[base]}${path}`);
    await page.locator(sign).first().waitFor();
    await act?.(page);
    await page.evaluate(axe.source);
    expect(await findings(page)).toEqual([]);
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.locator('html[data-theme=dark]').waitFor();
    expect(await findings(page)).toEqual([]);
  });
});
