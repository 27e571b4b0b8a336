import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { csvRow, matchesFilter, parseFilter, verifyBundle } from '../../sandbox/audit/index.ts';
import { type AuditServer, serveAudit } from '../../src/web/index.ts';
import { clinicRecord } from './clinic.ts';
import { recordBytes, testSigner, writeTiledLog } from './tiled-log.ts';

const SIZE = 600;
const folder = mkdtempSync(join(tmpdir(), 'cloister-serve-'));
const dir = join(folder, 'data');
const log = join(dir, 'audit');
const signer = testSigner('clinic.example/audit');
const records = Array.from({ length: SIZE }, (_, seq) => clinicRecord(seq, SIZE));
let server: AuditServer;
let cookie: string;

interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A request as it is written: no client tidies the path up. */
function ask(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: server.port, path, method, headers: { cookie, ...headers } };
    const sent = httpRequest(options, response => {
      const chunks: Buffer[] = [];
      response.on('data', chunk => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }),
      );
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end();
  });
}

beforeAll(async () => {
  writeTiledLog(log, SIZE, seq => recordBytes(records[seq]!), signer);
  writeFileSync(join(log, 'key'), 'PRIVATE+KEY');
  mkdirSync(join(log, 'keys'));
  writeFileSync(join(log, 'keys', '0'), 'PRIVATE+KEY');
  writeFileSync(join(folder, 'outside'), 'PRIVATE');
  symlinkSync(join(folder, 'outside'), join(log, 'tile', '0', '007'));
  server = await serveAudit(dir, { port: 0 });
  cookie = '';
});
afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('who may ask', () => {
  test('nobody without the token; with it one browser, once', async () => {
    expect(await ask('/')).toMatchObject({ status: 401 });
    expect(await ask('/?token=wrong')).toMatchObject({ status: 401 });
    expect(await ask('/log/checkpoint', { cookie: `cloister-audit-${server.port}=wrong` })).toMatchObject({
      status: 401,
    });
    const { pathname, search } = new URL(server.url);
    const opened = await ask(pathname + search);
    expect(opened.status).toBe(303);
    expect(opened.headers['set-cookie']![0]).toMatch(
      /^cloister-audit-\d+=[\w-]{43}; HttpOnly; SameSite=Strict; Path=\/$/,
    );
    expect(await ask(pathname + search)).toMatchObject({ status: 401 });
    cookie = opened.headers['set-cookie']![0]!.split(';')[0]!;
    expect(await ask('/')).toMatchObject({ status: 200 });
    expect(await ask(pathname + search)).toMatchObject({ status: 303 }); // an old address, from who is in already
  });

  test('nobody by another name of this machine', async () => {
    for (const host of [
      'evil.example',
      `evil.example:${server.port}`,
      '127.0.0.1',
      `127.0.0.1.evil.example:${server.port}`,
    ])
      expect(await ask('/log/checkpoint', { host })).toMatchObject({ status: 421 });
    expect(await ask('/log/checkpoint', { host: `localhost:${server.port}` })).toMatchObject({ status: 200 });
  });

  test('only by GET and HEAD', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
      expect(await ask('/api/status', {}, method)).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    const head = await ask('/log/checkpoint', {}, 'HEAD');
    expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) });
    expect(Number(head.headers['content-length'])).toBeGreaterThan(100);
  });
});

