/**
 * What a guest is lent, and what it is not: the same under both isolations that run scripts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadBinding, nativeStatus, openProgramHost } from '../../native/index.ts';
import {
  CAPABILITIES,
  type EvaluationOptions,
  type Isolation,
  type LentInput,
  openSandbox,
  parseLent,
  type Sandbox,
} from '../../sandbox/index.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { planProgram } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { affineModel } from './tiny-model.ts';

const native = nativeStatus().kind === 'loaded';
const NAMES = Object.keys(CAPABILITIES) as (keyof typeof CAPABILITIES)[];

describe('what is lent, as options', () => {
  it.each<object>([
    { nothing: {} },
    { log: { lines: 3 } },
    { log: { calls: -1 } },
    { log: { calls: 1.5 } },
    { log: { calls: Number.NaN } },
    { log: { calls: 1e12 } },
    { log: true },
    { __proto__: null, constructor: {} },
    { toString: {} },
  ])('refuses %j', input => {
    const parse = (): unknown => parseLent(input as unknown as LentInput);
    expect(parse).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('has a default for every option that is left out, within its own bounds', () => {
    for (const name of NAMES) {
      expect(CAPABILITIES[name].name).toBe(name);
      const options = parseLent({ [name]: {} })[name] as Readonly<Record<string, number>>;
      for (const [option, bound] of Object.entries(CAPABILITIES[name].options)) {
        expect(options[option]).toBe(bound.default);
        expect(bound.default).toBeGreaterThanOrEqual(bound.least);
        expect(bound.default).toBeLessThanOrEqual(bound.most);
      }
    }
  });
});

it('the page of what is lent has a row for each capability, with its own limits', () => {
  const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'lending.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `(\w+)` \|.*\| (.*?) ?\|$/gm)].map(([, name, limits]) => [
    name,
    [...limits!.matchAll(/`(\w+)`/g)].map(([, limit]) => limit),
  ]);
  const own = (name: (typeof NAMES)[number]): string[] =>
    Object.keys(CAPABILITIES[name].options).filter(option => option !== 'calls' && option !== 'bytes');
  expect(rows).toEqual(NAMES.map(name => [name, own(name)]));
});

describe.each<Isolation>(['isolate', 'process'])('under isolation %s', isolation => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ isolation, warm: 1, limits: { wallMs: 5_000, memoryMb: 64 } });
  });
  afterAll(() => sandbox.close());

  const run = (source: string, capabilities: LentInput = {}, options: EvaluationOptions = {}) =>
    sandbox.evaluate(source, { capabilities, ...options });

  it('nothing is lent that is not named', async () => {
    const none = await run('typeof lent + typeof WebAssembly');
    expect(none).toMatchObject({ outcome: 'ok', value: 'undefinedundefined', messages: [], uses: {} });
    for (const name of NAMES) {
      const { value, uses } = await run('Object.keys(lent).join() + typeof lent.nothing', { [name]: {} });
      expect(value).toBe(`${name}undefined`);
      expect(uses).toEqual({ [name]: { calls: 0, refused: 0, bytes: 0 } });
    }
  });

  it('what is lent cannot be changed, nor handed another meaning', async () => {
    const source = `'use strict';
      const tries = [() => { lent.log = 1; }, () => { lent.x = 1; }, () => { lent.kv.get = 1; }, () => { delete lent.log; },
        () => { globalThis.lent = 1; }, () => { Object.setPrototypeOf(lent, {}); }, () => { lent.log.x = 1; },
        () => { lent.log.prototype.x = 1; }, () => { Object.getPrototypeOf(lent.log).x = 1; }];
      tries.filter(t => { try { t(); return true; } catch { return false; } }).length`;
    expect(await run(source, { log: {}, kv: {} })).toMatchObject({ outcome: 'ok', value: '0' });
  });

  it('nothing that a script reaches can be changed, but the global object and what it makes itself', async () => {
    const source = `(() => {
      const seen = new Set(), loose = [];
      const walk = (value, path) => {
        if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) return;
        seen.add(value);
        if (value !== globalThis && !Object.isFrozen(value)) loose.push(path);
        walk(Object.getPrototypeOf(value), path + '.__proto__');
        for (const key of Reflect.ownKeys(value)) {
          const { value: held, get, set } = Reflect.getOwnPropertyDescriptor(value, key);
          for (const one of [held, get, set]) walk(one, path + '.' + String(key));
        }
      };
      const made = [function* () {}, async function* () {}, async () => {}, new Map().entries(), new Set().values(), [].values(),
        ''.matchAll(/./g), [].values().map(x => x), Iterator.from({ next() {} }), ''[Symbol.iterator](),
        Object.getPrototypeOf((async function* () {})())];
      made.forEach((value, i) => walk(Object.getPrototypeOf(value), 'made' + i));
      const stack = Object.getOwnPropertyDescriptor(new Error('x'), 'stack');
      [stack.get, stack.set].forEach(f => walk(f, 'stack'));
      walk((function () { 'use strict'; return Object.getOwnPropertyDescriptor(arguments, 'callee').get })(), 'callee');
      walk(globalThis, '');
      return seen.size + loose.join();
    })()`;
    const { outcome, value } = await run(source, Object.fromEntries(NAMES.map(name => [name, {}])));
    expect(outcome).toBe('ok');
    expect(value).toMatch(/^\d{3,4}$/);
  });

  describe('log', () => {
    it('gives lines in order, printable, and counts them', async () => {
      const source = "lent.log('one'); lent.log('two\\nthree'); lent.log('\\u001b[31m\\u202e\\ud800'); lent.log(4)";
      const { outcome, messages, uses } = await run(source, { log: {} });
      expect(outcome).toBe('ok');
      expect(messages).toEqual(['one', 'two', 'three', '\ufffd[31m\ufffd\ufffd', '4']);
      expect(uses.log).toMatchObject({ calls: 4, refused: 0 });
    });

    it('is refused over its limits, and goes on below them', async () => {
      const source = `const said = [];
        for (const text of ['ok', 'x'.repeat(11), 'ok', 'no']) try { lent.log(text); said.push(1); } catch (e) { said.push(e.name); }
        said.join()`;
      const { value, messages, uses } = await run(source, { log: { calls: 2, lineBytes: 10 } });
      expect(value).toBe('1,RangeError,1,RangeError');
      expect(messages).toEqual(['ok', 'ok']);
      expect(uses.log).toMatchObject({ calls: 2, refused: 2 });
      const few = await run("lent.log('12345'); try { lent.log('6'); 'no' } catch (e) { e.message }", {
        log: { bytes: 5 },
      });
      expect(few).toMatchObject({ value: expect.stringContaining('bytes (5)'), messages: ['12345'] });
    });

    it('ends a script that passes the limits of messages, with what it said before', async () => {
      const source = "for (;;) lent.log('line')";
      const many = await run(source, { log: {} }, { limits: { messages: 20 } });
      expect(many).toMatchObject({ outcome: 'limit:messages', messages: Array(20).fill('line') });
      const long = await run(source, { log: {} }, { limits: { messageBytes: 62 } });
      expect(long).toMatchObject({ outcome: 'limit:messageBytes', messages: Array(10).fill('line') });
      expect(long.uses.log!.calls).toBeGreaterThanOrEqual(10);
    });

    it('is heard also of a script that is stopped', async () => {
      const source = "for (let i = 0; i < 100; i++) lent.log('line ' + i); for (;;);";
      const { outcome, messages, uses } = await run(source, { log: {} }, { limits: { wallMs: 1_000 } });
      expect(outcome).toBe('limit:wallMs');
      expect(messages).toHaveLength(100);
      expect(uses.log!.calls).toBeGreaterThanOrEqual(50);
      expect(uses.log!.calls).toBeLessThanOrEqual(100);
    });
  });

  describe('clock', () => {
    it('goes in steps, and never back', async () => {
      const source = `const seen = []; while (seen.length < 5000) seen.push(lent.clock());
        JSON.stringify([seen.every(Number.isInteger), seen.every((t, i) => i === 0 || t >= seen[i - 1]), seen.every(t => t % 5 === 0)])`;
      expect((await run(source, { clock: { stepMs: 5 } })).value).toBe('[true,true,true]');
    });

    it('leaves Date where it stands', async () => {
      expect(
        await run("const t = lent.clock(); while (lent.clock() < t + 3); '' + Date.now()", { clock: {} }),
      ).toMatchObject({
        outcome: 'ok',
        value: '0',
      });
    });
  });

  describe('random', () => {
    const source =
      "const hex = n => [...new Uint8Array(lent.random(n))].map(b => b.toString(16).padStart(2, '0')).join(''); hex(16) + hex(5)";

    it('repeats itself under a seed, and not without', async () => {
      const seeded = { seed: 'one' };
      const first = await run(source, { random: {} }, seeded);
      expect(first.value).toMatch(/^[0-9a-f]{42}$/);
      expect((await run(source, { random: {} }, seeded)).value).toBe(first.value);
      expect((await run(source, { random: {} }, { seed: 'two' })).value).not.toBe(first.value);
      const [a, b] = [await run(source, { random: {} }), await run(source, { random: {} })];
      expect(a.value).not.toBe(b.value);
    });

    it.each(['-1', 'NaN', '1.5', 'Infinity', '2 ** 60', "'1e3'", 'undefined', '{}', '1025'])(
      'refuses %s bytes',
      async count => {
        const { value, uses } = await run(`try { lent.random(${count}); 'given' } catch (e) { e.name }`, {
          random: { bytes: 1_024 },
        });
        expect(['RangeError', 'TypeError']).toContain(value);
        expect(uses.random).toMatchObject({ calls: 0, refused: 1 });
      },
    );
  });

  describe('kv', () => {
    it('keeps what a call that ended well wrote, for its owner alone', async () => {
      const write = "lent.kv.set('a', '1'); lent.kv.set('b', ''); lent.kv.set('__proto__', 'p'); lent.kv.delete('b')";
      expect(await run(write, { kv: {} }, { owner: 'one' })).toMatchObject({ outcome: 'ok', value: 'true' });
      const read =
        "JSON.stringify([lent.kv.get('a'), lent.kv.get('b') ?? null, lent.kv.get('__proto__'), lent.kv.list(), lent.kv.list('a')])";
      expect((await run(read, { kv: {} }, { owner: 'one' })).value).toBe('["1",null,"p",["__proto__","a"],["a"]]');
      expect((await run(read, { kv: {} }, { owner: 'two' })).value).toBe('[null,null,null,[],[]]');
    });

    it.each([
      ["lent.kv.set('x', '1'); throw new Error('no')", 'error'],
      ["lent.kv.set('x', '1'); for (;;);", 'limit:wallMs'],
    ])('keeps nothing of `%s`', async (source, outcome) => {
      expect((await run(source, { kv: {} }, { owner: 'bad', limits: { wallMs: 300 } })).outcome).toBe(outcome);
      expect((await run('lent.kv.list().join()', { kv: {} }, { owner: 'bad' })).value).toBe('');
    });

    it('is refused over its limits, and counts bytes as UTF-8', async () => {
      const kv = { entries: 2, keyBytes: 4, valueBytes: 8, totalBytes: 12 };
      const source = `const said = [];
        const step = f => { try { f(); said.push('+'); } catch (e) { said.push(e.name[0]); } };
        step(() => lent.kv.set('key', '12345678'));
        step(() => lent.kv.set('keys!', ''));
        step(() => lent.kv.set('key', 'ä'.repeat(5)));
        step(() => lent.kv.set('k', '1'));
        step(() => lent.kv.set('k', ''));
        step(() => lent.kv.set('x', ''));
        step(() => lent.kv.delete('key'));
        step(() => lent.kv.set('x', '12345678'));
        step(() => lent.kv.set({ toString() { said.push('ran'); return 'k'; } }, ''));
        step(() => lent.kv.set('k'));
        said.join('')`;
      expect((await run(source, { kv }, { owner: 'small' })).value).toBe('+RRR+R++TT');
    });

    it('is not kept when two calls together pass the limits', async () => {
      const kv = { totalBytes: 20 };
      const [a, b] = await Promise.all(
        ['a', 'b'].map(key => run(`lent.kv.set('${key}', 'x'.repeat(15))`, { kv }, { owner: 'both' })),
      );
      expect([a!.outcome, b!.outcome].sort()).toEqual(['error', 'ok']);
      expect((await run('lent.kv.list().length', { kv }, { owner: 'both' })).value).toBe('1');
    });
  });

  describe('readModel', () => {
    const model = Uint8Array.from({ length: 100 }, (_, i) => i);

    it('reads ranges of the model that the call was given', async () => {
      const source =
        "lent.readModel.size + ':' + [...new Uint8Array(lent.readModel.read(10, 3))] + ':' + lent.readModel.read(100, 0).byteLength";
      expect((await run(source, { readModel: {} }, { model })).value).toBe('100:10,11,12:0');
      expect((await run('lent.readModel.size', { readModel: {} })).value).toBe('0');
    });

    it.each([
      '0, 101',
      '100, 1',
      '-1, 1',
      '0, -1',
      'NaN, 1',
      '0, 2 ** 53',
      '2 ** 53 - 1, 2 ** 53 - 1',
      '0.5, 1',
      "'0', {}",
    ])('refuses the range %s', async range => {
      const { value, uses } = await run(
        `try { lent.readModel.read(${range}); 'read' } catch (e) { e.name }`,
        { readModel: {} },
        { model },
      );
      expect(['RangeError', 'TypeError']).toContain(value);
      expect(uses.readModel).toMatchObject({ calls: 0, refused: 1 });
    });

    it('gives copies: what a guest writes into one is not in the next', async () => {
      const source =
        'new Uint8Array(lent.readModel.read(0, 4)).fill(9); new Uint8Array(lent.readModel.read(0, 4)).join()';
      expect((await run(source, { readModel: {} }, { model })).value).toBe('0,1,2,3');
      expect(model[0]).toBe(0);
    });
  });

  describe('kernels', () => {
    it('refuse a program that does not pass the verifier', async () => {
      const source = `try { lent.kernels.run(new ArrayBuffer(80), new ArrayBuffer(0)); 'ran' } catch (e) { e.name + ': ' + e.message }`;
      const { value, uses } = await run(source, { kernels: {} });
      expect(value).toMatch(native ? /^TypeError: kernels: expected .*\[[\w-]+\]$/ : /no native kernels/);
      expect(uses.kernels).toMatchObject({ calls: 0, refused: 1 });
    });

    it.skipIf(!native)('run one that does, on the constants of the model', async () => {
      const model = affineModel();
      const lending = openProgramHost(loadBinding()!);
      const constants = bytesSource(model);
      const graph = parseOnnx(constants);
      const { program } = planProgram(graph, {
        kernel: lending.info,
        constants,
        modelBytes: model.length,
        dims: { n: 1 },
      });
      const source = `const inputs = Float32Array.of(0, 1, 20).buffer;
        const program = Uint8Array.of(${program.join()}).buffer;
        [lent.kernels.info().isa, ...new Float32Array(lent.kernels.run(program, inputs))].join()`;
      const { value, uses } = await run(source, { kernels: {} }, { model });
      expect(value).toBe(`${lending.info.isa},103.5,24`);
      expect(uses.kernels).toMatchObject({ calls: 2, refused: 0 });
      const poor = await run(`try { ${source} } catch (e) { e.message }`, { kernels: { work: 1 } }, { model });
      expect(poor.value).toContain('at most 1 operations in all');
    });
  });
});

describe('a store of keys and values', () => {
  it.each([
    ['that throws when it is read', { read: () => Promise.reject(new Error('disk')), apply: () => {} }],
    ['that throws when it is written', { read: () => new Map(), apply: () => Promise.reject(new Error('disk')) }],
    ['that gives no strings', { read: () => new Map([['k', 1]]) as unknown as Map<string, string>, apply: () => {} }],
  ])('%s fails the call with a typed error', async (_, kv) => {
    await using sandbox = await openSandbox({ isolation: 'isolate', kv });
    const call = sandbox.evaluate("lent.kv.set('a', 'b')", { capabilities: { kv: {} } });
    const error = await call.catch((cause: unknown) => cause);
    expect(isCloisterError(error, 'STORE_FAILED'), String(error)).toBe(true);
  });
});

it('a call is lent nothing under isolation none, where nothing is run', async () => {
  await using sandbox = await openSandbox({ isolation: 'none' });
  const error = await sandbox.evaluate('1', { capabilities: { log: {} } }).catch((cause: unknown) => cause);
  expect(isCloisterError(error, 'INVALID_ARGUMENT')).toBe(true);
});
