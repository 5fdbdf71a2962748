// A page in Debian's Chromium that notices what must not happen: errors, requests to elsewhere.
import { type Browser, chromium, type Page } from 'playwright-core';
import { CHROMIUM } from './processes';

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
}

export interface Watched {
  page: Page;
  /** What went wrong so far. */
  wrong: string[];
}

/** A new page without any state of the others. */
export async function open(browser: Browser, given: { dark?: boolean; width?: number; height?: number } = {}): Promise<Watched> {
  const context = await browser.newContext({
    viewport: { width: given.width ?? 1400, height: given.height ?? 900 },
    colorScheme: given.dark ? 'dark' : 'light',
    timezoneId: 'Europe/Lisbon',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const text = message.text();
    // Answers that are no success are part of what is tested.
    if (message.type() === 'error' && !text.startsWith('Failed to load resource')) wrong.push(`console: ${text}`);
  });
  page.on('request', (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') wrong.push(`asked ${request.url()}`);
  });
  return { page, wrong };
}
