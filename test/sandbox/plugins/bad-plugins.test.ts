/** Plugins that mean harm: each is a typed error, the caller goes on, and the next plugin works. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openSandbox, type PluginKind, type PluginOperator, type Sandbox } from '../../../sandbox/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { plugin, scale, scaledModel } from './working.ts';

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await openSandbox();
});
afterAll(() => sandbox.close());

const x = Tensor.of('f32', [1, 2]);
const refused = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });
const LIMITS = { wallMs: 1_000, memoryMb: 32 };
const plug = (kind: PluginKind, main: string) => sandbox.plug(plugin(kind, main, { limits: LIMITS }));

/** What a processor with this body of `before` is found to be at fault of. */
async function faultOf(body: string): Promise<unknown> {
  await using working = await plug('processor', `define({ before(inputs) { ${body} } });`);
  return await working.map('before', { x }).catch((error: unknown) => error);
}

/** What an operator plugin with these changes is found to be at fault of. */
async function operatorFault(changes: string): Promise<unknown> {
  await using working = await sandbox.plug(scale(changes, { limits: LIMITS }));
  const { operators } = working.definition as { operators: readonly PluginOperator[] };
  return await working.kernel(operators[0]!, {}, [x]).catch((error: unknown) => error);
}

describe('an entry that', () => {
  test.each([
    ['is empty', '', /called define 0 times/],
    ['defines nothing', 'const a = 1;', /called define 0 times/],
    ['defines twice', 'define({ before: x => x }); define({ before: x => x });', /called define 2 times/],
    ['defines after an await', '(async () => { await null; define({ before: x => x }); })();', /define is not defined/],
    ['is no JavaScript', 'define({', /threw "SyntaxError/],
    ['throws', "throw new Error('boom');", /threw "Error: boom"/],
    ['throws an object with a toString that throws', 'throw { toString() { throw this; } };', /cannot be shown/],
    [
      'throws a proxy',
      'throw new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; } });',
      /cannot be shown/,
    ],
    ['throws a symbol', "throw Symbol('s');", /threw "Symbol\(s\)"/],
    ['defines nothing of the form', 'define(7);', /expected an object, got number/],
    ['defines null', 'define(null);', /expected an object, got null/],
    ['defines a promise', 'define(Promise.resolve({ before: x => x }));', /a promise came/],
    ['defines getters', 'define({ get before() { return x => x; } });', /before is a getter/],
    ['defines a proxy that throws', 'define(new Proxy({}, { ownKeys() { throw 1; } }));', /reading it threw "1"/],
    [
      'defines a revoked proxy',
      'const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); define(proxy);',
      /reading it threw/,
    ],
    ['defines what the kind does not have', 'define({ choose() {} });', /unknown key "choose"/],
    ['defines no function', 'define({ before: 1 });', /before: expected a function/],
    ['reaches for a module', "import('node:fs'); define({ before: x => x });", /Not supported/],
    [
      'replaces what the engine goes by',
      'define({ before: x => x }); "use strict"; (function () { "use strict"; Array = 1; })();',
      /read only|Cannot assign/,
    ],
  ])('%s is refused', async (_, main, message) => {
    await expect(plug('processor', main)).rejects.toEqual(refused('GUEST_FAILED', message));
  });

  test.each([
    ['never ends', 'for (;;);'],
    ['leaves work behind that never ends', 'define({ before: x => x }); (async () => { for (;;) await null; })();'],
    ['throws what never ends to be shown', 'throw { toString() { for (;;); } };'],
  ])('%s is stopped', async (_, main) => {
    await expect(plug('processor', main)).rejects.toEqual(refused('LIMIT_EXCEEDED', /wallMs/));
  });

  test('fills its memory is stopped', async () => {
    const fills = 'const all = []; for (;;) all.push(new Float64Array(1e5).fill(1));';
    const error = await plug('processor', fills).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: expect.stringMatching(/^(LIMIT_EXCEEDED|GUEST_FAILED)$/) });
    expect(String(error)).toMatch(/memoryMb|allocation failed/);
  });
});

