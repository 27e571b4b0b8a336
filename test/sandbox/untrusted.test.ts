/**
 * Answers of a guest that lies: refused by code, whatever they are.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HostedModel, type HostOptions, NeedsFiles } from '../../sandbox/hosted-model.ts';
import { Guest, type GuestAnswer } from '../../sandbox/isolate.ts';
import { loadKernels } from '../../sandbox/kernels.ts';
import { addFiles, aloneModel } from '../../sandbox/model-files.ts';
import { joinParts, packTensors, unpackTensors } from '../../sandbox/tensors.ts';
import { guestError, isSafeName, parseOptimisation, parseProfile, parseReport } from '../../sandbox/untrusted.ts';
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import { DTYPES, type DType, Tensor } from '../../src/tensor/index.ts';
import { affineModel } from './tiny-model.ts';

/** A model whose weights are all in its file. */
async function openAlone(options: HostOptions): Promise<HostedModel> {
  const opened = await HostedModel.open(options);
  if (opened instanceof NeedsFiles) throw new Error('it asks for files');
  return opened;
}

const dtype = fc.constantFrom(...(Object.keys(DTYPES) as DType[]));
const shape = fc.array(fc.nat(4), { maxLength: 4 });

describe('tensors across a border', () => {
  it('come out as they went in', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string().filter(isSafeName), fc.tuple(dtype, shape), { maxKeys: 4 }), described => {
        const tensors = Object.fromEntries(
          Object.entries(described).map(([name, [type, dims]]) => {
            const tensor = Tensor.zeros(type, dims);
            const bytes = tensor.toBytes();
            if (type === 'string') return [name, Tensor.of('string', ['', 'é', 'a\u0000b'])];
            bytes.forEach((_, i) => {
              bytes[i] = type === 'bool' ? i & 1 : (i * 7 + 1) & 255;
            });
            return [name, Tensor.fromBytes(type, dims, bytes)];
          }),
        ) as Record<string, Tensor>;
        const packed = packTensors(tensors);
        const seen = unpackTensors(JSON.parse(JSON.stringify(packed.heads)), joinParts(packed));
        expect(Object.keys(seen)).toEqual(Object.keys(tensors));
        for (const [name, tensor] of Object.entries(tensors)) {
          expect(seen[name]).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
          expect(seen[name]!.toBytes()).toEqual(tensor.toBytes());
        }
      }),
    );
  });

  it.each([
    ['no list', { x: 1 }, 0],
    ['a negative size', [{ name: 'y', dtype: 'f32', shape: [-1] }], 0],
    ['a broken size', [{ name: 'y', dtype: 'f32', shape: [1.5] }], 8],
    ['sizes whose product overflows', [{ name: 'y', dtype: 'f32', shape: [2 ** 31, 2 ** 31] }], 8],
    ['sizes whose product is not a number', [{ name: 'y', dtype: 'f32', shape: [0, 2 ** 52, 2 ** 52, 2 ** 52] }], 8],
    ['a size as text', [{ name: 'y', dtype: 'f32', shape: ['4'] }], 16],
    ['a shape that is none', [{ name: 'y', dtype: 'f32', shape: { length: 1, 0: 1 } }], 4],
    ['too few bytes', [{ name: 'y', dtype: 'f32', shape: [2] }], 4],
    ['bytes left over', [{ name: 'y', dtype: 'f32', shape: [1] }], 8],
    ['a dtype from the prototype', [{ name: 'y', dtype: 'toString', shape: [] }], 4],
    ['a name twice', Array(2).fill({ name: 'y', dtype: 'u8', shape: [0] }), 0],
    ['a name that no record takes', [{ name: '__proto__', dtype: 'u8', shape: [0] }], 0],
    ['many dimensions', [{ name: 'y', dtype: 'u8', shape: Array(17).fill(1) }], 1],
  ])('with %s are refused', (_, heads, bytes) => {
    expect(() => unpackTensors(heads, new Uint8Array(bytes))).toThrow(CloisterError);
  });

  it('with a boolean of 2 are refused', () => {
    const heads = [{ name: 'y', dtype: 'bool', shape: [2] }];
    expect(() => unpackTensors(heads, Uint8Array.of(1, 2))).toThrow(CloisterError);
    expect(unpackTensors(heads, Uint8Array.of(1, 0))['y']!.values()).toEqual([1, 0]);
  });
});

