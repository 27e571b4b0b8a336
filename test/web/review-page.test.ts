import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { verifyBundle } from '../../sandbox/audit/index.ts';
import { tilePath } from '../../sandbox/audit/tiles.ts';
import { serveAudit } from '../../src/web/index.ts';
import { CHROMIUM, launchBrowser } from './browser.ts';
import { clinicRecord, HOSTILE } from './clinic.ts';
import { recordBytes, testSigner, writeTiledLog } from './tiled-log.ts';

const SIZE = 3000;
const folder = mkdtempSync(join(tmpdir(), 'cloister-page-'));
const honest = join(folder, 'honest');
const signer = testSigner('clinic.example/audit');
let browser: Browser;

beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  writeTiledLog(honest, SIZE, seq => recordBytes(clinicRecord(seq, SIZE)), signer);
  browser = await launchBrowser();
});
afterAll(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Visit extends AsyncDisposable {
  readonly page: Page;
  readonly port: number;
  /** What the browser complained of, and requests to anywhere but the server. */
  readonly complaints: string[];
}

/** Opens the page on a log, in a browser that knows nothing unless `context` does. */
async function visit(dir: string, { port = 0, context, hash = '', ...options }: VisitOptions = {}): Promise<Visit> {
  const server = await serveAudit(dir, { port });
  const own = context ?? (await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options }));
  const page = await own.newPage();
  const complaints: string[] = [];
  page.on('pageerror', error => complaints.push(error.message));
  page.on('console', message => {
    if (/Content Security|Trusted/i.test(message.text())) complaints.push(message.text());
  });
  page.on('request', request => {
    if (!/^(blob:)?http:\/\/127\.0\.0\.1:/.test(request.url())) complaints.push(request.url());
  });
  await page.addInitScript(
    "addEventListener('securitypolicyviolation', event => console.error('Content Security: ' + event.violatedDirective))",
  );
  await page.goto(server.url + hash);
  await page.locator('.page').waitFor();
  await page.evaluate('new Promise(done => requestAnimationFrame(() => setTimeout(done)))'); // its keys are listened to
  return {
    page,
    port: server.port,
    complaints,
    async [Symbol.asyncDispose]() {
      await (context === undefined ? own.close() : page.close());
      await server.close();
    },
  };
}

interface VisitOptions {
  readonly port?: number;
  readonly context?: BrowserContext;
  readonly hash?: string;
  readonly viewport?: { width: number; height: number };
  readonly colorScheme?: 'light' | 'dark';
}

/** Waits for what a page comes to. */
const eventually = <T>(read: () => T | Promise<T>) => expect.poll(read, { timeout: 15_000 });

const badge = (page: Page) => page.locator('.badge');
const rowsOf = (page: Page) => page.locator('.row.data');
const found = (page: Page) => page.locator('.found');

function copyOf(name: string): string {
  const dir = join(folder, name);
  cpSync(honest, dir, { recursive: true });
  return dir;
}

function edit(file: string, change: (bytes: Buffer) => Uint8Array): void {
  writeFileSync(file, change(readFileSync(file)));
}

vi.setConfig({ testTimeout: 60_000 });

