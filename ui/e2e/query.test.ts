import { readFile } from 'node:fs/promises';
import { afterEach, expect, test } from 'vitest';
import { DEVICES } from './exporter';
import { inBrowser } from './world';

inBrowser('the query page', ({ world, visit, leave }) => {
  afterEach(leave);
  const at = (search: string) => `${world.allInOne}/query?${new URLSearchParams(search)}`;
  const end = new Date(world.until * 1000).toISOString().slice(0, 19).replace('T', ' ');

  test('asks what is written, with help in writing it', async () => {
    const page = await visit(world.allInOne);
    expect(page.url()).toBe(`${world.allInOne}/query`);
    const editor = page.locator('.cm-content');
    await editor.click();
    await page.keyboard.type('shop_ord');
    // The metric is completed, and its help text is there.
    const offer = page.locator('.cm-tooltip-autocomplete li', { hasText: 'shop_orders_total' });
    await offer.waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+A');
    await page.keyboard.type('rat');
    await page.locator('.cm-tooltip-autocomplete li', { hasText: /^rate/ }).first().waitFor();
    await page.locator('.cm-completionInfo').waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+A');
    await page.keyboard.type('rate(shop_orders_total)');
    await page.locator('.cm-lintRange-error', { hasText: 'shop_orders_total' }).waitFor();
    await page.keyboard.press('Control+A');
    await page.keyboard.type('sum by (city) (shop_orders_total)');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+Enter');
    await expect.poll(() => page.locator('.results .row:not(.head)').count()).toBe(3);
    expect(new URL(page.url()).searchParams.get('g0.expr')).toBe('sum by (city) (shop_orders_total)');
    // It is in the history now.
    await page.locator('.cm-content').blur();
    await page.keyboard.press('h');
    await page.locator('dialog .history-expr', { hasText: 'shop_orders_total' }).click();
    await page.locator('dialog').waitFor({ state: 'detached' });
  });

  test('opens the links of Prometheus and Thanos', async () => {
    const alert = await visit(`${world.allInOne}/graph?g0.expr=up+%3D%3D+0&g0.tab=1`);
    await alert.locator('.results .row', { hasText: 'broken' }).waitFor();
    expect(new URL(alert.url()).pathname).toBe('/query');
    const thanos = await visit(
      `${world.querier}/graph?g0.expr=weather_temperature&g0.tab=0&g0.stacked=1&g0.range_input=1h&g0.max_source_resolution=0s` +
        `&g0.deduplicate=0&g0.partial_response=1&g0.store_matches=%5B%5D&g0.end_input=${encodeURIComponent(end)}`,
    );
    await thanos.locator('.u-over').waitFor();
    expect(await thanos.getByRole('radio', { name: 'Stacked' }).getAttribute('aria-checked')).toBe('true');
    expect(await thanos.getByLabel('Deduplicate').isChecked()).toBe(false);
    // Not deduplicated: the replica is a label; and a store is down: that is said.
    await thanos.locator('.legend-row', { hasText: 'replica="a"' }).first().waitFor();
    await thanos.locator('.notice.warn', { hasText: 'Warning' }).first().waitFor();
  });

  test('draws a graph, and zooms by dragging', async () => {
    const page = await visit(at(`g0.expr=weather_temperature&g0.tab=graph&g0.range_input=6h&g0.end_input=${end}`));
    const plot = page.locator('.u-over');
    await plot.waitFor();
    const box = (await plot.boundingBox())!;
    const painted = await page.locator('.plot canvas').evaluate((canvas: HTMLCanvasElement) => {
      const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
      const colours = new Set<number>();
      for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) colours.add((data[i]! << 16) | (data[i + 1]! << 8) | data[i + 2]!);
      return colours.size;
    });
    expect(painted).toBeGreaterThan(3);
    await page.mouse.move(box.x + box.width / 2, box.y + 100);
    await page.locator('.tip .tip-value').waitFor();
    // The third quarter of six hours.
    await page.mouse.move(box.x + box.width * 0.5, box.y + 100);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.6, box.y + 100, { steps: 4 });
    await page.mouse.move(box.x + box.width * 0.75, box.y + 100, { steps: 4 });
    await page.mouse.up();
    await expect.poll(() => new URL(page.url()).searchParams.get('g0.range_input')).toMatch(/^1h(29|30|31)?m?/);
    // And back.
    await page.goBack();
    await expect.poll(() => new URL(page.url()).searchParams.get('g0.range_input')).toBe('6h');
  });

  test('stays usable with five thousand series', async () => {
    const page = await visit(at('g0.expr=device_temperature&g0.tab=graph&g0.range_input=1m'));
    await page.locator('.hint', { hasText: /Drawn are 300 of/ }).waitFor();
    expect(await page.locator('.legend-row').count()).toBeLessThan(100);
    await page.getByLabel('Filter series').fill('d4999');
    await expect.poll(() => page.locator('.legend-row').count()).toBe(1);
    await page.getByRole('radio', { name: 'Table' }).click();
    await page.locator('.took', { hasText: /5.000 results/ }).waitFor();
    expect(await page.locator('.results .row').count()).toBeLessThan(200);
    // The last rows come when they are scrolled to.
    // The page may still be growing at the first try.
    const end = page.locator('.results .row', { hasText: `d${DEVICES - 1}` });
    const seen = async () => {
      await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
      return end.count();
    };
    await expect.poll(seen, { timeout: 10_000 }).toBe(1);
  });

  test('draws native histograms as a heatmap, and as bars', async ({ skip }) => {
    if (!world.histograms) {
      console.log('SKIPPED: a heatmap of native histograms: EPIMETHEUS_DATA is not there');
      return skip();
    }
    const last = new Date(world.histograms * 1000).toISOString().slice(0, 19).replace('T', ' ');
    const page = await visit(at(`g0.expr=rate(fx_native_seconds[15s])&g0.tab=graph&g0.range_input=40s&g0.end_input=${last}`));
    await page.getByRole('button', { name: 'Show them as a heatmap' }).click();
    const plot = page.locator('.heatmap .u-over');
    await plot.waitFor();
    const box = (await plot.boundingBox())!;
    // Somewhere in the middle there is a bucket.
    await expect
      .poll(async () => {
        for (let y = 20; y < box.height; y += 20) {
          await page.mouse.move(box.x + box.width / 2, box.y + y);
          if (await page.locator('.heatmap .tip .tip-value').isVisible()) return true;
        }
        return false;
      })
      .toBe(true);
    await page.getByRole('radio', { name: 'Table' }).click();
    await page.locator('.histogram-bars i').first().waitFor();
  });

  test('shows exemplars', async () => {
    const page = await visit(at('g0.expr=rate(shop_latency_seconds_bucket[1m])&g0.tab=graph&g0.range_input=5m&g0.show_exemplars=1'));
    await page.locator('.result', { hasText: /[1-9]\d* exemplars in this time/ }).waitFor();
  });

  test('explains a query, before and after it ran', async () => {
    const page = await visit(at('g0.expr=sum(rate(shop_orders_total[1m]))&g0.tab=explain'));
    await page.getByRole('treeitem').first().waitFor();
    expect(await page.getByRole('treeitem').count()).toBeGreaterThan(1);
    await page.getByRole('radio', { name: 'Run and measure' }).click();
    await page.locator('.plan.measured .plan-bar').first().waitFor();
    await page.locator('.tile', { hasText: 'Samples' }).first().waitFor();
    expect(new URL(page.url()).searchParams.get('g0.analyze')).toBe('1');
    // And what each part of the expression gives by itself.
    await page.getByRole('radio', { name: 'Parts' }).click();
    await page.locator('.piece', { hasText: 'shop_orders_total[1m]' }).filter({ hasText: '3 series' }).waitFor();
    await page.locator('.piece', { hasText: 'sum' }).filter({ hasText: '1 series' }).waitFor();
  });

  test('says what is wrong with a query', async () => {
    const page = await visit(at('g0.expr=up * on (team) group_left device_temperature&g0.tab=1'));
    await page.getByRole('alert').filter({ hasText: 'found duplicate series' }).waitFor();
  });

  test('saves and shares what it shows', async () => {
    const page = await visit(at('g0.expr=sum by (city) (shop_orders_total)&g0.tab=1'));
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.locator('.results .row', { hasText: 'oslo' }).waitFor();
    const [file] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'More actions' }).click().then(() => page.getByRole('button', { name: 'Save as CSV' }).click()),
    ]);
    const lines = (await readFile(await file.path(), 'utf8')).trim().split('\r\n');
    expect(lines[0]).toBe('timestamp,value,city');
    expect(lines.slice(1).map((line) => line.split(',')[2])).toEqual(['lisbon', 'oslo', 'quito']);
    await page.getByRole('button', { name: 'More actions' }).click();
    await page.getByRole('button', { name: 'Copy as curl' }).click();
    await page.locator('.said', { hasText: 'Command copied' }).waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toContain(`curl -sSG '${world.allInOne}/api/v1/query'`);
  });

  test('finds metrics by looking around', async () => {
    const page = await visit(`${world.allInOne}/query`);
    await page.getByRole('button', { name: 'Metrics explorer' }).click();
    await page.getByLabel('Search names and descriptions').fill('orders that were taken');
    await page.locator('.metric-row', { hasText: 'shop_orders_total' }).click();
    await page.getByRole('button', { name: /^oslo/ }).click();
    await page.getByRole('button', { name: 'Use', exact: true }).click();
    await page.locator('.results .row', { hasText: 'oslo' }).waitFor();
    expect(new URL(page.url()).searchParams.get('g0.expr')).toBe('shop_orders_total{city="oslo"}');
  });

  test('has several panels, all in the address', async () => {
    const page = await visit(at('g0.expr=up&g0.tab=1&g1.expr=shop_queue_length&g1.tab=graph&g1.range_input=5m'));
    await page.locator('.panel').nth(1).locator('.u-over').waitFor();
    await page.getByRole('button', { name: 'Add a query' }).click();
    await expect.poll(() => page.locator('.panel').count()).toBe(3);
    await page.locator('.panel').nth(0).getByRole('button', { name: 'More actions' }).click();
    await page.getByRole('button', { name: 'Remove the panel' }).click();
    await expect.poll(() => new URL(page.url()).searchParams.get('g0.expr')).toBe('shop_queue_length');
  });
});
