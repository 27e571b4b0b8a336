import { describe, expect, test } from 'vitest';
import { referenceBackend } from '../../../src/engine/index.ts';
import { type Constant, type Graph, gradient, type ValueId } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { corpusModel, MODEL_NAMES } from '../../engine/corpus-models.ts';

/** Models of floats all through, whose runs are short. */
const MODELS = ['bert-tiny-encoder', 'bert-toy-5layer', 'mnist-8', 'mnist-cnn-pytorch', 't5-encoder', 'tf-bert-qa'];

/** The first weights of at least two dimensions. */
function weightsOf(graph: Graph): readonly ValueId[] {
  const weights = [...graph.constants.keys()].filter(id => {
    const { dtype, shape } = graph.values[id]!.facts;
    return dtype === 'f32' && shape.length >= 2;
  });
  return weights.slice(0, 3);
}

/** `graph` with a constant replaced. */
function replaced(graph: Graph, id: ValueId, tensor: Tensor): Graph {
  return { ...graph, constants: new Map<ValueId, Constant>([...graph.constants, [id, { kind: 'inline', tensor }]]) };
}

describe.skipIf(MODEL_NAMES.length === 0)('real models', () => {
  // Along its own direction a function changes by the length of the gradient; in float32 that much can be seen.
  test.each(MODELS)('%s changes along the gradients of its weights as they say', name => {
    const { graph, source, inputs, outputs } = corpusModel(name);
    const of = graph.outputs.find(id => graph.values[id]!.facts.dtype === 'f32')!;
    const { shape, size } = outputs[graph.values[of]!.name]!;
    const seed = Tensor.from(
      'f32',
      shape,
      Float32Array.from({ length: size }, (_, i) => Math.sin(i + 1)),
    );
    const wrt = weightsOf(graph);
    const slope = gradient(graph, { of, wrt, seed: 'the seed' });
    const results = referenceBackend.prepare(slope, { constants: source }).runSync!({ ...inputs, 'the seed': seed });
    const value = (changed: Graph): number => {
      const out = referenceBackend.prepare(changed, { constants: source }).runSync!(inputs);
      const weights = seed.elements();
      return (out[graph.values[of]!.name]!.values() as number[]).reduce((sum, y, i) => sum + y * weights[i]!, 0);
    };
    for (const [i, id] of wrt.entries()) {
      const found = results[slope.values[slope.outputs[graph.outputs.length + i]!]!.name]!;
      const facts = graph.values[id]!.facts;
      expect({ dtype: found.dtype, shape: found.shape }).toEqual(facts);
      const along = found.values() as number[];
      const length = Math.sqrt(along.reduce((sum, x) => sum + x * x, 0));
      const constant = graph.constants.get(id)!;
      const weights =
        constant.kind === 'inline'
          ? constant.tensor
          : Tensor.fromBytes('f32', found.shape, source.read(constant.offset, constant.length));
      const before = weights.values() as number[];
      const moved = (step: number): Graph =>
        replaced(
          graph,
          id,
          Tensor.from(
            'f32',
            found.shape,
            Float32Array.from(before, (x, at) => x + (step * along[at]!) / length),
          ),
        );
      const h = 2e-3;
      const near = value(moved(h / 2)) - value(moved(-h / 2));
      const far = value(moved(h)) - value(moved(-h));
      const slopeAlong = (8 * near - far) / (6 * h);
      expect(length).toBeGreaterThan(0);
      // Of 18 weights the worst is 4e-3 off: float32, and the kinks of Relu and MaxPool.
      expect(Math.abs(slopeAlong / length - 1)).toBeLessThan(1e-2);
    }
  });
});
