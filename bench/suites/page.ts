/**
 * The review page on a log of 1,000,000 records: from the address to the first rows that are checked, to the histogram, to what a filter
 * asks for; and the check of every record in the browser. Needs Chromium (`CLOISTER_CHROMIUM`, or the usual places).
 * @module
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { type AuditServer, serveAudit } from '../../src/web/index.ts';
import { CHROMIUM, launchBrowser } from '../../test/web/browser.ts';
import { clinicRecord } from '../../test/web/clinic.ts';
import { recordBytes, testSigner, writeTiledLog } from '../../test/web/tiled-log.ts';
import { median } from '../measure.ts';
import { amountRow, type Report } from '../rows.ts';

const SIZE = 1_000_000;
const ROUNDS = 7;
const OPEN_LIMIT_MS = 2000;

/** The suite `page`. */
export async function benchPage(report: Report): Promise<void> {
  if (CHROMIUM === undefined) {
    report.note('skipped: there is no Chromium; set CLOISTER_CHROMIUM');
    return;
  }
  const results = join(import.meta.dirname, '..', 'results');
  mkdirSync(results, { recursive: true });
  const dir = mkdtempSync(join(results, 'page-'));
  const browser = await launchBrowser();
  try {
    writeTiledLog(dir, SIZE, seq => recordBytes(clinicRecord(seq, SIZE)), testSigner('clinic.example/audit'));
    await using server = await serveAudit(dir, { port: 0 });
    await server.ready();
    await time(browser, server, report);
  } finally {
    await browser.close();
    rmSync(dir, { recursive: true });
  }
}

async function time(browser: Browser, server: AuditServer, report: Report): Promise<void> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.goto(server.url); // takes the token
  const opened: number[] = [];
  const drawn: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await page.goto('about:blank');
    const from = performance.now();
    await page.goto(`http://127.0.0.1:${server.port}/`);
    await page.locator('.row.data .mark.verified').first().waitFor();
    opened.push(performance.now() - from);
    await page.locator('.histogram canvas').waitFor();
    drawn.push(performance.now() - from);
  }
  const count = await page.locator('.found').innerText();
  report.check({ name: 'the page is on all records', ok: count === '1,000,000 records', detail: count });
  const common = { suite: 'page', unit: 'ms', peerName: 'none', threads: 1 } as const;
  const row = (name: string, times: readonly number[], limitMs?: number) =>
    report.row(
      amountRow(
        {
          ...common,
          case: name,
          ...(limitMs !== undefined && { holdTo: { atMost: limitMs } }),
          best: Math.min(...times),
        },
        median(times),
        null,
      ),
    );
  row('1,000,000 records: first rows, checked', opened, OPEN_LIMIT_MS);
  row('1,000,000 records: histogram', drawn, OPEN_LIMIT_MS);
  row('a filter that 33,333 records match', await filtered(page, server.port));
  row('every record checked in the browser', [await checkedWhole(page, report)]);
}

/** From the address with a filter to its first row. */
async function filtered(page: Page, port: number): Promise<number[]> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await page.goto('about:blank');
    const from = performance.now();
    await page.goto(`http://127.0.0.1:${port}/#q=action%3Arefuse`);
    await page.locator('.row.data .mark.verified').first().waitFor();
    times.push(performance.now() - from);
  }
  return times;
}

async function checkedWhole(page: Page, report: Report): Promise<number> {
  const from = performance.now();
  await page.keyboard.press('v');
  await page.locator('.badge.verified, .badge.failed').waitFor({ timeout: 600_000 });
  const ms = performance.now() - from;
  const said = await page.locator('.badge [role=status]').innerText();
  report.check({ name: 'every record leads to the signed root', ok: said === 'Verified', detail: said });
  return ms;
}
