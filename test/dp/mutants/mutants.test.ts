import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { osRandom } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';
import { type Build, buildWith, removeBuilds } from './build.ts';
import { CHECKS, type Check } from './checks.ts';
import { MUTANTS } from './mutants.ts';

const slow = process.env['CLOISTER_SLOW'] === '1';

afterAll(removeBuilds);

describe('seeded bugs', () => {
  it('are at least twenty, all different, and every check is asked by one', () => {
    expect(MUTANTS.length).toBeGreaterThanOrEqual(20);
    expect(new Set(MUTANTS.map(({ patches }) => JSON.stringify(patches))).size).toBe(MUTANTS.length);
    expect(Object.keys(CHECKS).filter(name => !MUTANTS.some(({ caughtBy }) => caughtBy === name))).toEqual([]);
  });

  it.each(MUTANTS.map(mutant => [mutant.name, mutant] as const))('%s: caught', async (_, { patches, caughtBy }) => {
    const room = await buildWith(patches);
    expect(await (CHECKS[caughtBy] as Check)(room, seededRandom(1))).toMatch(/^[a-z]+: /);
  });
});

describe('the mechanisms as they are', () => {
  let room: Build;
  beforeAll(async () => {
    room = await buildWith([]);
  });

  // Every statistical check has a false-alarm rate of some 1e-9, so 100 runs raise one with probability 1e-6.
  const runs = slow ? 100 : 1;
  it.each(Object.entries<Check>(CHECKS))(
    `raise no alarm in ${runs} runs of %s`,
    async (_, check) => {
      for (let run = 0; run < runs; run++) expect(await check(room, osRandom)).toBeUndefined();
    },
    600_000,
  );

  it('hold every text that a mutant replaces', async () => {
    const stale = { file: 'src/base/amounts.ts', find: 'no such text', replace: '' };
    await expect(buildWith([stale])).rejects.toThrow(/no such text/);
  });
});
