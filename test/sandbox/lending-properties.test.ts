/**
 * The host's side of the bridge against whatever may come over it, and what a worker says of an evaluation.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeAnswer, Heard, parseAnswer } from '../../sandbox/evaluation-frames.ts';
import { parseLent } from '../../sandbox/index.ts';
import type { LendingHost } from '../../sandbox/lending/capability.ts';
import { sizeOf } from '../../sandbox/lending/kv.ts';
import { changesBetween, memoryKv } from '../../sandbox/lending/kv-store.ts';
import { Lending } from '../../sandbox/lending/lending.ts';
import { seededRandom } from '../../sandbox/lending/random.ts';
import { CAPABILITY_LIST } from '../../sandbox/lending/table.ts';
import { isCloisterError } from '../../src/base/index.ts';

const ALL = Object.fromEntries(CAPABILITY_LIST.map(({ name }) => [name, {}]));

function host(over: Partial<LendingHost> = {}): LendingHost {
  return {
    log: () => {},
    elapsedMs: () => 0,
    random: seededRandom('test'),
    entries: new Map(),
    model: new Uint8Array(16),
    memoryMb: 64,
    ...over,
  };
}

/** What a call says: `+`, `R` or `T`, or `b` for a buffer. */
const mark = (answer: unknown): string => (answer instanceof ArrayBuffer ? 'b' : String(answer)[0]!);

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.constantFrom('__proto__', 'constructor', '', '-1', '9007199254740993', '1e3', '16', 'k', 'key'),
);
const crossing = fc.oneof(
  text,
  fc.uint8Array({ maxLength: 32 }).map(bytes => new Uint8Array(bytes).buffer),
);
const names = CAPABILITY_LIST.map(({ name }) => name);
const methods = [
  'line',
  'now',
  'fill',
  'get',
  'set',
  'delete',
  'list',
  'size',
  'read',
  'info',
  'run',
  'module',
  'memory',
  'table',
];