describe('what a guest says of itself', () => {
  it('is a report or a typed error, whatever it is', () => {
    const summary = fc.record(
      {
        name: fc.anything(),
        bytes: fc.anything(),
        inputs: fc.array(fc.record({ name: fc.string(), dtype: fc.string(), shape: fc.array(fc.anything()) })),
        outputs: fc.anything(),
        operators: fc.array(fc.anything()),
        nodes: fc.anything(),
        outline: fc.anything(),
      },
      { requiredKeys: [] },
    );
    const report = fc.record({ summary, backend: fc.constantFrom('native', 'reference', 'x'), why: fc.string() });
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), report, fc.anything()), value => {
        try {
          parseReport(value);
        } catch (error) {
          expect(isCloisterError(error, 'GUEST_FAILED')).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('as an error carries only codes that a guest may report, and no control characters', () => {
    fc.assert(
      fc.property(fc.string(), fc.string({ unit: 'binary' }), (code, message) => {
        const error = guestError({ code, message });
        expect(error.message).not.toMatch(/[\p{Cc}--\n]|\p{Bidi_Control}/v);
        expect(error.code).toBe('GUEST_FAILED');
      }),
    );
    for (const code of ['AUDIT_INVALID', 'POLICY_REFUSED', 'STORE_FAILED', 'ABORTED', 'WORKER_CRASHED']) {
      expect(guestError({ code, message: 'x' }).code).toBe('GUEST_FAILED');
    }
    expect(guestError({ code: 'INVALID_MODEL', message: 'x', detail: { at: 'x'.repeat(20_000) } })).toMatchObject({
      code: 'INVALID_MODEL',
      detail: {},
    });
  });
});

describe.skipIf(loadKernels().host === undefined)('a program of a hostile guest', () => {
  const model = affineModel();

  /** Opens the model with a real guest whose plan is tampered with on its way. */
  async function open(tamper: (answer: GuestAnswer) => GuestAnswer): Promise<unknown> {
    const guest = Guest.open({ memoryMb: 64 });
    guest.lend(model);
    const call = (op: string, header: object, payload?: Uint8Array): GuestAnswer => {
      const answer = guest.callSync(op, header, payload, 5_000);
      return op === 'plan' ? tamper(answer) : answer;
    };
    try {
      const hosted = await openAlone({ call, kernels: loadKernels(), model, limitBytes: 1 << 26 });
      const { y } = await hosted.run({ x: Tensor.of('f32', [[1, 1, 1]]) }, 1_024);
      hosted.close();
      return y!.toArray();
    } catch (error) {
      return error;
    } finally {
      guest.close();
    }
  }

  it('is asked for once where many runs meet new sizes at once, and not kept past the end of its model', async () => {
    const guest = Guest.open({ memoryMb: 64 });
    guest.lend(model);
    let plans = 0;
    const call = (op: string, header: object, payload?: Uint8Array): GuestAnswer => {
      if (op === 'plan') plans++;
      return guest.callSync(op, header, payload, 5_000);
    };
    let open = 0;
    const { host, why } = loadKernels();
    const counting: NonNullable<typeof host> = {
      info: host!.info,
      load(...given) {
        const program = host!.load(...given);
        open++;
        return {
          ...program,
          memory: program.memory,
          close: () => {
            open--;
            program.close();
          },
        };
      },
    };
    const hosted = await openAlone({ call, kernels: { host: counting, why }, model, limitBytes: 1 << 26 });
    const before = plans;
    const batch = (n: number) => hosted.run({ x: Tensor.zeros('f32', [n, 3]) }, 1 << 20);
    await Promise.all(Array.from({ length: 300 }, (_, i) => batch(2 + (i % 3))));
    expect(plans - before).toBe(3);
    expect(open).toBe(4);
    const late = Promise.resolve(batch(9)).catch((error: unknown) => error);
    hosted.close();
    expect(await late).toMatchObject({ code: 'CLOSED' });
    expect(open).toBe(0);
    guest.close();
  });

  it('that nobody touched runs (the control of those below)', async () => {
    expect(await open(answer => answer)).toEqual([[9.5, 0]]);
  });

  it('is verified before it runs: no byte of it can be trusted', async () => {
    let caught = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const result = await open(({ header, payload }) => {
          const program = payload.slice();
          program[at % program.length]! ^= bits;
          return { header, payload: program };
        });
        if (result instanceof CloisterError) caught++;
        else expect(Array.isArray(result)).toBe(true); // another program that is as valid
      }),
      { numRuns: 150 },
    );
    expect(caught).toBeGreaterThan(50);
  });

  it.each<[string, (header: Record<string, unknown>) => object]>([
    [
      'ports that are smaller than the program writes',
      header => ({ ...header, outputs: [{ name: 'y', dtype: 'f32', shape: [1, 1] }] }),
    ],
    ['ports that are larger', header => ({ ...header, outputs: [{ name: 'y', dtype: 'f32', shape: [1, 4] }] })],
    ['ports of other names', header => ({ ...header, outputs: [{ name: 'z', dtype: 'f32', shape: [1, 2] }] })],
    ['no ports', header => ({ ...header, inputs: [] })],
    ['a port twice', header => ({ ...header, inputs: [header['inputs'], header['inputs']].flat() })],
    ['ports that are none', header => ({ ...header, inputs: [null] })],
  ])('with %s is refused', async (_, lie) => {
    const result = await open(({ header, payload }) => ({ header: lie(header) as GuestAnswer['header'], payload }));
    expect(isCloisterError(result, 'GUEST_FAILED'), String(result)).toBe(true);
  });
});

