import { inspect } from 'node:util';
import { serialize } from 'node:v8';
import { describe, expect, it } from 'vitest';

import { histogram } from '../../privacy/dp/index.ts';
import { Private, takePrivate } from '../../privacy/dp/private.ts';

describe('private values', () => {
  const secret = 271828182;
  const open = (): Private<readonly number[]> => new Private<readonly number[]>([secret]);
  const tally = () => {
    const statistic = histogram({ of: 'argmax', classes: 1 });
    const counts = statistic.start();
    for (let i = 0; i < 4242; i++) statistic.accumulate(counts, `subject ${i}`, [1]);
    return counts;
  };

  it('refuse to become JSON, a string, a number or a key', () => {
    const held = open();
    for (const attempt of [
      () => JSON.stringify(held),
      () => JSON.stringify({ deep: [{ held }] }),
      () => String(held),
      () => `${held}`,
      () => held.toString(),
      () => `the answer is ${held as unknown as string}`,
      () => 1 + (held as unknown as number),
      () => Number(held),
      () => new Error(held as unknown as string),
      () => ({})[held as unknown as string],
      () => [held].join(),
    ]) {
      expect(attempt).toThrow(expect.objectContaining({ code: 'POLICY_REFUSED' }));
    }
  });

  it('show nothing to a console, a clone, or whoever looks at their properties', () => {
    for (const [held, text] of [
      [open(), String(secret)],
      [tally(), '4242'],
    ] as const) {
      const shown = [
        inspect(held, { depth: 9, showHidden: true, getters: true, customInspect: true }),
        inspect(held, { depth: 9, showHidden: true, getters: true, customInspect: false }),
        inspect({ held }, { depth: 9 }),
        inspect(Object.getOwnPropertyDescriptors(held)),
        Reflect.ownKeys(held).join(),
        serialize(structuredClone(held)).toString('latin1'),
        inspect({ ...held }),
        inspect(Object.entries(held)),
      ];
      for (const seen of shown) expect(seen).not.toContain(text);
      expect(JSON.stringify(Object.entries(held))).toBe('[]');
    }
    expect(JSON.stringify(tally())).toBe('{}');
    expect(inspect(open())).toBe('[Private]');
  });

  it('appear in no error', () => {
    const held = open();
    expect(takePrivate(held)).toEqual([secret]);
    for (const value of [held, open()]) {
      let error: unknown;
      try {
        takePrivate(value);
        String(value);
      } catch (caught) {
        error = caught;
      }
      expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(String(secret));
      expect(JSON.stringify(error)).not.toContain(String(secret));
    }
  });

  it('can be read once, and only by what this room does not export', async () => {
    const room = await import('../../privacy/dp/index.ts');
    expect(Object.keys(room)).toContain('laplaceMechanism');
    // holdPrivate puts a value in, and gives none out.
    expect(Object.keys(room).filter(name => /private|tally|sample[A-Z]\w*Of$|contents|take/i.test(name))).toEqual([
      'holdPrivate',
    ]);
    const held = open();
    takePrivate(held);
    expect(() => takePrivate(held)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});
