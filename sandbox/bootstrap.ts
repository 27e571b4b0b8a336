/**
 * The script that runs in a fresh context before any guest code: takes away what escapes the limits, makes the rest
 * deterministic, freezes the intrinsics. It is the first of several walls, not the wall (SECURITY.md).
 * @module
 */

/**
 * The source of the bootstrap. Its value is the engine's WebAssembly, for what is lent alone. After it, a context has:
 * - no WebAssembly, SharedArrayBuffer or Atomics, and no resizable or transferable ArrayBuffer: their memory is not counted
 *   against an isolate's limit;
 * - no FinalizationRegistry or WeakRef: their callbacks run outside any timeout;
 * - no Intl and console: they tell about the machine;
 * - a Date that stands at 0 and a Math.random that starts from the same seed in every context;
 * - intrinsics that guest code cannot change, so that one piece of it cannot lay traps for the next.
 */
export const BOOTSTRAP: string = `'use strict';
(() => {
  const { apply, construct, ownKeys, getOwnPropertyDescriptor, getPrototypeOf, defineProperty, deleteProperty } = Reflect;
  const { freeze } = Object;
  const global = globalThis;
  const wasm = global.WebAssembly;
  for (const name of ['WebAssembly', 'SharedArrayBuffer', 'Atomics', 'FinalizationRegistry', 'WeakRef', 'Intl', 'console', 'escape', 'unescape']) {
    deleteProperty(global, name);
  }

  const NativeBuffer = ArrayBuffer;
  function FixedBuffer(length) {
    if (new.target === undefined) throw new TypeError("Constructor ArrayBuffer requires 'new'");
    return construct(NativeBuffer, [length], new.target);
  }
  replace('ArrayBuffer', NativeBuffer, FixedBuffer, 1);
  FixedBuffer.isView = NativeBuffer.isView;
  defineProperty(FixedBuffer, Symbol.species, { get() { return this; }, configurable: true });
  for (const name of ['resize', 'transfer', 'transferToFixedLength', 'transferToImmutable', 'sliceToImmutable']) {
    deleteProperty(NativeBuffer.prototype, name);
  }

  const NativeDate = Date;
  function StillDate(...given) {
    if (new.target === undefined) return apply(NativeDate.prototype.toString, new NativeDate(0), []);
    return construct(NativeDate, given.length === 0 ? [0] : given, new.target);
  }
  replace('Date', NativeDate, StillDate, 7);
  StillDate.now = { now: () => 0 }.now;
  StillDate.parse = NativeDate.parse;
  StillDate.UTC = NativeDate.UTC;

  let state = 0x9e3779b9;
  Math.random = { random: () => {
    // mulberry32: repeatable, of no cryptographic worth.
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  } }.random;

  const seen = new Set([global]);
  const queue = [
    function* () {}, async function () {}, async function* () {}, new Map()[Symbol.iterator](), new Set()[Symbol.iterator](),
    [][Symbol.iterator](), ''[Symbol.iterator](), ''.matchAll(/(?:)/g), (function* () {})(), (async function* () {})(),
    Iterator.from({ next() {} }), [].values().map(x => x), getPrototypeOf(global),
  ];
  // Every error of a context shares these two, which are reached from nowhere else.
  const stack = getOwnPropertyDescriptor(new Error(), 'stack');
  queue.push(stack.get, stack.set);
  for (const key of ownKeys(global)) {
    const { value } = getOwnPropertyDescriptor(global, key);
    queue.push(value);
  }
  while (queue.length > 0) {
    const item = queue.pop();
    if ((typeof item !== 'object' && typeof item !== 'function') || item === null || seen.has(item)) continue;
    seen.add(item);
    queue.push(getPrototypeOf(item));
    for (const key of ownKeys(item)) {
      const descriptor = getOwnPropertyDescriptor(item, key);
      queue.push(descriptor.value, descriptor.get, descriptor.set);
    }
    freeze(item);
  }
  return wasm;

  function replace(name, native, wrapper, length) {
    defineProperty(wrapper, 'name', { value: name });
    defineProperty(wrapper, 'length', { value: length });
    wrapper.prototype = native.prototype;
    defineProperty(native.prototype, 'constructor', { value: wrapper, writable: true, configurable: true });
    defineProperty(global, name, { value: wrapper, writable: true, enumerable: false, configurable: true });
  }
})();`;