describe.skipIf(CHROMIUM === undefined)('the review page', () => {
  test('opens on the newest records, checks the log, and the address loses its token', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    await rowsOf(page).first().locator('.c-actor').waitFor();
    await eventually(() => badge(page).innerText()).toContain('Verified');
    expect(await rowsOf(page).first().innerText()).toContain('2,999');
    expect(await rowsOf(page).first().locator('.mark.verified').count()).toBe(1);
    expect(await found(page).innerText()).toBe('3,000 records');
    expect(page.url()).toBe(`http://127.0.0.1:${visited.port}/`);
    expect(visited.complaints).toEqual([]);
  });

  test('a filter shows as chips, in the address, and in what is found; the back button takes it back', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    await page.keyboard.press('/');
    await page.keyboard.type('action:refuse -decision:POLICY_REFUSED');
    await page.keyboard.press('Enter');
    await eventually(() => found(page).innerText()).toBe('50 of 3,000 records');
    expect(await page.locator('.chip').allInnerTexts()).toEqual([
      expect.stringMatching(/action\s*refuse/),
      expect.stringMatching(/not\s*decision\s*POLICY_REFUSED/),
    ]);
    expect(new URL(page.url()).hash).toBe('#q=action%3Arefuse+-decision%3APOLICY_REFUSED');
    await rowsOf(page).nth(9).locator('.c-decision').waitFor();
    for (const text of (await rowsOf(page).allInnerTexts()).slice(0, 10)) expect(text).toContain('SCOPE_EXHAUSTED');
    await page.getByLabel('Remove -decision:POLICY_REFUSED').click();
    await eventually(() => found(page).innerText()).toBe('100 of 3,000 records');
    await page.reload();
    await eventually(() => found(page).innerText()).toBe('100 of 3,000 records');
    await page.goBack();
    await eventually(() => found(page).innerText()).toBe('50 of 3,000 records');
    expect(visited.complaints).toEqual([]);
  });

  test('a filter that cannot be read says where', async () => {
    await using visited = await visit(honest, { hash: '#q=nobody%3A1' });
    await eventually(() => visited.page.locator('.search .error').innerText()).toContain('character 1');
  });

  test('suggests values with their counts', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    await page.keyboard.press('/');
    await page.keyboard.type('actor:ward-4');
    const option = page.getByRole('option').first();
    await eventually(() => option.innerText()).toContain('actor:ward-4');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Enter');
    await eventually(() => new URL(page.url()).hash).toBe('#q=actor%3Award-4');
  });

  test('dragging over the histogram asks for a span of time', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    const over = page.locator('.histogram .u-over');
    await over.waitFor();
    const { x, y, width } = (await over.boundingBox())!;
    await page.mouse.move(x + width * 0.25, y + 20);
    await page.mouse.down();
    await page.mouse.move(x + width * 0.5, y + 20, { steps: 5 });
    await page.mouse.up();
    await eventually(() => new URL(page.url()).hash).toMatch(/since.*until/);
    await eventually(() => found(page).innerText()).toMatch(/^7\d\d of 3,000 records$/);
  });

  test('the drawer has the record, its proof, and a bundle that holds', async () => {
    await using visited = await visit(honest, { hash: '#record=14' });
    const { page } = visited;
    const drawer = page.getByRole('dialog', { name: 'Record 14' });
    await eventually(() => drawer.innerText()).toContain('under the signed root');
    expect(await drawer.locator('.canonical').innerText()).toBe(recordBytes(clinicRecord(14, SIZE)).toString());
    await eventually(() => drawer.locator('.proof .sibling').count()).toBe(12);
    const download = page.waitForEvent('download');
    await drawer.getByRole('button', { name: 'Save proof' }).click();
    const bundle = JSON.parse(readFileSync(await (await download).path(), 'utf8'));
    expect(verifyBundle(bundle, signer.vkey)).toMatchObject({ ok: true, size: SIZE, record: clinicRecord(14, SIZE) });
    expect(visited.complaints).toEqual([]);
  });

  test('can be used by keys alone', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    await rowsOf(page).first().locator('.c-actor').waitFor();
    for (const key of ['j', 'j', 'ArrowDown', 'k']) await page.keyboard.press(key);
    const grid = page.getByRole('grid');
    await eventually(() => grid.getAttribute('aria-activedescendant')).toBe('row-2998');
    await page.keyboard.press('Enter');
    await page.getByRole('dialog', { name: 'Record 2998' }).waitFor();
    await page.keyboard.press('j');
    await page.getByRole('dialog', { name: 'Record 2997' }).waitFor();
    await page.keyboard.press('Escape');
    await eventually(() => page.locator('.drawer').count()).toBe(0);
    await page.keyboard.press('End');
    await eventually(() => grid.getAttribute('aria-activedescendant')).toBe('row-0');
    await eventually(() => page.locator('#row-0').innerText()).toContain('open');
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keys and filters' }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('b');
    await page.locator('.card').first().waitFor();
    expect(visited.complaints).toEqual([]);
  });

  test('hostile text stays text, and what it hides is spelt out', async () => {
    await using visited = await visit(honest, { hash: '#q=%22%3Cimg%22' });
    const { page } = visited;
    const actor = rowsOf(page).first().locator('.c-actor');
    await actor.waitFor();
    expect(await actor.innerText()).toContain('ward-\\u{202e}9\\u{7} <img');
    expect(await page.locator('img').count()).toBe(0);
    expect(HOSTILE).toContain('\u202e');
    expect(visited.complaints).toEqual([]);
  });

  test('budgets burn down, with refusals and the last charge checked', async () => {
    await using visited = await visit(honest, { hash: '#view=budgets' });
    const card = visited.page.locator('.card', { hasText: 'clinic-a/2026-q4' });
    await eventually(() => card.innerText()).toMatch(/a day since/);
    await eventually(() => card.locator('.mark.verified').count()).toBe(1);
    expect(await card.locator('canvas').count()).toBe(1);
  });

  test('dark where the system is dark, and by the switch', async () => {
    const background = (page: Page) => page.evaluate('getComputedStyle(document.body).backgroundColor');
    await using dark = await visit(honest, { colorScheme: 'dark' });
    await dark.page.locator('.page').waitFor();
    expect(await background(dark.page)).toBe('rgb(17, 21, 22)');
    await dark.page.getByRole('button', { name: 'Theme: auto' }).click();
    await eventually(() => background(dark.page)).toBe('rgb(247, 248, 248)');
  });

  test('on a narrow screen nothing runs over the edge', async () => {
    await using visited = await visit(honest, { viewport: { width: 400, height: 780 }, hash: '#q=action%3Arefuse' });
    const { page } = visited;
    await rowsOf(page).first().locator('.c-actor').waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(400);
  });

  test('an empty log says so', async () => {
    const dir = join(folder, 'empty');
    writeTiledLog(dir, 0, () => new Uint8Array(0), signer);
    await using visited = await visit(dir);
    await eventually(() => visited.page.locator('.empty').innerText()).toBe('The log is empty.');
    expect(visited.complaints).toEqual([]);
  });
});

