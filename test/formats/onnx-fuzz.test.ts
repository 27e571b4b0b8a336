import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../src/base/index.ts';
import { referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx, parseSafetensors, parseTensorProto, writeOnnx } from '../../src/formats/index.ts';
import { GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** A model with most shapes of message in it: ports, symbols, weights, typed and raw constants, every kind of attribute. */
function sample(): Uint8Array {
  const b = new GraphBuilder('fuzz', { opset: 17 });
  const x = b.input('x', { dtype: 'f32', shape: ['N', 1, 8, 8] });
  const w = b.constant(
    'w',
    Tensor.from(
      'f32',
      [4, 1, 3, 3],
      Float32Array.from({ length: 36 }, (_, i) => i / 36),
    ),
  );
  const conv = b.node({
    op: 'Conv',
    inputs: [x, w],
    attributes: { pads: [1, 1, 1, 1], auto_pad: 'NOTSET', group: 1 },
  })[0]!;
  const act = b.node({ op: 'LeakyRelu', inputs: [conv], attributes: { alpha: 0.1 } })[0]!;
  const pool = b.node({ op: 'MaxPool', inputs: [act], attributes: { kernel_shape: [2, 2], strides: [2, 2] } })[0]!;
  const flat = b.node({ op: 'Reshape', inputs: [pool, b.constant('shape', Tensor.of('i64', [-1, 64]))] })[0]!;
  const fc = b.constant('fc', Tensor.from('f32', [64, 2], new Float32Array(128).fill(0.5)));
  const bias = b.node({
    op: 'ConstantOfShape',
    inputs: [b.constant('ten', Tensor.of('i64', [2]))],
    attributes: { value: Tensor.of('f32', [1]) },
  })[0]!;
  b.output(b.node({ op: 'Gemm', inputs: [flat, fc, bias], outputs: ['y'] })[0]!);
  return writeOnnx(b.build());
}

/** The reader may give a graph or a CloisterError, and takes at most `limitMs`. */
function readWithin(limitMs: number, bytes: Uint8Array): void {
  const start = performance.now();
  try {
    const graph = parseOnnx(bytesSource(bytes));
    expect(graph.outputs.length).toBeGreaterThan(0);
  } catch (error) {
    if (!(error instanceof CloisterError)) throw error;
  }
  expect(performance.now() - start).toBeLessThan(limitMs);
}

const seeds = [sample()];
const corpus = process.env['CLOISTER_CORPUS'];
if (corpus) {
  for (const name of ['mnist-8', 'mnist-cnn-pytorch', 'silero-vad']) {
    seeds.push(readFileSync(join(corpus, 'models', name, 'model.onnx')));
  }
  const cases = readdirSync(join(corpus, 'onnx/node')).filter((_, i) => i % 20 === 0);
  for (const name of cases) seeds.push(readFileSync(join(corpus, 'onnx/node', name, 'model.onnx')));
}

const seed = fc.constantFrom(...seeds);
const position = fc.double({ min: 0, max: 1, noNaN: true });
const LIMIT_MS = 2000; // generous: these files parse in a few milliseconds, on a machine that is not ours

describe('any bytes give a graph or a typed error', () => {
  test('random', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), bytes => readWithin(LIMIT_MS, bytes)),
      { numRuns: 2000 },
    );
  });

  test('a model with bits flipped', () => {
    const flips = fc.array(fc.tuple(position, fc.nat(7)), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(seed, flips, (bytes, list) => {
        const copy = new Uint8Array(bytes);
        for (const [where, bit] of list) copy[Math.floor(where * (copy.length - 1))]! ^= 1 << bit;
        readWithin(LIMIT_MS, copy);
      }),
      { numRuns: 3000 },
    );
  });

  test('a model cut short', () => {
    fc.assert(
      fc.property(seed, position, (bytes, where) =>
        readWithin(LIMIT_MS, bytes.subarray(0, Math.floor(where * bytes.length))),
      ),
      { numRuns: 1000 },
    );
  });

  test('a piece of one model inside another', () => {
    fc.assert(
      fc.property(seed, seed, position, position, fc.nat(200), (a, b, at, from, length) => {
        const cut = Math.floor(at * a.length);
        const start = Math.floor(from * b.length);
        readWithin(LIMIT_MS, Buffer.concat([a.subarray(0, cut), b.subarray(start, start + length), a.subarray(cut)]));
      }),
      { numRuns: 1500 },
    );
  });

  test('every byte of a small model set to values that mean much', () => {
    const bytes = sample();
    for (let at = 0; at < bytes.length; at++) {
      for (const value of [0, 0x7f, 0x80, 0xff]) {
        const copy = new Uint8Array(bytes);
        copy[at] = value;
        readWithin(LIMIT_MS, copy);
      }
    }
  });

  test('as a TensorProto', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        try {
          parseTensorProto(bytesSource(bytes));
        } catch (error) {
          if (!(error instanceof CloisterError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('as a safetensors header', () => {
    const entry = fc.record(
      {
        dtype: fc.constantFrom('F32', 'U8', 'X'),
        shape: fc.array(fc.integer({ min: -1, max: 4 })),
        data_offsets: fc.array(fc.nat(20)),
      },
      { requiredKeys: [] },
    );
    const header = fc.oneof(
      fc.dictionary(fc.string(), entry).map(value => JSON.stringify(value)),
      fc.json(),
      fc.string(),
    );
    fc.assert(
      fc.property(header, fc.uint8Array({ maxLength: 40 }), (text, data) => {
        const body = Buffer.from(text);
        const prefix = Buffer.alloc(8);
        prefix.writeBigUInt64LE(BigInt(body.length));
        try {
          parseSafetensors(bytesSource(Buffer.concat([prefix, body, data])));
        } catch (error) {
          if (!(error instanceof CloisterError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});

test('a graph that a damaged file gives runs, or is refused by type', () => {
  const flips = fc.array(fc.tuple(position, fc.nat(7)), { minLength: 1, maxLength: 2 });
  const bytes = sample();
  let ran = 0;
  fc.assert(
    fc.property(flips, list => {
      const copy = new Uint8Array(bytes);
      for (const [where, bit] of list) copy[Math.floor(where * (copy.length - 1))]! ^= 1 << bit;
      try {
        const source = bytesSource(copy);
        const graph = parseOnnx(source);
        const executable = referenceBackend.prepare(graph, { constants: source, limitBytes: 2 ** 24 });
        const inputs = graph.inputs.map(id => {
          const { name, facts } = graph.values[id]!;
          const shape = facts.shape.map(dim => (typeof dim === 'number' ? Math.min(dim, 64) : 2));
          return [name, Tensor.zeros(facts.dtype, shape)] as const;
        });
        executable.runSync(Object.fromEntries(inputs));
        ran++;
      } catch (error) {
        if (!(error instanceof CloisterError)) throw error;
      }
    }),
    { numRuns: 1500 },
  );
  expect(ran).toBeGreaterThan(100); // most bits are weights: the property is not vacuous
});

test('a chain that doubles a symbolic size at each node stays cheap', () => {
  const b = new GraphBuilder('g', { opset: 17 });
  let x = b.input('x', { dtype: 'f32', shape: ['N'] });
  for (let i = 0; i < 2000; i++) x = b.node({ op: 'Concat', inputs: [x, x], attributes: { axis: 0 } })[0]!;
  b.output(x);
  readWithin(LIMIT_MS, writeOnnx(b.build()));
});
