/**
 * The reader of WebAssembly modules in front of the compiler: what it lets pass makes no memory of its own, and imports none without
 * a maximum; what it does not understand is refused.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Refusal } from '../../sandbox/lending/capability.ts';
import { checkModule } from '../../sandbox/lending/wasm-module.ts';

const CAPS = { pages: 16, tableElements: 100 };
const HEAD = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

/** LEB128 with as many bytes more than needed as still fit. */
function leb(value: number, padding = 0): number[] {
  const bytes: number[] = [];
  let rest = value;
  do {
    bytes.push(rest % 128);
    rest = Math.floor(rest / 128);
  } while (rest > 0);
  while (bytes.length < 5 && padding-- > 0) bytes.push(0);
  return bytes.map((byte, i) => (i < bytes.length - 1 ? byte | 0x80 : byte));
}

const section = (id: number, content: readonly number[], padding = 0): number[] => [
  id,
  ...leb(content.length, padding),
  ...content,
];
const imported = (kind: readonly number[]): number[] => section(2, [1, 1, 97, 1, 98, ...kind]);
const verdict = (bytes: readonly number[]): string => {
  try {
    return `elements ${checkModule(Uint8Array.from(bytes), CAPS)}`;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.kind;
  }
};
// The types of this project know no WebAssembly: the engine has it all the same.
const engine = (globalThis as unknown as { WebAssembly: { validate(bytes: Uint8Array): boolean } }).WebAssembly;
const compiles = (bytes: readonly number[]): boolean => engine.validate(Uint8Array.from(bytes));

describe('a module', () => {
  it.each([
    ['without sections', [], 'elements 0'],
    ['that imports a memory under the cap', imported([2, 1, 1, 16]), 'elements 0'],
    ['that imports a memory over the cap', imported([2, 1, 1, 17]), 'limit'],
    ['that imports a memory without a maximum', imported([2, 0, 1]), 'form'],
    ['that imports a shared memory', imported([2, 3, 1, 2]), 'form'],
    ['that imports a memory of 64 bits', imported([2, 5, 1, 2]), 'form'],
    ['that makes a memory', section(5, [1, 1, 1, 1]), 'form'],
    ['that says it makes none', section(5, [0]), 'form'],
    ['that makes a table', section(4, [1, 0x70, 1, 10, 40]), 'elements 40'],
    ['that makes two tables over the cap', section(4, [2, 0x70, 1, 10, 60, 0x6f, 1, 10, 60]), 'limit'],
    ['that makes a table without a maximum', section(4, [1, 0x70, 0, 10]), 'form'],
    [
      'that imports and makes tables over the cap',
      [...imported([1, 0x70, 1, 1, 60]), ...section(4, [1, 0x70, 1, 1, 60])],
      'limit',
    ],
    ['that imports a global', imported([3, 0x7f, 0]), 'elements 0'],
    ['that imports a tag', imported([4, 0, 0]), 'form'],
    ['with tags of its own', section(13, [0]), 'form'],
    ['that ends in a section', [5, 100, 1], 'form'],
    ['with bytes behind its imports', section(2, [0, 0]), 'form'],
    ['with a number of 36 bits', [0, 0xff, 0xff, 0xff, 0xff, 0x1f], 'form'],
  ])('%s', (_, sections, expected) => {
    expect(verdict([...HEAD, ...sections])).toBe(expected);
  });

  it('of another version, or none at all, is refused', () => {
    for (const bytes of [[], HEAD.slice(0, 7), [0, 0x61, 0x73, 0x6d, 2, 0, 0, 0], [0x7f, 0x45, 0x4c, 0x46]])
      expect(verdict(bytes)).toBe('form');
  });
});

describe('whatever stands around it', () => {
  const custom = fc
    .uint8Array({ maxLength: 20 })
    .chain(bytes => fc.nat(4).map(padding => section(0, [1, 97, ...bytes], padding)));

  it('a memory is found where the engine finds it', () => {
    const memory = fc
      .tuple(fc.nat(16), fc.nat(4))
      .map(([pages, padding]) => section(5, [1, 0, ...leb(pages, padding)], padding));
    let compiled = 0;
    fc.assert(
      fc.property(
        fc.array(custom, { maxLength: 4 }),
        memory,
        fc.array(custom, { maxLength: 4 }),
        (before, own, after) => {
          const bytes = [...HEAD, ...before.flat(), ...own, ...after.flat()];
          if (compiles(bytes)) compiled++;
          expect(verdict(bytes)).toBe('form');
        },
      ),
    );
    expect(compiled).toBeGreaterThan(50);
  });

  it('a maximum is read as the engine reads it', () => {
    const padded = fc.tuple(fc.nat(40), fc.nat(4));
    fc.assert(
      fc.property(fc.array(custom, { maxLength: 3 }), padded, padded, (before, [least, a], [more, b]) => {
        const most = least + more;
        const bytes = [...HEAD, ...before.flat(), ...imported([2, 1, ...leb(least, a), ...leb(most, b)])];
        expect(compiles(bytes)).toBe(true);
        expect(verdict(bytes)).toBe(most > CAPS.pages ? 'limit' : 'elements 0');
      }),
    );
  });
});

it('any bytes are refused or counted, and throw nothing else', () => {
  const some = fc.uint8Array({ maxLength: 64 }).map(bytes => [...HEAD, ...bytes]);
  const whole = [...HEAD, ...imported([2, 1, 1, 16]), ...section(4, [1, 0x70, 1, 10, 40])];
  const broken = fc
    .tuple(fc.nat(whole.length - 1), fc.nat(255))
    .map(([at, byte]) => whole.map((old, i) => (i === at ? byte : old)));
  fc.assert(
    fc.property(fc.oneof(some, broken), bytes => {
      expect(verdict(bytes)).toMatch(/^(form|limit|elements \d+)$/);
    }),
  );
});
