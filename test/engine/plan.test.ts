import { describe, expect, test } from 'vitest';
import { isCloisterError } from '../../src/base/index.ts';
import { type PlanOptions, PROGRAM_VERSION, planProgram } from '../../src/engine/index.ts';
import { foldConstants, type Graph, inferFacts, removeDeadNodes } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { digits, fileConstants, noFile, Sketch } from '../native/program-seeds.ts';

const kernel = { isa: 'any', programVersion: PROGRAM_VERSION, gemmPanel: 1 };
const plan = (graph: Graph, more: Partial<PlanOptions> = {}) =>
  planProgram(graph, { kernel, constants: noFile, modelBytes: 0, ...more });
const kinds = (graph: Graph): readonly string[] => plan(graph).steps.map(({ kind }) => kind);
const messageOf = (body: () => unknown): { code: string; message: string } => {
  try {
    body();
  } catch (error) {
    if (isCloisterError(error)) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: '', message: '' };
};

describe('plan', () => {
  test('computes bias and activation with the product before them, and moves nothing for a reshape', () => {
    expect(kinds(digits(1))).toEqual(['conv', 'pool', 'blockedConv', 'blockedPool', 'fromBlocks', 'gemm', 'softmax']);
  });

  test("adds a tensor of the result's size to a product where it is made", () => {
    const g = new Sketch('open');
    const x = g.input('x', [2, 3]);
    const product = g.op('MatMul', [x, g.weight(3, 3)]);
    expect(kinds(g.build(g.op('Relu', [g.op('Add', [product, x])])))).toEqual(['gemm']);
  });

  test('keeps a product apart from a sum that grows, and from what follows a result that is an output', () => {
    const g = new Sketch('grown');
    const row = g.op('MatMul', [g.input('x', [1, 3]), g.weight(3, 3)]);
    expect(kinds(g.build(g.op('Add', [row, g.input('y', [2, 3])])))).toEqual(['gemm', 'binary']);
    const h = new Sketch('shared');
    const shared = h.op('MatMul', [h.input('x', [2, 3]), h.weight(3, 3)]);
    expect(kinds(h.build(h.op('Relu', [shared]), shared))).toEqual(['gemm', 'unary']);
    const two = new Sketch('two');
    const read = two.op('MatMul', [two.input('x', [2, 3]), two.weight(3, 3)]);
    expect(kinds(two.build(two.op('Softmax', [read]), two.op('Relu', [read])))).toEqual(['gemm', 'softmax', 'unary']);
  });

  test('needs no bytes of its own for steps that each take over those of the one before', () => {
    const g = new Sketch('taken');
    let y = g.input('x', [4, 6]);
    for (const axis of [0, 1, 0, 1]) y = g.op('Softmax', [y], { axis });
    const { steps, memory } = plan(g.build(y));
    expect(steps.map(({ kind }) => kind)).toEqual(['softmax', 'softmax', 'softmax', 'softmax']);
    expect(memory.temporaryBytes).toBe(0); // all of them write the output
  });

  test('folds a batch normalisation into the convolution before it', () => {
    const g = new Sketch('norm');
    const variance = g.builder.constant('variance', Tensor.of('f32', [1, 2]));
    const convolved = g.op('Conv', [g.input('x', [1, 1, 4, 4]), g.weight(2, 1, 3, 3)]);
    const normal = g.op('BatchNormalization', [convolved, g.weight(2), g.weight(2), g.weight(2), variance]);
    expect(kinds(g.build(g.op('Relu', [normal])))).toEqual(['conv']);
  });

  test('does once, at setup, what depends on constants alone', () => {
    const g = new Sketch('constant');
    const grown = g.op('Exp', [g.op('Mul', [g.weight(4, 4), g.weight(4)])]);
    expect(kinds(g.build(g.op('MatMul', [g.input('x', [1, 4]), grown])))).toEqual(['gemm']);
  });

  test('reads no weight, and names only ranges of the model file', () => {
    const { graph, model } = fileConstants(digits('N'));
    const ranged = [...graph.constants.values()].filter(constant => constant.kind === 'range');
    const read: number[] = [];
    const constants = {
      read(offset: number, length: number) {
        read.push(length);
        return model.subarray(offset, offset + length);
      },
    };
    const { program } = plan(graph, { constants, modelBytes: model.length, dims: { N: 4 } });
    expect(ranged.length).toBe(3);
    expect(read).toEqual([]);
    expect(program.length).toBeLessThan(model.length);
  });

  test('lets elementwise steps run in place: a chain needs one buffer, at the lower bound, or none but the output', () => {
    const chain = (...last: readonly string[]) => {
      const g = new Sketch('chain');
      let value = g.input('x', [1000]);
      for (const op of ['Exp', 'Neg', 'Tanh', 'Abs', 'Sqrt', ...last]) value = g.op(op, [value]);
      return plan(g.build(value)).memory;
    };
    expect(chain().temporaryBytes).toBe(0);
    expect(chain('ReduceSum').temporaryBytes).toBe(4032);
    expect(chain('ReduceSum').temporaryLowerBoundBytes).toBe(4032);
  });

  test('writes nothing over a value that is still needed', () => {
    const g = new Sketch('kept');
    const x = g.input('x', [16]);
    const y = g.op('Exp', [x]);
    const sum = g.op('ReduceSum', [g.op('Add', [y, x])]);
    expect(plan(g.build(sum, g.op('ReduceSum', [y]))).memory.temporaryBytes).toBe(128);
  });

  test('follows shapes that are computed from the input', () => {
    const g = new Sketch('shapes');
    const x = g.input('x', ['N', 2, 3]);
    const size = g.op('Gather', [g.op('Shape', [x]), g.ints(0)], { axis: 0 });
    const flat = g.op('Reshape', [x, g.op('Concat', [size, g.ints(-1)], { axis: 0 })]);
    const graph = g.build(flat);
    expect(plan(graph, { dims: { N: 5 } }).outputs[0]!.shape).toEqual([5, 6]);
    expect(plan(graph, { dims: { N: 5 } }).steps).toEqual([{ kind: 'concat', node: 'Reshape#3' }]);
  });

  test('is the same bytes each time', () => {
    expect(plan(digits('N'), { dims: { N: 3 } }).program).toEqual(plan(digits('N'), { dims: { N: 3 } }).program);
  });

  test('lists every node that has no native form, with the reason', () => {
    const g = new Sketch('odd');
    const x = g.input('x', [2, 2]);
    const doubled = g.op('Cast', [x], { to: 11 });
    const { code, message } = messageOf(() =>
      plan(g.build(g.op('Add', [doubled, doubled]), g.op('Det', [x]), g.op('Det', [doubled]))),
    );
    expect(code).toBe('UNSUPPORTED_MODEL');
    expect(message).toContain('Add "Add#1": native kernels compute in f32 and integers, not f64');
    expect(message).toContain('Det "Det#2": no native kernel for Det');
    expect(message).toContain('Det "Det#3"');
  });

  test('refuses an unbound dimension, an unknown one, and a host of another version', () => {
    expect(messageOf(() => plan(digits('N')))).toMatchObject({ code: 'SHAPE_MISMATCH' });
    expect(messageOf(() => plan(digits('N'), { dims: { M: 1 } }))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(
      messageOf(() => plan(digits(1), { kernel: { ...kernel, programVersion: PROGRAM_VERSION + 1 } })),
    ).toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});

describe('passes', () => {
  test('folding computes small constants and what follows from shapes, and drops what only they needed', () => {
    const g = new Sketch('fold');
    const x = g.input('x', ['N', 4]);
    const shape = g.op('Shape', [x]);
    const six = g.op('Add', [
      g.builder.constant('two', Tensor.of('f32', 2)),
      g.builder.constant('four', Tensor.of('f32', 4)),
    ]);
    const graph = g.build(g.op('Mul', [x, six]), shape);
    const folded = foldConstants(inferFacts(graph, { dims: { N: 3 } }));
    expect(folded.nodes.map(node => node.op)).toEqual(['Mul']);
    const value = (id: number): unknown => {
      const constant = folded.constants.get(id);
      return constant?.kind === 'inline' ? constant.tensor.values() : undefined;
    };
    expect(value(six)).toEqual([6]);
    expect(value(shape)).toEqual([3n, 4n]);
    expect(folded.constants.size).toBe(2);
    expect(foldConstants(graph).nodes.map(node => node.op)).toEqual(['Shape', 'Mul']);
  });

  test('folding leaves what would be large', () => {
    const g = new Sketch('large');
    const grown = g.op('Expand', [g.builder.constant('one', Tensor.of('f32', 1)), g.ints(1000, 1000)]);
    const graph = g.build(g.op('Add', [g.input('x', [1000]), grown]));
    expect(foldConstants(graph).nodes.length).toBe(2);
    expect(foldConstants(graph, { limitBytes: 4_000_000 }).nodes.length).toBe(1);
  });

  test('dead nodes go, inputs stay', () => {
    const g = new Sketch('dead');
    const [x, y] = [g.input('x', [2]), g.input('y', [2])];
    g.op('Add', [y, g.weight(2)]);
    const graph = removeDeadNodes(g.build(g.op('Neg', [x])));
    expect(graph.nodes.map(node => node.op)).toEqual(['Neg']);
    expect(graph.inputs).toEqual([x, y]);
    expect(graph.constants.size).toBe(0);
  });
});