describe.skipIf(CHROMIUM === undefined)('the review page on a log that was tampered with', () => {
  test('a changed record: the log fails at its index, its row fails, the others do not', async () => {
    const dir = copyOf('changed');
    const file = join(dir, tilePath('entries', 3));
    edit(file, bytes => Buffer.from(bytes.toString('latin1').replace('ward-', 'card-'), 'latin1'));
    await using visited = await visit(dir);
    const { page } = visited;
    await eventually(() => badge(page).innerText()).toContain('Failed at record 768');
    await badge(page).click();
    const panel = page.getByRole('dialog', { name: 'What this log is worth' });
    expect(await panel.innerText()).toContain('changed');
    await panel.getByRole('button', { name: 'Show record 768' }).click();
    await eventually(() => page.locator('#row-768 .mark.failed').count()).toBe(1);
    await eventually(() => page.locator('#row-769 .mark.verified').count()).toBe(1);
    expect(await page.locator('.drawer').innerText()).toContain('not the record under the signed root');
  });

  test('a rolled-back log and a forked one are noticed on the next visit, and not on the first', async () => {
    const context = await browser.newContext();
    let port = 0;
    {
      await using first = await visit(honest, { context });
      port = first.port;
      await eventually(() => badge(first.page).innerText()).toContain('Verified');
    }
    const shorter = join(folder, 'shorter');
    writeTiledLog(shorter, 2000, seq => recordBytes(clinicRecord(seq, SIZE)), signer);
    const forked = join(folder, 'forked');
    const forge = (seq: number) =>
      seq === 5 ? { ...clinicRecord(5, SIZE), actor: 'nobody' } : clinicRecord(seq, SIZE);
    writeTiledLog(forked, SIZE + 10, seq => recordBytes(forge(seq)), signer);
    for (const [dir, kind] of [
      [shorter, 'rolled-back'],
      [forked, 'forked'],
    ] as const) {
      await using fresh = await visit(dir); // the control: a browser that knows nothing
      await eventually(() => badge(fresh.page).innerText()).toContain('Verified');
      await using again = await visit(dir, { context, port });
      await eventually(() => badge(again.page).innerText()).toContain(`Failed: ${kind}`);
      expect(await again.page.locator('.alert').first().innerText()).toContain(kind);
    }
    await using back = await visit(honest, { context, port });
    await eventually(() => badge(back.page).innerText()).toContain('Verified');
    await context.close();
  });

  test('another key than the one that was given is refused; a kept checkpoint is compared', async () => {
    await using visited = await visit(honest);
    const { page } = visited;
    await eventually(() => badge(page).innerText()).toContain('Verified');
    await page.keyboard.press('t');
    const panel = page.getByRole('dialog', { name: 'What this log is worth' });
    const give = async (text: string) => {
      await panel.locator('textarea').fill(text);
      await panel.getByRole('button', { name: 'Check against it' }).click();
    };
    await give(readFileSync(join(honest, 'checkpoint'), 'utf8'));
    await eventually(() => panel.innerText()).toContain('The log agrees with the checkpoint');
    await give('not a key');
    await eventually(() => panel.getByRole('status').innerText()).toContain('vkey');
    await give(testSigner('clinic.example/audit').vkey);
    await eventually(() => panel.getByRole('status').innerText()).toContain('another key');
    await eventually(() => badge(page).innerText()).toContain('Failed: resealed');
    expect(visited.complaints).toEqual([]);
  });

  test('a live log that grows shows what is new when asked; one that is rolled back meanwhile fails', async () => {
    const dir = join(folder, 'live');
    const grow = (size: number) => writeTiledLog(dir, size, seq => recordBytes(clinicRecord(seq, SIZE)), signer);
    grow(900);
    await using visited = await visit(dir);
    const { page } = visited;
    await eventually(() => badge(page).innerText()).toContain('Verified');
    grow(950);
    await eventually(() => page.locator('.newer').innerText()).toBe('50 new');
    await page.keyboard.press('r');
    await eventually(() => found(page).innerText()).toBe('950 records');
    await page.keyboard.press('t');
    const panel = page.getByRole('dialog', { name: 'What this log is worth' });
    // What this visit saw vouches for nothing: the key is still one that was never compared.
    expect(await panel.innerText()).toContain('seen for the first time');
    await page.keyboard.press('Escape');
    grow(910);
    await eventually(() => badge(page).innerText()).toContain('Failed: rolled-back');
  });
});

test('the page is small: all that a visit loads, gzipped', async () => {
  const { readdirSync } = await import('node:fs');
  const { gzipSync } = await import('node:zlib');
  const built = join(import.meta.dirname, '..', '..', 'dist', 'src', 'web', 'static');
  const files = readdirSync(built, { recursive: true, encoding: 'utf8' }).filter(file =>
    /\.(js|css|html|svg)$/.test(file),
  );
  const bytes = files.reduce((sum, file) => sum + gzipSync(readFileSync(join(built, file))).length, 0);
  expect(files.filter(file => statSync(join(built, file)).size === 0)).toEqual([]);
  expect(bytes).toBeLessThan(120 * 1024);
});
