/**
 * Our own attempts, each in a worker process: none gets what it must not have, all end within their limits. Where a defence can be
 * switched off, the attempt is run without it as well, and has to succeed there: otherwise it would prove nothing.
 */
import { createRequire } from 'node:module';
import { constants, runInNewContext } from 'node:vm';
import type IsolatedVM from 'isolated-vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSandbox, type Sandbox } from '../../sandbox/index.ts';
import { ATTEMPTS, type Attempt } from './own-escapes.ts';

const WALL_MS = 1_000;
const MEMORY_MB = 96;
const RUNS = process.env['CLOISTER_SLOW'] === '1' ? 20 : 1;
const model = new Uint8Array(32);
/** Each run has keys and values of its own. */
let owners = 0;

it('are at least forty, with a control for a third of them or more', () => {
  expect(ATTEMPTS.length).toBeGreaterThanOrEqual(40);
  expect(new Set(ATTEMPTS.map(({ id }) => id)).size).toBe(ATTEMPTS.length);
  expect(ATTEMPTS.filter(({ control }) => control !== undefined).length * 3).toBeGreaterThanOrEqual(ATTEMPTS.length);
});

// A machine that is busy with other things may stop a script late; not three times in a row. Escapes are counted over all tries.
describe.each(['process', 'isolate'] as const)(
  'our attempts under isolation %s',
  { retry: 2, timeout: 30_000 * RUNS },
  isolation => {
    const escaped: string[] = [];
    let sandbox: Sandbox;
    beforeAll(async () => {
      const limits = { wallMs: WALL_MS, memoryMb: MEMORY_MB, outputBytes: 65_536 };
      sandbox = await openSandbox({ isolation, warm: 1, limits });
    });
    afterAll(() => sandbox.close());

    // What hostile code can do to the process that it is in, `isolate` does not promise to stop.
    const attempts = ATTEMPTS.filter(({ bounded }) => isolation === 'process' || bounded === undefined);

    it.each(attempts.map(one => [one.id, one.technique, one] as const))('%s: %s', async (id, _, attempt) => {
      for (let run = 0; run < RUNS; run++) {
        await sandbox.settled();
        const before = process.memoryUsage().rss;
        const { source, lend = {}, limits = {}, bounded } = attempt;
        const { outcome, value, wallMs, peakMb } = await sandbox.evaluate(source, {
          capabilities: lend,
          limits,
          model,
          owner: `${owners++}`,
        });
        if (`${value}`.includes('ESC')) escaped.push(`${id}: ${value}`);
        expect(value).not.toContain('ESC');
        if (bounded === undefined) expect(`${outcome} ${value}`).toMatch(/^(ok no|limit:message)/);
        if (isolation === 'isolate') continue;
        expect(wallMs).toBeLessThan(WALL_MS + 250);
        if (peakMb !== undefined) expect(peakMb).toBeLessThan(MEMORY_MB + 64);
        expect(process.memoryUsage().rss - before).toBeLessThan(20 * 1_048_576);
      }
    });

    it('did not succeed, in any try', () => {
      expect(escaped).toEqual([]);
    });
  },
);

describe('without its defence it succeeds', { retry: 2 }, () => {
  const controlled = ATTEMPTS.filter(({ control }) => control !== undefined);

  it.each(controlled.map(one => [one.id, one] as const))('%s', async (_, attempt) => {
    expect(await withoutDefence(attempt)).toMatch(/^ESC/);
  });
});

async function withoutDefence({ source, lend, limits, control }: Attempt): Promise<string> {
  if (control === 'vm') return inSharedRealm(source);
  if (control === 'bare') return inBareIsolate(source);
  await using sandbox = await openSandbox({ isolation: 'isolate', limits: { wallMs: 20_000, memoryMb: MEMORY_MB } });
  const loosened = { capabilities: control!.lend ?? lend ?? {}, limits: control!.limits ?? limits ?? {} };
  return `${(await sandbox.evaluate(source, { ...loosened, model })).value}`;
}

/** A context of `node:vm`, lent functions and objects of the host as a careless host would write them. */
async function inSharedRealm(source: string): Promise<string> {
  const kept: Record<string, string> = {};
  const memory = new Uint8Array(4_096);
  const lent = {
    log: (text: unknown) => void `${String(text)}`,
    clock: () => performance.now(),
    random: (bytes: number) => new ArrayBuffer((Math.abs(Number(bytes)) % 65_536) | 0),
    kv: {
      get: (key: string) => kept[key],
      set: (key: string, value: string) => {
        kept[key] = value;
      },
    },
    readModel: { read: (offset: number, length: number) => memory.slice(offset, offset + length).buffer },
    kernels: {
      run: (program: ArrayBuffer, inputs: ArrayBuffer) => [program.slice(0), inputs.slice(0, inputs.byteLength)],
    },
  };
  const importModuleDynamically = constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  return `${await runInNewContext(source, { lent }, { importModuleDynamically })}`;
}

/** An isolate as it comes, with a bridge that hands on whatever it is given, and a reference that leaked. */
async function inBareIsolate(source: string): Promise<string> {
  const ivm = createRequire(import.meta.url)('isolated-vm') as typeof IsolatedVM;
  const isolate = new ivm.Isolate({ memoryLimit: MEMORY_MB });
  try {
    const context = await isolate.createContext();
    const host = new ivm.Callback((method: string, first: unknown) => {
      if (method === 'list') return '[]';
      if (method === 'random') return new ArrayBuffer(Number(first));
      if (typeof first === 'object') throw new TypeError('not this');
      return '';
    });
    const naive = `globalThis.lent = {
      log: text => { const given = []; given[0] = 'log'; given[1] = text; return $0(...given); },
      random: bytes => $0('random', bytes),
      kv: { list: () => JSON.parse($0('list')) },
      kernels: { run: (program, inputs) => { const own = new Uint8Array(8); own.set(new Uint8Array(program)); } },
      leak: $1,
    };`;
    await context.evalClosure(naive, [host, new ivm.Reference({})]);
    return `${await context.eval(source, { promise: true, copy: true, timeout: 20_000 })}`;
  } finally {
    isolate.dispose();
  }
}