describe('an operator that', () => {
  const defines = (
    change: string,
  ) => `define({ operators: [{ domain: 'com.example', name: 'Mine', inputs: ['x'], outputs: ['y'],
    shape: ([x]) => [x], run: ([x]) => [x], ${change} }] });`;

  test.each(['ai.onnx', 'ai.onnx.ml', 'com.microsoft', 'cloister', ''])(
    'is of the domain %j, which is not its own, is refused',
    async domain => {
      await expect(plug('operator', defines(`domain: '${domain}'`))).rejects.toEqual(
        refused('GUEST_FAILED', /is not free/),
      );
    },
  );

  test.each([
    ['has no kernel', 'run: undefined', /run: expected a function/],
    ['has a name that is none', "name: 'a b'", /a name is letters/],
    ['has inputs without end', 'inputs: { length: Infinity }', /inputs: expected a list/],
    ['has an attribute of no type', "attributes: { a: { type: 'tensor' } }", /no such type/],
    ['has keys of its own', 'native: true', /unknown key "native"/],
  ])('%s is refused', async (_, change, message) => {
    await expect(plug('operator', defines(change))).rejects.toEqual(refused('GUEST_FAILED', message));
  });

  test('two plugins of a model define, is refused', async () => {
    const given = { plugins: [scale(), scale('', { name: 'other' })] };
    await expect(sandbox.load(scaledModel(), given)).rejects.toEqual(
      refused('GUEST_FAILED', /another plugin of this model/),
    );
  });

  test.each([
    [
      'gives other shapes than its rule',
      "run: ([x]) => [{ dtype: 'f32', shape: [1], data: Float32Array.of(1) }]",
      'SHAPE_MISMATCH',
      /shape \[1\] for y, expected \[2\]/,
    ],
    [
      'gives other dtypes than its rule',
      "run: ([x]) => [{ dtype: 'f64', shape: [2], data: Float64Array.of(1, 2) }]",
      'DTYPE_MISMATCH',
      /f64 for y/,
    ],
    ['gives fewer results', 'run: () => []', 'SHAPE_MISMATCH', /0 results, expected 1/],
    ['gives more results', 'run: ([x]) => [x, x]', 'GUEST_FAILED', /2 items, at most 1/],
    [
      'gives elements that do not fill the shape',
      "run: () => [{ dtype: 'f32', shape: [2], data: new Float32Array(3) }]",
      'GUEST_FAILED',
      /needs 2 elements, got 3/,
    ],
    [
      'gives a list for elements',
      "run: () => [{ dtype: 'f32', shape: [2], data: [1, 2] }]",
      'GUEST_FAILED',
      /are in a Float32Array/,
    ],
    [
      'gives a proxy for elements',
      'run: ([x]) => [{ ...x, data: new Proxy(x.data, {}) }]',
      'GUEST_FAILED',
      /are in a Float32Array/,
    ],
    [
      'gives a size that is none',
      "run: () => [{ dtype: 'f32', shape: [-1], data: new Float32Array(0) }]",
      'GUEST_FAILED',
      /no shape/,
    ],
    ['gives a promise', 'run: async ([x]) => [x]', 'GUEST_FAILED', /expected a list/],
    ['gives a promise that never settles', 'run: () => new Promise(() => {})', 'GUEST_FAILED', /expected a list/],
    ['throws', 'run() { throw [1, 2]; }', 'GUEST_FAILED', /run threw "1,2"/],
    ['recurses without end', 'run(a, b) { return this.run(a, b); }', 'GUEST_FAILED', /threw/],
    ['never ends', 'run() { for (;;); }', 'LIMIT_EXCEEDED', /wallMs/],
    [
      'leaves work behind',
      'run([x]) { (async () => { for (;;) await null; })(); return [x]; }',
      'LIMIT_EXCEEDED',
      /wallMs/,
    ],
    [
      'has a rule that gives no shape',
      'shape: () => [{ dtype: "f32", shape: "2" }]',
      'GUEST_FAILED',
      /a shape: expected a list/,
    ],
    [
      'has a rule that makes up a size',
      'shape: () => [{ dtype: "f32", shape: ["batch"] }]',
      'GUEST_FAILED',
      /a name that an input has/,
    ],
    [
      'has a rule that makes up a dtype',
      'shape: () => [{ dtype: "f31", shape: [2] }]',
      'GUEST_FAILED',
      /expected a dtype/,
    ],
    [
      'has a rule that is a shape without end',
      'shape: () => [{ dtype: "f32", shape: new Array(1e6).fill(1) }]',
      'GUEST_FAILED',
      /at most 8/,
    ],
  ])('%s is a typed error', async (_, changes, code, message) => {
    expect(await operatorFault(changes)).toEqual(refused(code, message));
  });

  test('fails does not fail the runs that come after it', async () => {
    const fails = scale('run([x]) { if (x.data[0] < 0) throw 1; return [x]; }', { limits: LIMITS });
    await using model = await sandbox.load(scaledModel(), { plugins: [fails] });
    await expect(model.run({ x: Tensor.of('f32', [-1]) })).rejects.toEqual(refused('GUEST_FAILED', /run threw "1"/));
    expect((await model.run({ x }))['y']!.toArray()).toEqual([2, 4]);
  });

  test('keeps what it was given or has given changes nothing of the graph', async () => {
    const keeps = `run([x]) { for (const each of kept) each.fill(99); kept.push(x.data); const y = x.data.slice(); kept.push(y); return [{ ...x, data: y }]; }`;
    const main = new TextDecoder().decode(scale(keeps).files.get('main.js'));
    await using model = await sandbox.load(scaledModel(), { plugins: [plugin('operator', `const kept = [];${main}`)] });
    for (const value of [1, 2, 3]) {
      const { y } = await model.run({ x: Tensor.of('f32', [value]) });
      expect(y!.toArray()).toEqual([2 * value]);
    }
  });
});

