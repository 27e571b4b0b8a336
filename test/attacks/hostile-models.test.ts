/**
 * Model files that are broken, or lie: each is a typed error, and the sandbox goes on.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSandbox, type Sandbox, type SandboxedModel } from '../../sandbox/index.ts';
import { CloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel, slowModel } from '../sandbox/tiny-model.ts';

const ABOUT_THE_FILE = [
  'INVALID_MODEL',
  'MODEL_TOO_LARGE',
  'UNSUPPORTED_MODEL',
  'INVALID_GRAPH',
  'SHAPE_MISMATCH',
  'DTYPE_MISMATCH',
];
const ABOUT_THE_WORK = ['OUT_OF_MEMORY', 'LIMIT_EXCEEDED', 'INVALID_ARGUMENT'];

/** Loads the file, and runs it if it still loads. Anything but a refusal by one of our codes fails the test. */
async function survive(sandbox: Sandbox, bytes: Uint8Array): Promise<string> {
  try {
    await using model = await sandbox.load(bytes, { limits: { wallMs: 5_000, memoryMb: 128 } });
    const inputs = model.summary.inputs.map(({ name, dtype, shape }) => {
      const sizes = shape.map(dim => (typeof dim === 'number' ? dim : 1));
      if (sizes.reduce((a, b) => a * b, 1) > 1e6)
        throw new CloisterError('OUT_OF_MEMORY', 'a test does not feed so much');
      return [name, Tensor.zeros(dtype, sizes)] as const;
    });
    await model.run(Object.fromEntries(inputs));
    return 'ran';
  } catch (error) {
    expect(error).toBeInstanceOf(CloisterError);
    const { code, message } = error as CloisterError;
    expect([...ABOUT_THE_FILE, ...ABOUT_THE_WORK], `${code}: ${message}`).toContain(code);
    return code;
  }
}

describe.each(['isolate', 'process'] as const)('under isolation %s', isolation => {
  const runs = isolation === 'isolate' ? 60 : 6;
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ isolation, warm: 1 });
  });
  afterAll(async () => {
    await using good = await sandbox.load(affineModel());
    const { y } = await good.run({ x: Tensor.of('f32', [[1, 1, 1]]) });
    expect(y!.toArray()).toEqual([[9.5, 0]]);
    await sandbox.close();
  });

  it('a file cut anywhere is refused', async () => {
    const good = affineModel();
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: good.length - 1 }), async length => {
        expect(ABOUT_THE_FILE).toContain(await survive(sandbox, good.slice(0, length)));
      }),
      { numRuns: runs },
    );
  });

  it('a file with flipped bits is refused, or is another model', async () => {
    const good = affineModel();
    const flips = fc.array(fc.nat(good.length * 8 - 1), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(flips, async bits => {
        const bytes = good.slice();
        for (const bit of bits) bytes[bit >> 3]! ^= 1 << (bit & 7);
        await survive(sandbox, bytes);
      }),
      { numRuns: runs },
    );
  });

  it('any bytes are refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 400 }), async bytes => {
        await survive(sandbox, bytes);
      }),
      { numRuns: runs },
    );
  });

  it.each([30_000, 1_000_000])('a few bytes that ask for matrices of %i squared cost nothing', async size => {
    const outcome = await sandbox.load(slowModel(size, 2)).catch((cause: unknown) => cause);
    if (outcome instanceof CloisterError) {
      expect([...ABOUT_THE_FILE, ...ABOUT_THE_WORK]).toContain(outcome.code);
      return;
    }
    // The reference backend plans no arena: nothing is held until somebody brings such a matrix.
    await using model = outcome as SandboxedModel;
    expect(model.backend).toBe('reference');
    expect(model.memory.permanentBytes + model.memory.temporaryBytes + model.memory.scratchBytes).toBe(0);
  });
});

const corpus = process.env['CLOISTER_CORPUS'] ?? '';
const mnist = join(corpus, 'models/mnist-8/model.onnx');

describe.skipIf(!existsSync(mnist))('a real model', () => {
  it('that was damaged is refused, or is another model', async () => {
    await using sandbox = await openSandbox({ isolation: 'isolate' });
    const good = readFileSync(mnist);
    const outcomes = new Set<string>();
    let seed = 12_345;
    for (let i = 0; i < 60; i++) {
      const bytes = new Uint8Array(good);
      for (let k = 0; k < 3; k++) {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        // Three of four in the structure, not in the weights: they hit the reader.
        const at = seed % (k === 0 ? bytes.length : 2_500);
        bytes[at]! ^= 1 << (seed >>> 29);
      }
      outcomes.add(await survive(sandbox, i % 4 === 3 ? bytes.subarray(0, seed % bytes.length) : bytes));
    }
    expect(outcomes).toContain('INVALID_MODEL');
  });
});
