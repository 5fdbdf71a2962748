// The pictures in docs/ui: `SCREENSHOTS=1 npm run test:browser -- screenshots`.
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { afterEach, test } from 'vitest';
import type { World } from './processes';
import { inBrowser } from './world';

const TO = resolve('../docs/ui');

interface Shot {
  name: string;
  base: 'allInOne' | 'querier' | 'viewer' | 'prefixed';
  path: (world: World) => string;
  sign: string;
  act?: (page: Page) => Promise<unknown>;
}

const time = (seconds: number) => new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ');
const query = (params: Record<string, string>) => `/query?${new URLSearchParams(Object.entries(params).map(([n, v]) => [`g0.${n}`, v]))}`;
const plain = (name: string, base: Shot['base'], path: string, sign: string, act?: Shot['act']): Shot => ({ name, base, path: () => path, sign, act });

const SHOTS: Shot[] = [
  {
    name: 'query-graph',
    base: 'querier',
    path: (world) => query({ expr: 'weather_temperature', tab: 'graph', range_input: '1d', end_input: time(world.until) }),
    sign: '.legend-row',
    act: (page) => page.mouse.move(700, 330),
  },
  {
    name: 'query-heatmap',
    base: 'allInOne',
    path: (world) =>
      query({ expr: 'rate(fx_native_seconds[15s])', tab: 'graph', range_input: '40s', end_input: time(world.histograms ?? world.until), display_mode: 'heatmap' }),
    sign: '.heatmap .u-over',
  },
  plain('query-series', 'allInOne', query({ expr: 'device_temperature', tab: 'graph', range_input: '1m' }), '.legend-row'),
  plain('query-table', 'allInOne', query({ expr: 'topk(12, device_temperature)', tab: 'table' }), '.results .row'),
  plain('query-explain', 'allInOne', query({ expr: 'topk(3, sum by (site) (device_temperature)) / on () group_left sum(rate(shop_orders_total[1m]))', tab: 'explain', analyze: '1' }), '.plan-row'),
  plain('query-parts', 'allInOne', query({ expr: 'topk(3, sum by (site) (device_temperature)) / on () group_left sum(rate(shop_orders_total[1m]))', tab: 'explain', show_tree: '1' }), '.piece .badge'),
  plain('query-completion', 'allInOne', '/query', '.cm-content', async (page) => {
    await page.locator('.cm-content').click();
    await page.keyboard.type('histogram_q');
    await page.locator('.cm-completionInfo').waitFor();
  }),
  plain('query-metrics', 'allInOne', '/query', '.cm-content', async (page) => {
    await page.getByRole('button', { name: 'Metrics explorer' }).click();
    await page.locator('.metric-row').first().waitFor();
  }),
  plain('alerts', 'allInOne', '/alerts', '.alert-rule', (page) => page.locator('.alert-head', { hasText: 'TargetDown' }).click()),
  plain('rules', 'allInOne', '/rules', '.rule-row'),
  plain('targets', 'allInOne', '/targets', '.target-row'),
  plain('service-discovery', 'allInOne', '/service-discovery', '.found-row'),
  plain('alertmanagers', 'allInOne', '/alertmanager-discovery', '.plain'),
  plain('stores', 'querier', '/stores', '.store-row'),
  plain('database', 'allInOne', '/tsdb-status', '.bars'),
  plain('bucket', 'allInOne', '/bucket', '.lane .block', (page) => page.locator('.lane .block').nth(4).click()),
  plain('blocks', 'viewer', '/blocks', '.lane .block', (page) => page.locator('.lane .block').nth(4).click()),
  plain('bucket-empty', 'prefixed', '/bucket', '.empty'),
  plain('runtime', 'allInOne', '/status', '.facts'),
  plain('flags', 'allInOne', '/flags', '.flags'),
  plain('configuration', 'allInOne', '/config', '.yaml'),
  plain('keys', 'allInOne', '/status', '.facts', (page) => page.keyboard.press('?')),
];

if (process.env.SCREENSHOTS) {
  inBrowser('pictures', ({ world, visit, leave }) => {
    afterEach(leave);
    test.each(SHOTS)('$name', async ({ name, base, path, sign, act }) => {
      mkdirSync(TO, { recursive: true });
      const page = await visit(`${world[base]}${path(world)}`, { width: 1120, height: 700 });
      for (const scheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme: scheme });
        await page.locator(`html[data-theme=${scheme}]`).waitFor();
        await page.locator(sign).first().waitFor();
        if (scheme === 'light') await act?.(page);
        // Until what moves stands still.
        await page.waitForTimeout(700);
        await page.screenshot({ path: `${TO}/${name}-${scheme}.png` });
      }
    });
  });
} else {
  test.skip('pictures for docs/ui: only with SCREENSHOTS=1', () => {});
}