describe('the bridge', () => {
  it('answers whatever comes, throws nothing, and counts each use once', () => {
    const anything = fc.oneof(crossing, fc.anything());
    const calls = fc.array(
      fc.tuple(
        fc.oneof(fc.constantFrom(...names), anything),
        fc.oneof(fc.constantFrom(...methods), anything),
        fc.array(anything, { maxLength: 3 }),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(calls, given => {
        const lending = new Lending(parseLent(ALL), host());
        let known = 0;
        for (const [name, method, rest] of given) {
          expect('+RTb').toContain(mark(lending.call([name, method, ...rest])));
          if (typeof name === 'string' && names.includes(name)) known++;
        }
        const counted = Object.values(lending.uses).reduce((sum, { calls, refused }) => sum + calls + refused, 0);
        expect(counted).toBe(known);
      }),
    );
  });

  it('never grants more calls or bytes than were lent', () => {
    const sizes = fc.array(fc.nat(40), { maxLength: 40 });
    fc.assert(
      fc.property(fc.nat(20), fc.nat(200), sizes, (calls, bytes, wanted) => {
        const lending = new Lending(parseLent({ random: { calls, bytes } }), host());
        let given = 0;
        let granted = 0;
        for (const size of wanted) {
          const answer = lending.call(['random', 'fill', String(size)]);
          if (!(answer instanceof ArrayBuffer)) continue;
          granted++;
          given += answer.byteLength;
        }
        expect(granted).toBeLessThanOrEqual(calls);
        expect(given).toBeLessThanOrEqual(bytes);
        expect(lending.uses.random).toMatchObject({ calls: granted, refused: wanted.length - granted });
      }),
    );
  });

  it('grants nothing any more when the call has ended', () => {
    const lending = new Lending(parseLent(ALL), host());
    lending.end();
    for (const { name } of CAPABILITY_LIST) expect(mark(lending.call([name, 'now']))).toBe('T');
  });
});

describe('kv', () => {
  it('does what a Map does, within its limits, and its changes lead from what there was to what there is', () => {
    const key = fc.constantFrom('a', 'bb', '__proto__', 'constructor', 'ä', '\ud800');
    const step = fc.oneof(
      fc.tuple(fc.constant('set'), key, fc.string({ maxLength: 12 })),
      fc.tuple(fc.constant('delete'), key),
      fc.tuple(fc.constant('get'), key),
    );
    fc.assert(
      fc.property(fc.uniqueArray(key), fc.array(step, { maxLength: 30 }), (before, steps) => {
        const kv = { entries: 4, keyBytes: 9, valueBytes: 10, totalBytes: 30 };
        const start = new Map(before.slice(0, 2).map(name => [name, 'v']));
        const entries = new Map(start);
        const lending = new Lending(parseLent({ kv }), host({ entries }));
        const model = new Map(start);
        for (const [method, name, value] of steps) {
          const answer = lending.call(value === undefined ? ['kv', method, name] : ['kv', method, name, value]);
          if (mark(answer) !== '+') continue;
          if (method === 'set') model.set(name!, value!);
          if (method === 'delete') expect(answer).toBe(model.delete(name!) ? '+1' : '+0');
          if (method === 'get') expect(answer).toBe(model.has(name!) ? `+=${model.get(name!)}` : '+');
          expect(sizeOf(entries)).toBeLessThanOrEqual(kv.totalBytes);
        }
        expect(entries).toEqual(model);
        const store = memoryKv();
        store.apply('owner', new Map(start));
        store.apply('owner', changesBetween(start, entries));
        expect(new Map(store.read('owner') as ReadonlyMap<string, string>)).toEqual(model);
      }),
    );
  });
});

describe('what a worker says of an evaluation', () => {
  const lent = parseLent({ log: {}, kv: {} });
  const typed = (work: () => unknown): void => {
    try {
      work();
    } catch (error) {
      expect(isCloisterError(error, 'GUEST_FAILED'), String(error)).toBe(true);
    }
  };

  it('comes back as it was said', () => {
    const map = fc
      .array(fc.tuple(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })))
      .map(list => new Map(list));
    fc.assert(
      fc.property(fc.string(), map, map, (value, before, after) => {
        const uses = { log: { calls: 1, refused: 2, bytes: 3 } };
        const { header, parts } = encodeAnswer({ kind: 'ok', value, uses, cpuMs: 1 }, before, after);
        const read = parseAnswer(header as Record<string, unknown>, Buffer.concat(parts), 1_000);
        expect(read).toEqual({ outcome: 'ok', value, changes: changesBetween(before, after) });
      }),
    );
  });

  it('is a typed error where it is of no form', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom('kind', 'valueBytes', 'uses'), fc.anything()),
        fc.uint8Array(),
        (header, payload) => {
          typed(() => parseAnswer(header, payload, 10));
        },
      ),
    );
    fc.assert(
      fc.property(fc.nat(30), fc.json(), (valueBytes, json) => {
        typed(() => parseAnswer({ kind: 'ok', valueBytes }, Buffer.from(`${'x'.repeat(valueBytes)}${json}`), 20));
      }),
    );
  });

  it('in a message is a printable line, a count of uses, or a typed error', () => {
    const message = fc.oneof(
      fc.anything(),
      fc.record({ line: fc.string({ unit: 'binary' }) }),
      fc.record({ uses: fc.anything() }),
      fc.constant({ uses: { log: { calls: 1, refused: 0, bytes: 2 }, kv: { calls: 0, refused: 0, bytes: -1 } } }),
    );
    fc.assert(
      fc.property(message, said => {
        const heard = new Heard(lent);
        typed(() => heard.take(said));
        for (const line of heard.lines) expect(line).not.toMatch(/\p{Cc}|\p{Bidi_Control}/u);
        expect(Object.keys(heard.uses)).toEqual(['log', 'kv']);
        for (const use of Object.values(heard.uses))
          for (const count of Object.values(use)) expect(count).toBeGreaterThanOrEqual(0);
      }),
    );
  });
});
