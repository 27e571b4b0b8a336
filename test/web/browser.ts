/**
 * A browser for end-to-end tests: Chromium where one is installed (`CLOISTER_CHROMIUM`, or the usual places); none is ever fetched.
 * @module
 */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/snap/bin/chromium'];

/** Where the browser is; undefined where there is none. */
export const CHROMIUM: string | undefined = [process.env['CLOISTER_CHROMIUM'] ?? '', ...PLACES].find(
  place => place !== '' && existsSync(place),
);

/** Starts it. Its own sandbox is left out, as containers rarely allow it; the pages are ours. */
export async function launchBrowser(): Promise<Browser> {
  return await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
}
