/**
 * Attempts of our own to get out of the sandbox, or to take more than was lent. Each is a script whose last value begins with `ESC` when
 * it has got what it must not have.
 * @module
 */
import type { LentInput, LimitsInput } from '../../sandbox/index.ts';

/** One attempt. */
export interface Attempt {
  readonly id: string;
  readonly technique: string;
  readonly source: string;
  readonly lend?: LentInput;
  readonly limits?: LimitsInput;
  /** It may end in any way, but must end, within its limits. */
  readonly bounded?: true;
  /**
   * Where its defence is switched off, and the attempt succeeds: `vm` shares host objects, `bare` is an isolate without bootstrap and
   * with a bridge that trusts, and an object loosens limits.
   */
  readonly control?: 'vm' | 'bare' | { readonly lend?: LentInput; readonly limits?: LimitsInput };
}

/** `reach(f)`: whether `f` returns the host's process. */
const REACH =
  "const reach = f => { try { const p = f(); return p && p.versions && p.versions.node ? 'ESC:process' : 'no' } catch { return 'no' } };";
/** `module(sections)`: a WebAssembly module. */
const MODULE = 'const module = (...sections) => new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, ...sections.flat()]);';
const OWN_MEMORY = '[5, 3, 1, 0, 1]';

export const ATTEMPTS: readonly Attempt[] = [
  {
    id: 'prepare-stack',
    technique: 'call sites of errors, also of one that the bridge threw',
    lend: { log: {} },
    source:
      "try { Error.prepareStackTrace = (_, sites) => sites } catch {} const all = []; for (const f of [() => lent.log({}), () => null.x]) try { f() } catch (e) { all.push(e.stack) } all.some(Array.isArray) ? 'ESC:sites' : 'no'",
    control: 'bare',
  },
  {
    id: 'stack-path',
    technique: 'paths of the host in the stack of an error that crosses the bridge',
    lend: { log: {} },
    source:
      "let s = ''; try { lent.log({}) } catch (e) { s = String(e.stack) } /file:|\\/[\\w.-]+\\/[\\w.-]+\\.(ts|js|mjs)/.test(s) ? 'ESC:path' : 'no'",
    control: 'bare',
  },
  {
    id: 'async-stack',
    technique: 'paths of the host in a stack that goes on behind an await',
    lend: { clock: {} },
    source:
      "(async () => { await lent.clock(); try { null.x } catch (e) { return /file:|node:|\\/[\\w.-]+\\/[\\w.-]+\\.(ts|js|mjs)/.test(e.stack) ? 'ESC:path' : 'no' } })()",
  },
  {
    id: 'species',
    technique: 'a species constructor run while a buffer crosses',
    lend: { kernels: {} },
    source:
      "let hit = 0; class Evil extends ArrayBuffer { static get [Symbol.species]() { hit++; return ArrayBuffer } } try { lent.kernels.run(new Evil(8), new Evil(8)) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'vm',
  },
  {
    id: 'own-constructor',
    technique: "a buffer's own `constructor`, `byteLength` and `slice`",
    lend: { kernels: {} },
    source:
      "let hit = 0; const b = new ArrayBuffer(8); for (const k of ['constructor', 'byteLength', 'slice']) Object.defineProperty(b, k, { get() { hit++ } }); try { lent.kernels.run(b, b) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'vm',
  },
  {
    id: 'to-primitive',
    technique: 'Symbol.toPrimitive of an argument',
    lend: { log: {} },
    source:
      "let hit = 0; try { lent.log({ [Symbol.toPrimitive]() { hit++; return 'x' } }) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'vm',
  },
  {
    id: 'getter-argument',
    technique: 'a getter in an argument, run while it is cloned',
    lend: { log: {} },
    source: "let hit = 0; try { lent.log({ get a() { hit++; return 1 } }) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'bare',
  },
  {
    id: 'proxy-argument',
    technique: 'traps of a proxy as an argument, also of a buffer and of a function',
    lend: { log: {}, kv: {} },
    source:
      "let hit = 0; const traps = new Proxy({}, { get: (_, k) => (...a) => { hit++; return Reflect[k](...a) } }); for (const t of [{}, new ArrayBuffer(8), new Uint8Array(8), () => 1]) for (const f of [x => lent.log(x), x => lent.kv.set(x, x)]) try { f(new Proxy(t, traps)) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'vm',
  },
  {
    id: 'thenable',
    technique: 'the resolving functions that an awaited thenable is given',
    source: `${REACH} let out = 'no'; ({ then(resolve) { out = reach(() => resolve.constructor('return process')()); resolve(out) } })`,
  },
  {
    id: 'promise-then',
    technique: "a promise's own `then`",
    source: `${REACH} const p = Promise.resolve('no'); p.then = resolve => resolve(reach(() => resolve.constructor('return process')())); p`,
  },
  {
    id: 'bridge-objects',
    technique: 'objects of isolated-vm anywhere behind what is lent',
    lend: { log: {}, kv: {}, wasm: {}, kernels: {}, readModel: {} },
    source:
      "const seen = new Set(); let out = 'no'; const walk = v => { if ((typeof v !== 'object' && typeof v !== 'function') || v === null || seen.has(v)) return; seen.add(v); let n = ''; try { n = String(v.constructor && v.constructor.name) } catch {} if (/^(Reference|Callback|ExternalCopy|Isolate|Context|Script|Module|Dereference)$/.test(n) && typeof v !== 'function' && !(typeof WebAssembly === 'object' && v instanceof WebAssembly.Module) && v !== (typeof WebAssembly === 'object' && WebAssembly.Module.prototype)) out = 'ESC:' + n; walk(Object.getPrototypeOf(v)); for (const k of Reflect.ownKeys(v)) { const d = Reflect.getOwnPropertyDescriptor(v, k); walk(d.value); walk(d.get); walk(d.set) } }; walk(lent); out",
    control: 'bare',
  },
  {
    id: 'lent-constructor',
    technique: 'the Function constructor behind a lent function',
    lend: { log: {}, clock: {} },
    source: `${REACH} const all = [lent.log, lent.clock].map(f => reach(() => f.constructor('return process')())); all.find(x => x !== 'no') ?? 'no'`,
    control: 'vm',
  },
  {
    id: 'import',
    technique: 'dynamic import by name, by URL and by data',
    source:
      "(async () => { for (const m of ['node:fs', 'fs', 'file:///etc/passwd', 'data:text/javascript,export default 1']) try { await import(m); return 'ESC:' + m } catch {} return 'no' })()",
    control: 'vm',
  },
  {
    id: 'global-names',
    technique: 'names that the bridge might take from the global object',
    lend: { log: {}, kv: {} },
    source:
      "let hit = 0; for (const k of ['TypeError', 'RangeError', 'String', 'Number', 'ArrayBuffer', 'Uint8Array', 'Reflect', 'Object', 'JSON', 'Promise']) try { globalThis[k] = k === 'JSON' ? { parse() { hit++ } } : function () { hit++; return {} } } catch {} try { lent.kv.list() } catch {} try { lent.log({}) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'bare',
  },
  {
    id: 'index-setter',
    technique: 'setters on Object.prototype and Array.prototype that see what the bridge writes',
    lend: { log: {} },
    source:
      "let hit = 0; for (const o of [Object.prototype, Array.prototype]) for (const k of ['0', '1', '2']) try { Object.defineProperty(o, k, { set() { hit++ }, configurable: true }) } catch {} try { lent.log('x') } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'bare',
  },
  {
    id: 'patched-methods',
    technique: 'methods of the intrinsics that the bridge calls',
    lend: { log: {}, kv: {}, kernels: {} },
    source:
      "let hit = 0; const patch = (o, k) => { try { const f = o[k]; o[k] = function (...a) { hit++; return Reflect.apply(f, this, a) } } catch {} }; patch(Array.prototype, Symbol.iterator); patch(JSON, 'parse'); patch(String.prototype, 'slice'); patch(Object.getPrototypeOf(Uint8Array.prototype), 'set'); patch(Function.prototype, 'call'); patch(Function.prototype, 'apply'); hit = 0; try { lent.kv.list() } catch {} try { lent.kernels.run(new ArrayBuffer(8), new ArrayBuffer(8)) } catch {} hit ? 'ESC:ran' : 'no'",
    control: 'bare',
  },
  {
    id: 'names-of-lent',
    technique: 'names that every object has, as names of what is lent',
    lend: { log: {} },
    source:
      "['constructor', '__proto__', 'toString', 'hasOwnProperty', 'valueOf'].filter(k => lent[k] !== undefined).map(k => 'ESC:' + k)[0] ?? 'no'",
    control: 'vm',
  },
  {
    id: 'prototype-keys',
    technique: 'names of Object.prototype as keys of kv',
    lend: { kv: {} },
    source: `${REACH} const keys = ['__proto__', 'constructor', 'hasOwnProperty', 'toString', '__defineGetter__']; const got = keys.map(k => reach(() => { const v = lent.kv.get(k); return v && v.constructor.constructor('return process')() })).find(x => x !== 'no'); got ?? keys.map(k => lent.kv.get(k)).filter(v => v !== undefined).map(v => 'ESC:' + typeof v)[0] ?? 'no'`,
    control: 'vm',
  },
  {
    id: 'prototype-values',
    technique: 'a value under the key __proto__ that becomes a prototype',
    lend: { kv: {} },
    source: `lent.kv.set('__proto__', '{"polluted":"yes"}'); lent.kv.set('constructor', '{"prototype":{"polluted":"yes"}}'); ({}).polluted || JSON.parse(JSON.stringify({})).polluted || lent.kv.get('polluted') ? 'ESC:polluted' : 'no'`,
  },
  {
    id: 'negative-range',
    technique: 'ranges that begin before the model, or end behind it',
    lend: { readModel: {} },
    source:
      "const got = []; for (const [o, n] of [[-8, 8], [0, -1], [0, 64], [NaN, 8], [-0.5, 1], [2 ** 53, 1], [1, 2 ** 53 - 1], ['0', '8e0']]) try { got.push(lent.readModel.read(o, n).byteLength) } catch {} got.some(n => n > 0) ? 'ESC:' + got : 'no'",
    control: 'vm',
  },
  {
    id: 'odd-sizes',
    technique: 'sizes that are negative, no numbers, not whole, or -0',
    lend: { random: {} },
    source:
      "const got = []; for (const n of [-1, NaN, 1.5, Infinity, -Infinity, 2 ** 53, '8', [8], 8n, null, true, undefined]) try { const b = lent.random(n); if (n !== '8') got.push(String(n)) } catch {} got.length ? 'ESC:' + got : lent.random(-0).byteLength === 0 ? 'no' : 'ESC:-0'",
    control: 'vm',
  },
  {
    id: 'bigint-argument',
    technique: 'a huge BigInt as an argument, turned into text by the bridge',
    lend: { random: {}, log: {} },
    source:
      "let ran = 'no'; const big = 2n ** 2000000n; for (const f of [lent.log, lent.random]) try { f(big); ran = 'ESC:taken' } catch {} ran",
    control: 'vm',
  },
  {
    id: 'fine-clock',
    technique: 'a lent clock that tells less than a millisecond apart',
    lend: { clock: {} },
    source:
      "let least = Infinity; for (let i = 0, t = lent.clock(); i < 3000; i++) { const u = lent.clock(); if (u > t) least = Math.min(least, u - t); t = u } least < 1 ? 'ESC:' + least : 'no'",
    control: 'vm',
  },
  {
    id: 'coarse-clock',
    technique: 'time between two steps of a lent clock, by counting',
    lend: { clock: { stepMs: 100 } },
    source:
      "const steps = new Set(); for (let i = 0; i < 3000; i++) steps.add(lent.clock()); [...steps].some(t => t % 100 !== 0) ? 'ESC:between' : 'no'",
    control: { lend: { clock: { stepMs: 1 } } },
  },
  {
    id: 'own-clock',
    technique: 'a clock that is not lent: Date, by all its ways',
    source:
      "const ways = [Date.now(), +new Date(), new Date().getTime(), Date.parse(Date()), +Reflect.construct(Date, []), +new (class extends Date {})(), new Date(0).constructor.now()]; ways.some(t => t !== 0) ? 'ESC:' + ways : 'no'",
    control: 'bare',
  },
  {
    id: 'shared-clock',
    technique: 'a counter in shared memory as a clock',
    lend: { wasm: {} },
    source:
      "typeof Atomics !== 'undefined' || typeof SharedArrayBuffer !== 'undefined' ? 'ESC:shared' : (() => { try { return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer instanceof ArrayBuffer ? 'no' : 'ESC:shared' } catch { return 'no' } })()",
    control: 'bare',
  },
  {
    id: 'weak-references',
    technique: 'callbacks that run outside any call',
    source: "typeof WeakRef !== 'undefined' || typeof FinalizationRegistry !== 'undefined' ? 'ESC:weak' : 'no'",
    control: 'bare',
  },
  {
    id: 'locale',
    technique: 'what Intl tells of the machine',
    source: "typeof Intl !== 'undefined' ? 'ESC:' + Intl.DateTimeFormat().resolvedOptions().timeZone : 'no'",
    control: 'bare',
  },
  {
    id: 'console',
    technique: 'a console that is the inspector of the host',
    source: "typeof console !== 'undefined' ? 'ESC:console' : 'no'",
    control: 'bare',
  },
  {
    id: 'uncounted-buffer',
    technique: 'a resizable buffer grown past the limit of memory',
    source:
      "const b = new ArrayBuffer(0, { maxByteLength: 2 ** 28 }); try { b.resize(2 ** 28) } catch {} b.byteLength > 2 ** 27 ? 'ESC:uncounted' : 'no'",
    control: 'bare',
  },
  {
    id: 'answered-buffer',
    technique: 'the native constructor and transfer of a buffer that the bridge answered',
    lend: { random: {} },
    source:
      "const b = lent.random(8); const C = b.constructor; b.transfer || b.resize || new C(8, { maxByteLength: 16 }).resizable || new (Object.getPrototypeOf(b).constructor)(8, { maxByteLength: 16 }).resizable ? 'ESC:native' : 'no'",
    control: 'bare',
  },
  {
    id: 'detached',
    technique: 'a buffer that has crossed, detached or written behind the back of its owner',
    lend: { kernels: {}, random: {} },
    source:
      "const b = new ArrayBuffer(16); new Uint8Array(b).fill(7); try { lent.kernels.run(b, b) } catch {} b.byteLength !== 16 || new Uint8Array(b).some(x => x !== 7) ? 'ESC:detached' : lent.random(8) === lent.random(8) ? 'ESC:same' : 'no'",
  },
  {
    id: 'wasm-large',
    technique: 'a WebAssembly memory over the cap, by each way to say so',
    lend: { wasm: { memoryMb: 4 } },
    source:
      "const got = []; for (const t of [{ initial: 4096 }, { initial: 1, maximum: 65536 }, { initial: 4096, maximum: 1 }, { initial: -1 }, { initial: NaN }, { initial: 65, maximum: 65 }]) try { const m = new WebAssembly.Memory(t); try { m.grow(4000) } catch {} if (m.buffer.byteLength > 2 ** 22) got.push(m.buffer.byteLength) } catch {} got.length ? 'ESC:' + got : 'no'",
    control: 'bare',
  },
  {
    id: 'wasm-many',
    technique: 'many small WebAssembly memories',
    lend: { wasm: { memoryMb: 4 } },
    source:
      "let pages = 0; const all = []; try { for (let i = 0; i < 200; i++) { all.push(new WebAssembly.Memory({ initial: 1, maximum: 8 })); pages += 8 } } catch {} pages > 64 ? 'ESC:' + pages : 'no'",
    control: 'bare',
  },
  {
    id: 'wasm-own-memory',
    technique: 'a module that makes a memory of its own',
    lend: { wasm: {} },
    source: `${MODULE} try { new WebAssembly.Module(module(${OWN_MEMORY})); 'ESC:compiled' } catch { 'no' }`,
    control: 'bare',
  },
  {
    id: 'wasm-import-unbounded',
    technique: 'a module that imports a memory without a maximum, a shared one, and one of 64 bits',
    lend: { wasm: {} },
    source: `${MODULE} const imported = limits => module([2, 5 + limits.length, 1, 1, 97, 0, 2, ...limits].map((x, i, a) => i === 1 ? a.length - 2 : x)); let out = 'no'; for (const limits of [[0, 1], [3, 1, 2], [4, 1], [2, 1], [1, 1, 255, 255, 3]]) try { new WebAssembly.Module(imported(limits)); out = 'ESC:' + limits } catch {} out`,
    control: 'bare',
  },
  {
    id: 'wasm-hidden-memory',
    technique: 'a memory section behind custom sections, long numbers, and out of order',
    lend: { wasm: {} },
    source: `${MODULE} let out = 'no'; for (const s of [[0, 2, 1, 97, ...${OWN_MEMORY}], [5, 0x83, 0x80, 0, 1, 0, 1], [5, 5, 0x81, 0x80, 0, 0, 1], [11, 1, 0, ...${OWN_MEMORY}]]) try { new WebAssembly.Module(module(s)); out = 'ESC:' + s } catch {} out`,
    control: 'bare',
  },
  {
    id: 'wasm-constructors',
    technique: "the engine's own constructors behind instances and prototypes",
    lend: { wasm: {} },
    source:
      "const m = new WebAssembly.Memory({ initial: 1, maximum: 1 }); let out = 'no'; for (const C of [m.constructor, Object.getPrototypeOf(m).constructor, Reflect.getPrototypeOf(m).constructor]) try { if (new C({ initial: 2000, maximum: 2000 }).buffer.byteLength > 2 ** 26) out = 'ESC:native' } catch {} out",
    control: 'bare',
  },
  {
    id: 'wasm-subclass',
    technique: 'a subclass of a capped constructor, and a construct with another target',
    lend: { wasm: {} },
    source:
      "let out = 'no'; for (const f of [() => new (class extends WebAssembly.Memory {})({ initial: 2000, maximum: 2000 }), () => Reflect.construct(WebAssembly.Memory, [{ initial: 2000, maximum: 2000 }], Object), () => Reflect.construct(Object, [], WebAssembly.Memory).grow(2000)]) try { const m = f(); if (m.buffer.byteLength > 2 ** 26) out = 'ESC:large' } catch {} out",
    control: 'bare',
  },
  {
    id: 'wasm-changing-type',
    technique: 'a description of a memory whose getters change their mind',
    lend: { wasm: {} },
    source:
      "let n = 0; const t = { get initial() { return n++ ? 2000 : 1 }, get maximum() { return n++ > 1 ? 2000 : 1 } }; try { const m = new WebAssembly.Memory(t); try { m.grow(1999) } catch {} m.buffer.byteLength > 2 ** 24 ? 'ESC:large' : 'no' } catch { 'no' }",
  },
  {
    id: 'wasm-changing-bytes',
    technique: 'bytes of a module that are others when they are compiled',
    lend: { wasm: {} },
    source: `${MODULE} const good = module(), bad = module(${OWN_MEMORY}); class Two extends Uint8Array { get buffer() { return bad.buffer } get byteLength() { return bad.length } get length() { return bad.length } } const two = new Two(good); let out = 'no'; for (const given of [two, new Proxy(good, { get: (_, k) => Reflect.get(bad, k) }), { __proto__: Uint8Array.prototype, buffer: bad.buffer }]) try { const m = new WebAssembly.Module(given); if (given !== two) out = 'ESC:taken' } catch {} out`,
  },
  {
    id: 'wasm-exceptions',
    technique: "tags that catch what is not the module's, streaming, and suspended calls",
    lend: { wasm: {} },
    source:
      "['Tag', 'JSTag', 'Exception', 'compileStreaming', 'instantiateStreaming', 'Suspending', 'promising', 'compile', 'instantiate'].filter(k => WebAssembly[k] !== undefined).map(k => 'ESC:' + k)[0] ?? 'no'",
    control: 'bare',
  },
  {
    id: 'wasm-table',
    technique: 'WebAssembly tables over the cap, made and grown',
    lend: { wasm: {} },
    source:
      "let n = 0; const all = []; for (let i = 0; i < 5; i++) try { const t = new WebAssembly.Table({ initial: 50000, element: 'anyfunc' }); all.push(t); n += 50000; t.grow(50000); n += 50000 } catch {} n > 100000 ? 'ESC:' + n : 'no'",
    control: 'bare',
  },
  {
    id: 'wasm-loop',
    technique: 'a module that never returns',
    lend: { wasm: {} },
    source:
      'new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,5,1,1,108,0,0,10,9,1,7,0,3,64,12,0,11,11]))).exports.l()',
    bounded: true,
  },
  {
    id: 'kv-quota',
    technique: 'more values than the owner may have',
    lend: { kv: { totalBytes: 65_536 } },
    source:
      "let n = 0; try { for (; n < 200; n++) lent.kv.set('key' + n, 'x'.repeat(1000)) } catch {} n > 70 ? 'ESC:' + n : 'no'",
    control: { lend: { kv: {} } },
  },
  {
    id: 'kv-churn',
    technique: 'values that are set and deleted until the count of bytes is wrong',
    lend: { kv: { totalBytes: 1_000 } },
    source:
      "for (let i = 0; i < 300; i++) { lent.kv.set('k', 'x'.repeat(i)); lent.kv.set('k', ''); lent.kv.delete('k'); lent.kv.delete('k') } let n = 0; try { for (; n < 10; n++) lent.kv.set('k' + n, 'x'.repeat(400)) } catch {} n > 2 ? 'ESC:' + n : 'no'",
    control: { lend: { kv: {} } },
  },
  {
    id: 'call-count',
    technique: 'uses over their number, also by refused ones in between',
    lend: { random: { calls: 5 } },
    source:
      "let n = 0; for (let i = 0; i < 40; i++) try { lent.random(i % 2 ? -1 : 1); n++ } catch {} n > 5 ? 'ESC:' + n : 'no'",
    control: { lend: { random: {} } },
  },
  {
    id: 'log-flood',
    technique: 'lines until the host is full',
    lend: { log: { calls: 1_000_000, bytes: 268_435_456 } },
    limits: { messages: 200 },
    source: "for (let i = 0; i < 3000; i++) lent.log('x'.repeat(50)); 'ESC:flooded'",
    control: { limits: { messages: 5_000 } },
  },
  {
    id: 'log-feeds',
    technique: 'one line of very many lines',
    lend: { log: { lineBytes: 30_000 } },
    limits: { messages: 200 },
    source: "for (let i = 0; i < 4; i++) lent.log('\\n'.repeat(1000)); 'ESC:flooded'",
    control: { limits: { messages: 10_000 } },
  },
  {
    id: 'huge-line',
    technique: 'a line of a quarter of a gigabyte',
    lend: { log: {} },
    source: "try { lent.log('x'.repeat(2 ** 28)); 'ESC:taken' } catch { 'no' }",
    bounded: true,
  },
  {
    id: 'huge-buffers',
    technique: 'buffers that cross in a loop',
    lend: { kernels: { bytes: 1_000_000_000 } },
    source: 'for (;;) try { lent.kernels.run(new ArrayBuffer(1 << 24), new ArrayBuffer(1 << 24)) } catch {}',
    bounded: true,
  },
  {
    id: 'deep-json',
    technique: 'JSON as deep as the stack, out of kv',
    lend: { kv: {} },
    source:
      "const deep = '['.repeat(30000); lent.kv.set('k', deep); try { JSON.parse(lent.kv.get('k') + ']'.repeat(30000)) } catch {} const o = []; let at = o; for (let i = 0; i < 1e6; i++) at = at[0] = []; try { JSON.stringify(o) } catch {} try { lent.log(o) } catch {} 'no'",
    bounded: true,
  },
  {
    id: 'stack-end',
    technique: 'the bridge crossed where the stack ends',
    lend: { kv: { totalBytes: 4_096 }, random: { calls: 100_000 } },
    source:
      "let n = 0; const dive = () => { try { dive() } catch {} try { n++; lent.kv.set('k' + (n % 7), 'x'.repeat(n % 300)); lent.random(n % 5) } catch {} }; try { dive() } catch {} let bytes = 0; for (const k of lent.kv.list()) bytes += k.length + lent.kv.get(k).length; bytes > 4096 ? 'ESC:' + bytes : 'no'",
    bounded: true,
  },
  {
    id: 'loop-after-lent',
    technique: 'work that goes on after an await of what is lent',
    lend: { clock: {} },
    source: "(async () => { await lent.clock(); for (;;); })(); 'no'",
    bounded: true,
  },
  {
    id: 'endless-jobs',
    technique: 'jobs that use what is lent and queue themselves again',
    lend: { clock: {} },
    source:
      "const again = () => { try { lent.clock() } catch {} return Promise.resolve().then(again) }; again(); again(); 'no'",
    bounded: true,
  },
  {
    id: 'never-settles',
    technique: 'a promise that never settles, behind a thenable',
    source: '({ then(resolve) { resolve(new Promise(() => {})) } })',
    bounded: true,
  },
  {
    id: 'thrown-proxy',
    technique: 'a thrown error whose traps never return',
    source: "throw new Proxy(new Error('x'), { get() { for (;;); }, getPrototypeOf() { for (;;); } })",
    bounded: true,
  },
  {
    id: 'thrown-getters',
    technique: 'a thrown error whose name, message and stack are code',
    source:
      "const e = new Error('x'); for (const k of ['name', 'message', 'stack', 'cause']) Object.defineProperty(e, k, { get() { for (;;); } }); throw e",
    bounded: true,
  },
  {
    id: 'bigint-after-lent',
    technique: 'BigInt arithmetic that no timeout interrupts, started from a job',
    lend: { clock: {} },
    source: '(async () => { await lent.clock(); let x = 2n ** 1000000n; for (let k = 0; k < 30; k++) x = x * x; })()',
    bounded: true,
  },
  {
    id: 'regexp-state',
    technique: 'what the bridge matched last, in the statics of RegExp',
    lend: { log: {}, kv: {} },
    source:
      "/a/.exec('a'); lent.kv.set('secret', 'value'); lent.log('line'); RegExp.input !== 'a' || RegExp.lastMatch !== 'a' ? 'ESC:' + RegExp.input : 'no'",
  },
];
