/**
 * The capability `wasm`: WebAssembly with memory that is counted.
 * @module
 */
import { bytesOf, type Capability, Refusal, wholeNumber } from './capability.ts';
import { checkModule } from './wasm-module.ts';

const PAGE_BYTES = 65_536;
/** Each memory takes gigabytes of address space, whatever its size. */
const MAX_MEMORIES = 16;

/**
 * WebAssembly, cut down to what can be counted: modules are compiled at once, from bytes that the host has read, and import their
 * memories, which all have a maximum. There is nothing shared, streamed or of 64 bits, and there are no exceptions.
 */
export const WASM: Capability<'memoryMb' | 'moduleBytes' | 'instances' | 'tableElements'> = {
  name: 'wasm',
  sees: 'globalThis.WebAssembly: { Module, Instance, Memory, Table, Global, CompileError, LinkError, RuntimeError }',
  does: 'Compiles and runs modules that import their memory. The maxima of all memories together are at most `memoryMb`.',
  records: 'nothing more',
  options: {
    calls: { default: 1_000, least: 0, most: 1_000_000 },
    bytes: { default: 16_777_216, least: 0, most: 1_073_741_824 },
    memoryMb: { default: 16, least: 1, most: 4_096 },
    moduleBytes: { default: 4_194_304, least: 8, most: 67_108_864 },
    instances: { default: 64, least: 0, most: 4_096 },
    tableElements: { default: 100_000, least: 0, most: 10_000_000 },
  },
  guest: `(use, wasm) => {
    const { Module, Instance, Memory, Table, Global, CompileError, LinkError, RuntimeError } = wasm;
    const bare = (name, native, make, length) => {
      defineProperty(make, 'name', { value: name });
      defineProperty(make, 'length', { value: length });
      for (const key of ownKeys(native.prototype)) if (!KEPT.has(key)) deleteProperty(native.prototype, key);
      defineProperty(native.prototype, 'constructor', { value: make });
      make.prototype = native.prototype;
      return make;
    };
    const KEPT = new Set(['buffer', 'grow', 'length', 'get', 'set', 'exports', 'value', 'valueOf', Symbol.toStringTag]);
    const called = target => { if (target === undefined) throw new TypeError("expected 'new'"); };
    const count = (value, what) => {
      if (typeof value !== 'number') throw new TypeError('expected ' + what + ' as a number');
      return value;
    };
    const kept = {
      __proto__: null,
      Module: bare('Module', Module, function (bytes) {
        called(new.target);
        const own = copyBytes(bytes);
        use('module', own);
        return new Module(own);
      }, 1),
      Instance: bare('Instance', Instance, function (module, imports) {
        called(new.target);
        use('instance');
        return new Instance(module, imports);
      }, 1),
      Memory: bare('Memory', Memory, function (type) {
        called(new.target);
        const { initial, maximum } = type;
        const pages = Number(use('memory', count(initial, 'initial'), maximum === undefined ? '' : count(maximum, 'maximum')));
        return new Memory({ __proto__: null, initial, maximum: pages });
      }, 1),
      Table: bare('Table', Table, function (type, ...fill) {
        called(new.target);
        const { element, initial, maximum = initial } = type;
        if (element !== 'anyfunc' && element !== 'externref') throw new TypeError('expected anyfunc or externref');
        use('table', count(initial, 'initial'), count(maximum, 'maximum'));
        return construct(Table, [{ __proto__: null, element, initial, maximum }, ...fill]);
      }, 1),
      Global: bare('Global', Global, function (type, ...fill) {
        called(new.target);
        return construct(Global, [type, ...fill]);
      }, 1),
      CompileError, LinkError, RuntimeError,
      [Symbol.toStringTag]: 'WebAssembly',
    };
    defineProperty(globalThis, 'WebAssembly', { value: kept });
    return kept;
  }`,
  open({ memoryMb, moduleBytes, instances, tableElements }, host) {
    const caps = { pages: Math.floor((Math.min(memoryMb, host.memoryMb) * 1_048_576) / PAGE_BYTES), tableElements };
    let pagesLeft = caps.pages;
    let elementsLeft = tableElements;
    let instancesLeft = instances;
    let memories = 0;
    return {
      module(given) {
        const bytes = bytesOf(given, 'the module');
        if (bytes.length > moduleBytes) {
          throw new Refusal('limit', `a module of ${bytes.length} bytes is over moduleBytes (${moduleBytes})`);
        }
        checkModule(bytes, caps);
        return '';
      },
      instance() {
        if (instancesLeft === 0) throw new Refusal('limit', `the instances are over instances (${instances})`);
        instancesLeft--;
        return '';
      },
      memory(least, most) {
        const initial = wholeNumber(least, 'initial');
        const maximum = most === '' ? Math.max(initial, pagesLeft) : wholeNumber(most, 'maximum');
        if (initial > maximum) throw new Refusal('form', 'expected maximum to be at least initial');
        if (maximum > pagesLeft) throw new Refusal('limit', `the memories are over memoryMb (${memoryMb})`);
        if (memories >= MAX_MEMORIES) throw new Refusal('limit', `there are ${MAX_MEMORIES} memories already`);
        memories++;
        pagesLeft -= maximum;
        return String(maximum);
      },
      table(least, most) {
        const initial = wholeNumber(least, 'initial');
        const maximum = wholeNumber(most, 'maximum');
        if (initial > maximum) throw new Refusal('form', 'expected maximum to be at least initial');
        if (maximum > elementsLeft) throw new Refusal('limit', `the tables are over tableElements (${tableElements})`);
        elementsLeft -= maximum;
        return '';
      },
    };
  },
};
