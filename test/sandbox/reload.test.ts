/**
 * Another version in the place of a model that serves.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Isolation, openSandbox } from '../../sandbox/index.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel, slowModel } from './tiny-model.ts';

const linux = process.platform === 'linux';
const x = Tensor.of('f32', [[1, 1, 1]]);
const right = [[9.5, 0]];
/** Reloads of the test under load: enough to see a slope, or a few where nobody waits for it. */
const RELOADS = process.env['CLOISTER_SLOW'] ? 100 : 8;

const codeOf = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'answered',
    (error: unknown) => (isCloisterError(error) ? error.code : String(error)),
  );

describe.each<Isolation>(['process', 'isolate', 'none'])('a reload under isolation %s', isolation => {
  it('puts the new version in the place of the old', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 1 });
    await using model = await sandbox.load(affineModel('y'));
    const before = model.digest;
    expect((await model.run({ x }))['y']!.toArray()).toEqual(right);
    await model.reload(affineModel('z'));
    expect(model.summary.outputs.map(({ name }) => name)).toEqual(['z']);
    expect(model.digest).not.toBe(before);
    const outputs = await model.run({ x });
    expect(Object.keys(outputs)).toEqual(['z']);
    expect(outputs['z']!.toArray()).toEqual(right);
    await model.reload(affineModel('y'));
    expect(model.digest).toBe(before);
  });

  it('that fails leaves the old version serving', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 1 });
    await using model = await sandbox.load(affineModel());
    const before = model.digest;
    expect(await codeOf(model.reload(Uint8Array.of(1, 2, 3)))).toBe('INVALID_MODEL');
    expect(await codeOf(model.reload('no bytes' as never))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(model.reload(affineModel('z'), { signal: AbortSignal.abort() }))).toBe('ABORTED');
    expect(model.digest).toBe(before);
    expect((await model.run({ x }))['y']!.toArray()).toEqual(right);
  });

  it('of a closed model is refused, and one that is under way when it is closed', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 1 });
    const model = await sandbox.load(affineModel());
    const reload = codeOf(model.reload(affineModel('z')));
    await model.close();
    expect(await reload).toBe('CLOSED');
    expect(await codeOf(model.reload(affineModel()))).toBe('CLOSED');
  });

  it('leaves what began before to the old version', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 2 });
    await using model = await sandbox.load(slowModel(256, 400));
    const big = Tensor.zeros('f32', [256, 256]);
    const running = [model.run({ x: big }), model.run({ x: big })];
    await model.reload(affineModel('z'));
    const fresh = await model.run({ x });
    expect(Object.keys(fresh)).toEqual(['z']);
    for (const { y } of await Promise.all(running)) expect(y!.shape).toEqual([256, 256]);
  });
});

describe('reloads', () => {
  it('at once are made one after the other, and the last one stays', async () => {
    await using sandbox = await openSandbox({ warm: 1 });
    await using model = await sandbox.load(affineModel('y'));
    const names = ['u', 'v', 'z'];
    await Promise.all(names.map(name => model.reload(affineModel(name))));
    expect(Object.keys(await model.run({ x }))).toEqual(['z']);
  });

  it.skipIf(!linux)(
    'under load fail no request, and leave nothing behind',
    async () => {
      await using sandbox = await openSandbox({ warm: 1 });
      await using model = await sandbox.load(affineModel('y'));
      const children = (): number =>
        readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean).length;
      let going = true;
      let answered = 0;
      const client = async (i: number): Promise<void> => {
        while (going) {
          const outputs = await model.run({ x: Tensor.of('f32', [[i, 1, 1]]) });
          const [output] = Object.values(outputs);
          expect(output!.toArray()).toEqual([[i + 8.5, 0]]);
          answered++;
          await new Promise(resolve => setTimeout(resolve, 1));
        }
      };
      const clients = [1, 2, 3].map(client);
      const rss: number[] = [];
      let open = 0;
      for (let i = 0; i < RELOADS; i++) {
        await model.reload(affineModel(i % 2 === 0 ? 'z' : 'y'));
        if (i === 1) open = readdirSync('/proc/self/fd').length;
        rss.push(process.memoryUsage().rss / 1_048_576);
      }
      going = false;
      await Promise.all(clients);
      expect(answered).toBeGreaterThan(RELOADS);
      await sandbox.settled();
      // One that serves and one that waits; the last of the old ones may still be going.
      await expect.poll(children, { timeout: 10_000 }).toBe(2);
      expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(open + 8);
      if (RELOADS >= 100) {
        const slope = slopeOf(rss.slice(RELOADS / 2));
        console.log(`RSS slope over the last ${RELOADS / 2} reloads: ${(slope * 1_024).toFixed(1)} KiB a reload`);
        expect(slope).toBeLessThan(0.1); // MiB a reload: a kept model or worker would be more
      }
    },
    30_000 + RELOADS * 3_000,
  );
});

/** The slope of the least-squares line through values at 0, 1, 2, … */
function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const rise = values.reduce((sum, value, i) => sum + (i - middle) * (value - mean), 0);
  return rise / values.reduce((sum, _, i) => sum + (i - middle) ** 2, 0);
}