describe('files that a guest asks for', () => {
  const model = aloneModel(affineModel());
  const open = () => new Uint8Array(8);

  it.each([
    ['no list', 'w.bin'],
    ['nothing', []],
    ['something else than text', [7]],
    ['a path out of the folder', ['../w.bin']],
    ['a path from the root', ['/etc/passwd']],
    ['a path with a null', ['a\u0000b']],
    ['half a character', ['\ud800']],
    ['one file twice', ['w.bin', 'w.bin']],
    ['too many', Array.from({ length: 2_000 }, (_, i) => `${i}`)],
  ])('are not opened where it asks for %s', async (_, asked) => {
    const opened: string[] = [];
    const opener = (location: string) => {
      opened.push(location);
      return open();
    };
    const error = await addFiles(model, asked, opener, 1 << 20).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'GUEST_FAILED' });
    expect(opened.every(location => location === 'w.bin')).toBe(true);
  });

  it('are asked for once: a guest that has them and asks again is not heard', async () => {
    const files = await addFiles(model, ['w.bin'], open, 1 << 20);
    expect(files.files).toEqual([{ location: 'w.bin', offset: model.modelBytes, size: 8 }]);
    await expect(addFiles(files, ['other.bin'], open, 1 << 20)).rejects.toMatchObject({ code: 'GUEST_FAILED' });
  });
});

describe('what a guest measured', () => {
  it('is a profile or a typed error, whatever it is', () => {
    const node = { name: 'n', op: 'Add', outputs: 'f32[1]', startMs: 0, lastMs: 1, totalMs: 2 };
    const good = { runs: 2, totalMs: 3, nodes: [node], operators: [{ op: 'Add', nodes: 1, totalMs: 2 }] };
    expect(parseProfile(good, 2)).toEqual(good);
    for (const bad of [
      { ...good, runs: 3 },
      { ...good, totalMs: -1 },
      { ...good, totalMs: null },
      { ...good, nodes: [{ ...node, name: '\u001b[2J' }] },
      { ...good, nodes: [{ ...node, lastMs: 1e12 }] },
      { ...good, nodes: 'none' },
      { ...good, operators: [{ op: 'Add', nodes: 0.5, totalMs: 2 }] },
      null,
    ]) {
      expect(() => parseProfile(bad, 2)).toThrow(CloisterError);
    }
    fc.assert(
      fc.property(fc.anything(), value => {
        expect(() => parseProfile(value, 1)).toThrow(CloisterError);
        expect(() => parseOptimisation(value)).toThrow(CloisterError);
      }),
    );
  });

  it('is a report of passes or a typed error', () => {
    const row = { pass: 'layout', group: 'lower', nodesBefore: 2, nodesAfter: 1, rewrites: 1, milliseconds: 0.5 };
    expect(parseOptimisation({ passes: [row] })).toEqual({ passes: [row], arena: undefined });
    for (const bad of [
      { ...row, group: 'x' },
      { ...row, pass: '\u202e' },
      { ...row, milliseconds: '1' },
    ]) {
      expect(() => parseOptimisation({ passes: [bad] })).toThrow(CloisterError);
    }
    expect(() => parseOptimisation({ passes: [], arena: { peakBytes: -1 } })).toThrow(CloisterError);
  });

  it('and the labels that it gives to columns fit the columns', () => {
    const report = (labels: unknown, shape: unknown[] = ['n', 2]) => ({
      summary: {
        ...{ name: '', bytes: 1, inputs: [], operators: [], nodes: 0, outline: [], parameters: 0, parameterBytes: 0 },
        outputs: [{ name: 'y', dtype: 'f32', shape, labels }],
      },
      ...{
        backend: 'reference',
        why: '',
        memory: { permanentBytes: 0, temporaryBytes: 0, scratchBytes: 0, portBytes: 0, blockBytes: 0 },
      },
    });
    expect(parseReport(report(['a', 7])).summary.outputs[0]!.labels).toEqual(['a', 7]);
    for (const labels of [['a'], ['a', '\u001b'], ['a', 1.5], 'ab', { length: 2 }, ['a', null]]) {
      expect(() => parseReport(report(labels))).toThrow(CloisterError);
    }
    expect(() => parseReport(report(['a', 'b'], []))).toThrow(CloisterError);
    expect(() => parseReport(report(Array(20_000).fill('a'), ['n', 'm']))).toThrow(CloisterError);
  });
});
