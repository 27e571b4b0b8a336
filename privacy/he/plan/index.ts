/**
 * Planning encrypted inference. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { ConstantReader, Graph } from '../../../src/graph/index.ts';
import type { HeadStep } from '../client-plan.ts';
import { type FunctionLayer, headSteps, type Layers, lowerToLayers } from './layers.ts';
import { predictError } from './noise.ts';
import { type HePlan, planLayers } from './plan.ts';
import { fitPolynomial, type Polynomial } from './polynomial.ts';
import { rangesOf } from './ranges.ts';

export type { Layers } from './layers.ts';
export type { HeParameters } from './parameters.ts';
export { type HePlan, type HeStep, type Port, predictedMs, stepMs } from './plan.ts';
export { fitPolynomial, type Polynomial } from './polynomial.ts';
export { evaluateLayers, rangesOf } from './ranges.ts';

/** What {@link planInference} may be told. */
export interface PlanInferenceOptions {
  /** Where the bytes of the graph's `range` constants are. */
  readonly constants: ConstantReader;
  /** Sizes of symbolic dimensions; those that are not named are 1. */
  readonly dims?: Readonly<Record<string, number>>;
  /**
   * Inputs of the kind that will come, by name, flattened: they say how large every value gets. Public data: the ranges end up in the
   * plan, which the client sees. Without samples, inputs are taken to lie between -1 and 1.
   */
  readonly samples?: readonly Readonly<Record<string, ArrayLike<number>>>[];
  /** Degree of the polynomials that stand for activations, 2 to 31; 4 by default. */
  readonly degree?: number;
}

/** A model planned for encrypted inference. */
export interface PlannedModel {
  readonly plan: HePlan;
  /** The model as the plan computes it, activations replaced by their polynomials. */
  readonly layers: Layers;
  /** The model with its own activations. */
  readonly exact: Layers;
  /** What the client computes after decryption. */
  readonly head: readonly HeadStep[];
  /** The predicted error of an output, in its unit. */
  readonly error: number;
  /** The polynomials by the name of their node, with the range that they were fitted on and their error there. */
  readonly polynomials: ReadonlyMap<string, Polynomial>;
}

/** Ranges that samples show are widened by this: other inputs go a little further. */
const MARGIN = 1.25;

/**
 * Plans the encrypted inference of `graph`: packing, parameters, every operation. No key is needed for it, and none is made.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` naming the node that has no encrypted form, or saying how much too deep the model is;
 *   `INPUT_MISMATCH`, `SHAPE_MISMATCH` when a sample is not an input of the model; `INVALID_ARGUMENT` on a bad degree.
 */
export function planInference(graph: Graph, options: PlanInferenceOptions): PlannedModel {
  const { constants, dims, degree = 4 } = options;
  const lowering = { constants, ...(dims && { dims }) };
  const exact = lowerToLayers(graph, lowering);
  const samples = options.samples ?? guesses(exact);
  if (samples.length === 0)
    throw new CloisterError('INVALID_ARGUMENT', 'at least one sample says how large values get');
  const ranges = rangesOf(exact, samples);
  const polynomials = new Map(
    exact.layers
      .filter((layer): layer is FunctionLayer => layer.kind === 'function')
      .map(layer => {
        const radius = Math.max(1e-3, MARGIN * ranges[layer.inputs[0]]!);
        return [layer.name, fitPolynomial(layer.evaluate, radius, degree)] as const;
      }),
  );
  const layers = polynomials.size === 0 ? exact : lowerToLayers(graph, { ...lowering, polynomials });
  const widest = polynomials.size === 0 ? ranges : rangesOf(layers, samples);
  const magnitude = MARGIN * Math.max(...layers.outputs.map(({ base }) => widest[base]!));
  const plan = planLayers(layers, { magnitude });
  return { plan, layers, exact, polynomials, head: headSteps(layers), error: predictError(plan, samples) };
}

/** Inputs from -1 to 1, the same every time. */
function guesses(layers: Layers): readonly Readonly<Record<string, Float64Array>>[] {
  let state = 1;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  return Array.from({ length: 8 }, () =>
    Object.fromEntries(
      layers.inputs.map(({ name }, i) => [name, Float64Array.from({ length: layers.sizes[i]! }, next)]),
    ),
  );
}