describe('a processor that', () => {
  test.each([
    ['returns nothing', 'return;', /expected an object, got undefined/],
    ['returns a promise', 'return Promise.resolve(inputs);', /a promise came/],
    ['returns what looks like a promise', 'return { then() {} };', /a promise came/],
    ['returns getters', 'return { get x() { return inputs.x; } };', /x is a getter/],
    [
      'returns a proxy that lies',
      'return new Proxy(inputs, { getOwnPropertyDescriptor() { throw 5; } });',
      /reading it threw/,
    ],
    ['returns names that are not printable', "return { '\\u202e': inputs.x };", /not printable/],
    ['returns symbols for names', 'return { [Symbol.iterator]: inputs.x };', /a key is no string/],
    [
      'returns names without end',
      'const all = {}; for (let i = 0; i < 5000; i++) all["n" + i] = inputs.x; return all;',
      /5000 keys, at most 4096/,
    ],
    [
      'returns booleans of 2',
      "return { x: { dtype: 'bool', shape: [1], data: Uint8Array.of(2) } };",
      /booleans are 0 or 1/,
    ],
    ['returns broken text', "return { x: { dtype: 'string', shape: [1], data: ['\\ud800'] } };", /expected strings/],
    ['returns a tensor with more to it', 'return { x: { ...inputs.x, strides: [1] } };', /unknown key "strides"/],
    [
      'returns a subclass with traps',
      'class Odd extends Float32Array { static get [Symbol.species]() { throw 1; } get length() { return 1e9; } } return { x: { dtype: "f32", shape: [3], data: new Odd(2) } };',
      /needs 3 elements, got 2/,
    ],
    ['throws', 'throw null;', /before threw "null"/],
  ])('%s is a typed error', async (_, body, message) => {
    expect(await faultOf(body)).toEqual(refused('GUEST_FAILED', message));
  });

  test('returns more bytes than it may is stopped', async () => {
    const main = "define({ before: () => ({ x: { dtype: 'u8', shape: [100000], data: new Uint8Array(100000) } }) });";
    await using working = await sandbox.plug(
      plugin('processor', main, { limits: { wallMs: 1_000, memoryMb: 32, outputBytes: 1_000 } }),
    );
    await expect(working.map('before', { x })).rejects.toEqual(refused('LIMIT_EXCEEDED', /outputBytes/));
  });

  test('floods its log is stopped', async () => {
    const main = "define({ before(inputs) { for (;;) lent.log('line'); } });";
    const floods = plugin('processor', main, {
      limits: { wallMs: 5_000, memoryMb: 32, messages: 20 },
      capabilities: { log: { calls: 1_000 } },
    });
    let lines = 0;
    await using working = await sandbox.plug(floods, { onLine: () => void lines++ });
    await expect(working.map('before', { x })).rejects.toEqual(refused('LIMIT_EXCEEDED', /messages/));
    expect(lines).toBeLessThanOrEqual(20);
  });

  test('fails on some inputs does not fail calls that wait behind them', async () => {
    const main = 'define({ before({ x }) { if (x.data[0] < 0) throw x.data[0]; return { x }; } });';
    await using working = await plug('processor', main);
    const values = [1, -2, 3, 4, -5, 6, 7, -8, 9];
    const calls = values.map(value => working.map('before', { x: Tensor.of('f32', [value]) }));
    const settled = await Promise.allSettled(calls);
    for (const [i, value] of values.entries()) {
      const outcome = settled[i]!;
      if (outcome.status === 'fulfilled') expect(outcome.value['x']!.toArray()).toEqual([value]);
      else expect(outcome.reason).toEqual(refused('GUEST_FAILED', new RegExp(`threw "${value}"`)));
      expect(outcome.status).toBe(value > 0 ? 'fulfilled' : 'rejected');
    }
  });

  test('ends one worker after the other is refused for a while, and others go on', async () => {
    await using working = await plug('processor', 'define({ before() { throw 1; } });');
    for (let i = 0; i < 5; i++) {
      await expect(working.map('before', {})).rejects.toEqual(refused('GUEST_FAILED', /threw "1"/));
    }
    await expect(working.map('before', {})).rejects.toEqual(
      refused('GUEST_REFUSED', /the plugin tested@1.0.0 ended 5 workers/),
    );
    await using other = await plug('processor', 'define({ before: inputs => inputs });');
    expect((await other.map('before', { x }))['x']!.toArray()).toEqual([1, 2]);
  });
});
