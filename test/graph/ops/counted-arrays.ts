/**
 * Counts what is asked of the memory: stands before the constructors of arrays, so it has to be imported before whatever uses them.
 * @module
 */

const NAMES = [
  'Float64Array',
  'Float32Array',
  'Int32Array',
  'Uint32Array',
  'Int16Array',
  'Uint16Array',
  'Int8Array',
  'Uint8Array',
  'BigInt64Array',
  'BigUint64Array',
  'Array',
] as const;

let bytes = 0;
let most = Number.POSITIVE_INFINITY;

/** More was asked for than there is. */
export class TooMuch extends Error {}

/** Runs `what` and returns how many bytes of arrays it asked for by their length. Throws {@link TooMuch} in it beyond `limit`. */
export function countArrays(what: () => void, limit: number): number {
  bytes = 0;
  most = limit;
  try {
    what();
  } finally {
    most = Number.POSITIVE_INFINITY;
  }
  return bytes;
}

for (const name of NAMES) {
  const real = globalThis[name] as unknown as typeof Float64Array;
  const width = real.BYTES_PER_ELEMENT ?? 8;
  const count = (length: unknown): void => {
    if (typeof length !== 'number') return;
    bytes += length * width;
    if (bytes > most) throw new TooMuch(`arrays of ${bytes} bytes`);
  };
  const from = (source: { readonly length?: unknown }, ...rest: readonly unknown[]): unknown => {
    count(source.length);
    return Reflect.apply(real.from, real, [source, ...rest]);
  };
  Object.defineProperty(globalThis, name, {
    configurable: true,
    writable: true,
    value: new Proxy(real, {
      construct(target, args: readonly unknown[], made) {
        if (args.length === 1) count(args[0]);
        return Reflect.construct(target, args, made) as object;
      },
      get: (target, key) => (key === 'from' ? from : (Reflect.get(target, key) as unknown)),
    }),
  });
}
