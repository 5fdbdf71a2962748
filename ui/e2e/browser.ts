// A page in Debian's Chromium that notices what must not happen: errors, requests to elsewhere.
import { type Browser, chromium, type Page } from 'playwright-core';
import { CHROMIUM } from './processes';

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
}

const VIOLATION = 'violation of the policy:';

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
    if (text.startsWith(VIOLATION)) wrong.push(text);
    // Answers that are no success are part of what is tested, and violations come from our own listener.
    const known = text.startsWith('Failed to load resource') || text.includes('Content Security Policy');
    if (message.type() === 'error' && !known) wrong.push(`console: ${text}`);
  });
  await page.addInitScript((mark) => {
    document.addEventListener('securitypolicyviolation', (event) => {
      const target = event.target instanceof Element ? event.target : null;
      // Chromium itself keeps the look of text that is typed over, as a style that the policy then
      // refuses; the editor draws the line anew anyway.
      if (event.effectiveDirective === 'style-src-attr' && target?.closest('.cm-content')) return;
      console.log(`${mark} ${event.effectiveDirective} ${event.blockedURI} ${target?.outerHTML.slice(0, 200)}`);
    });
  }, VIOLATION);
  page.on('request', (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') wrong.push(`asked ${request.url()}`);
  });
  return { page, wrong };
}
