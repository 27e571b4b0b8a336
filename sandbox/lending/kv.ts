/**
 * The capability `kv`: a small store of strings, one for each owner.
 * @module
 */
import { type Capability, type Crossing, Refusal, textOf } from './capability.ts';

/** Keys and values of the call's owner. Others' are not there. */
export const KV: Capability<'entries' | 'keyBytes' | 'valueBytes' | 'totalBytes'> = {
  name: 'kv',
  sees: '{ get(key: string): string | undefined; set(key: string, value: string): void; delete(key: string): boolean; list(prefix?: string): string[] }',
  does: 'Reads and writes strings that outlive the call: writes are kept, all together, when the call ends well.',
  records: 'nothing more',
  options: {
    calls: { default: 10_000, least: 0, most: 100_000_000 },
    bytes: { default: 16_777_216, least: 0, most: 4_294_967_296 },
    entries: { default: 1_024, least: 0, most: 65_536 },
    keyBytes: { default: 256, least: 1, most: 4_096 },
    valueBytes: { default: 65_536, least: 0, most: 1_048_576 },
    totalBytes: { default: 1_048_576, least: 0, most: 16_777_216 },
  },
  guest: `use => ({
    __proto__: null,
    get: key => { const found = use('get', key); return found === '' ? undefined : found.slice(1); },
    set: (key, value) => { use('set', key, value); },
    delete: key => use('delete', key) === '1',
    list: (prefix = '') => JSON.parse(use('list', prefix)),
  })`,
  open(limits, { entries }, spend) {
    const key = (given: Crossing | undefined): string => {
      const text = textOf(given, 'the key');
      if (Buffer.byteLength(text) > limits.keyBytes)
        throw new Refusal('limit', `a key is over keyBytes (${limits.keyBytes})`);
      return text;
    };
    let total = sizeOf(entries);
    return {
      get(given) {
        const value = entries.get(key(given));
        if (value === undefined) return '';
        spend(Buffer.byteLength(value));
        return `=${value}`;
      },
      set(given, text) {
        const name = key(given);
        const value = textOf(text, 'the value');
        const bytes = Buffer.byteLength(value);
        if (bytes > limits.valueBytes) throw new Refusal('limit', `a value is over valueBytes (${limits.valueBytes})`);
        const before = entries.get(name);
        const after = total + bytes - (before === undefined ? -Buffer.byteLength(name) : Buffer.byteLength(before));
        if (after > limits.totalBytes)
          throw new Refusal('limit', `the values are over totalBytes (${limits.totalBytes})`);
        if (before === undefined && entries.size >= limits.entries) {
          throw new Refusal('limit', `the keys are over entries (${limits.entries})`);
        }
        entries.set(name, value);
        total = after;
        return '';
      },
      delete(given) {
        const name = key(given);
        const value = entries.get(name);
        if (value === undefined) return '0';
        entries.delete(name);
        total -= Buffer.byteLength(name) + Buffer.byteLength(value);
        return '1';
      },
      list(given) {
        const prefix = textOf(given, 'the prefix');
        const found = JSON.stringify([...entries.keys()].filter(name => name.startsWith(prefix)).sort());
        spend(Buffer.byteLength(found));
        return found;
      },
    };
  },
};

/** Bytes of all keys and values, in UTF-8. */
export function sizeOf(entries: ReadonlyMap<string, string>): number {
  let bytes = 0;
  for (const [key, value] of entries) bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  return bytes;
}
