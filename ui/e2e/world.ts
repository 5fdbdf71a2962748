// What every test of a page needs.
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, inject } from 'vitest';
import { launch, open } from './browser';
import type { World } from './processes';

export interface Given {
  world: World;
  /** A new page at an address; at the end of the test nothing may have gone wrong in it. */
  visit: (url: string, as?: Parameters<typeof open>[1]) => Promise<Page>;
  /** Ends the pages of a test, and says what went wrong in them. */
  leave: () => Promise<void>;
}

/** Tests in a browser against the running processes; skipped where there is none. */
export function inBrowser(name: string, tests: (given: Given) => void): void {
  const world = inject('world');
  describe.skipIf(!world)(name, () => {
    if (!world) return;
    let browser: Browser;
    let opened: Awaited<ReturnType<typeof open>>[] = [];
    beforeAll(async () => {
      browser = await launch();
    });
    afterAll(() => browser?.close());
    tests({
      world,
      visit: async (url, as) => {
        const watched = await open(browser, as);
        opened.push(watched);
        await watched.page.goto(url);
        return watched.page;
      },
      leave: async () => {
        const pages = opened;
        opened = [];
        await Promise.all(pages.map(({ page }) => page.context().close()));
        expect(pages.flatMap(({ wrong }) => wrong)).toEqual([]);
      },
    });
  });
}