describe('what is answered', () => {
  test('every answer forbids what the page does not need', async () => {
    for (const path of ['/', '/log/checkpoint', '/nothing', '/api/seqs?filter=x:y']) {
      const { headers } = await ask(path);
      expect(headers['content-security-policy']).toContain("default-src 'none'");
      expect(headers['content-security-policy']).not.toMatch(/unsafe|https?:|\*/);
      expect(headers).toMatchObject({
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'x-frame-options': 'DENY',
        'cross-origin-resource-policy': 'same-origin',
      });
    }
  });

  test('the files of the log as they are; full tiles may be kept', async () => {
    expect((await ask('/log/vkey')).body.toString()).toBe(`${signer.vkey}\n`);
    expect((await ask('/log/tile/0/000')).headers['cache-control']).toContain('immutable');
    expect((await ask('/log/tile/0/000')).body).toHaveLength(8192);
    expect((await ask(`/log/tile/0/002.p/${SIZE - 512}`)).headers['cache-control']).toBe('no-store');
    expect((await ask('/log/checkpoint')).headers['cache-control']).toBe('no-store');
    expect(await ask('/log/tile/0/003')).toMatchObject({ status: 404 });
  });

  test.each([
    '/log/key',
    '/log/keys/0',
    '/log/keys',
    '/log/index.sqlite',
    '/log/../audit/key',
    '/log/tile/../key',
    '/log/tile/0/../../key',
    '/log/%2e%2e/outside',
    '/log/tile/0/%2e%2e/%2e%2e/key',
    '/log/seal/../key',
    '/log//etc/passwd',
    '/log/tile/0/000%00',
    '/log/checkpoint/',
    '/../outside',
    '/assets/../index.html',
    '//log/checkpoint',
  ])('no other file: %s', async path => {
    const { status, body } = await ask(path);
    expect(status).toBe(404);
    expect(body.toString()).not.toContain('PRIVATE');
  });

  test('a link out of the log is not followed', async () => {
    const { status, body } = await ask('/log/tile/0/007');
    expect(status).toBe(500);
    expect(body.toString()).not.toContain('PRIVATE');
    expect(body.toString()).not.toContain(folder);
  });

  test('whatever path is asked for, no key and no file beside the log', async () => {
    const piece = fc.constantFrom(
      'log',
      'tile',
      '0',
      '..',
      '.',
      '%2e%2e',
      'key',
      'keys',
      'entries',
      '000',
      'x000',
      '.p',
      '1',
      '',
      '\\',
      'api',
      'seqs',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async pieces => {
        const { status, body } = await ask(`/${pieces.join('/')}`);
        expect([200, 404]).toContain(status);
        expect(body.includes('PRIVATE')).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  test.each(['action:refuse', '-actor:ward-3 scope:clinic-a/2026-q4', 'since:2026-11-01 report', '"<img"'])(
    'which records a filter asks for: %s',
    async text => {
      const now = Date.UTC(2026, 10, 22);
      const { body } = await ask(`/api/seqs?${new URLSearchParams({ filter: text, now: String(now) })}`);
      const seqs = new Uint32Array(body.buffer.slice(body.byteOffset, body.byteOffset + body.length));
      const filter = parseFilter(text, now);
      const expected = records.filter(record => matchesFilter(record, filter)).map(({ seq }) => seq);
      expect([...seqs]).toEqual(expected);
      expect(expected.length).toBeGreaterThan(0);
      const counted = JSON.parse(
        (
          await ask(`/api/histogram?${new URLSearchParams({ filter: text, now: String(now), buckets: '10' })}`)
        ).body.toString(),
      );
      const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
      expect(sum(counted.allow) + sum(counted.refuse)).toBe(expected.length);
    },
  );

  test('what cannot be read is refused with its place', async () => {
    const { status, body } = await ask('/api/seqs?filter=nobody%3A1');
    expect(status).toBe(400);
    expect(JSON.parse(body.toString())).toMatchObject({ error: { code: 'INVALID_ARGUMENT', detail: { at: 0 } } });
    for (const path of [
      'histogram?buckets=0',
      'histogram?buckets=1e9',
      'values?key=since',
      'seqs?now=x',
      'export?format=exe',
    ])
      expect(await ask(`/api/${path}`)).toMatchObject({ status: 400 });
    expect(await ask(`/api/seqs?filter=${'a'.repeat(15_000)}`)).toMatchObject({ status: 414 });
    expect(await ask('/api/nothing')).toMatchObject({ status: 404 });
  });

  test('exports, and proofs that hold without the log', async () => {
    const filter = encodeURIComponent('action:refuse');
    const refused = records.filter(({ action }) => action === 'refuse');
    const csv = await ask(`/api/export?format=csv&filter=${filter}`);
    expect(csv.headers['content-disposition']).toBe('attachment; filename="audit.csv"');
    expect(csv.body.toString().split('\n').slice(1, -1)).toEqual(refused.map(csvRow));
    const bundles = (await ask(`/api/export?format=bundles&filter=${filter}`)).body.toString().trim().split('\n');
    expect(bundles).toHaveLength(refused.length);
    for (const bundle of bundles)
      expect(verifyBundle(JSON.parse(bundle), signer.vkey)).toMatchObject({ ok: true, size: SIZE });
  });

  test('budgets of scopes, and values to go on with', async () => {
    const scopes = JSON.parse((await ask('/api/budgets')).body.toString());
    expect(scopes.map(({ scope }: { scope: string }) => scope)).toContain('clinic-a/2026-q4');
    const values = JSON.parse((await ask('/api/values?key=actor&prefix=ward-1')).body.toString());
    expect(values).toEqual([{ value: 'ward-1', count: records.filter(({ actor }) => actor === 'ward-1').length }]);
  });
});

describe('what is wrong with the log', () => {
  test('a damaged record costs the filters, not the page', async () => {
    const bad = join(folder, 'bad');
    writeTiledLog(bad, 300, seq => (seq === 41 ? Buffer.from('{"no":"record"}') : recordBytes(records[seq]!)), signer);
    await using other = await serveAudit(bad, { port: 0 });
    await expect(other.ready()).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
  });

  test('no log, no page; a taken port and a port that is none are said to be so', async () => {
    await expect(serveAudit(join(folder, 'nothing'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(serveAudit(dir, { port: server.port })).rejects.toThrow(/taken/);
    await expect(serveAudit(dir, { port: 1.5 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
