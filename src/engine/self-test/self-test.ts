/**
 * The self-test: kernels against the reference backend, on random sizes and numbers.
 * @module
 */
import { isCloisterError } from '../../base/index.ts';
import { type Graph, GraphBuilder } from '../../graph/index.ts';
import { DTYPES, formatShape, type Tensor } from '../../tensor/index.ts';
import type { Backend, NamedTensors } from '../backend.ts';
import { referenceBackend } from '../reference.ts';
import { CASES, type Case } from './cases.ts';
import { drawFrom } from './draw.ts';

/** What {@link selfTest} may be told. */
export interface SelfTestOptions {
  /** How many cases of each operator. Default 4. */
  readonly rounds?: number;
  /** The same seed draws the same cases. Default 1. */
  readonly seed?: number;
}

/** A case on which a backend and the reference disagree. */
export interface SelfTestFailure {
  readonly operator: string;
  /** Dtypes and shapes of its inputs. */
  readonly inputs: readonly string[];
  /** What was expected, and what came. Numbers here were drawn, and are nobody's data. */
  readonly why: string;
}

/** What {@link selfTest} found. */
export interface SelfTestReport {
  readonly ok: boolean;
  /** How many cases were computed on both. */
  readonly checked: number;
  /** Operators of the test that the backend does not run. */
  readonly refused: readonly string[];
  readonly failures: readonly SelfTestFailure[];
}

/**
 * Computes random cases of every operator that `backend` runs, on it and on the reference backend, and compares: integers and moved
 * elements exactly, sums within the bound of their rounding errors, functions within a few units in the last place. Reads no data and no
 * file. It takes about half a second, and is for machines that nobody has tried: a new CPU, a virtual machine, an emulator.
 * @example
 * ```ts
 * const binding = loadBinding();
 * const report = selfTest(binding ? nativeBackend(openProgramHost(binding)) : referenceBackend);
 * report.failures; // []
 * ```
 */
export function selfTest(backend: Backend, { rounds = 4, seed = 1 }: SelfTestOptions = {}): SelfTestReport {
  const draw = drawFrom(seed);
  const refused: string[] = [];
  const failures: SelfTestFailure[] = [];
  let checked = 0;
  for (const [operator, drawCase] of Object.entries(CASES)) {
    for (let round = 0; round < rounds; round++) {
      const drawn = drawCase(draw);
      const { graph, inputs } = graphOf(drawn);
      const came = compute(backend, graph, inputs);
      if (came === undefined) {
        if (!refused.includes(operator)) refused.push(operator);
        continue;
      }
      checked++;
      const wanted = compute(referenceBackend, graph, inputs)!;
      const why = disagreement(wanted, came, drawn);
      if (why === undefined) continue;
      const given = drawn.inputs.map(tensor => (tensor ? `${tensor.dtype}${formatShape(tensor.shape)}` : 'none'));
      failures.push({ operator, inputs: given, why });
    }
  }
  return { ok: failures.length === 0, checked, refused, failures };
}

/** The results, or undefined where the backend does not run the node. */
function compute(backend: Backend, graph: Graph, inputs: NamedTensors): NamedTensors | undefined {
  const constants = {
    read(): never {
      throw new Error('the cases have no model file');
    },
  };
  try {
    const executable = backend.prepare(graph, { constants });
    try {
      return executable.runSync(inputs);
    } finally {
      executable.close();
    }
  } catch (error) {
    if (isCloisterError(error, 'UNSUPPORTED_MODEL')) return undefined;
    throw error;
  }
}

function graphOf({ op, inputs, weights = [], outputs = 1, attributes = {} }: Case): {
  readonly graph: Graph;
  readonly inputs: NamedTensors;
} {
  const builder = new GraphBuilder('case', { opset: 18 });
  const given: Record<string, Tensor> = {};
  const ids = inputs.map((tensor, i) => {
    if (tensor === undefined) return undefined;
    if (weights.includes(i)) return builder.constant(`w${i}`, tensor);
    given[`x${i}`] = tensor;
    return builder.input(`x${i}`, { dtype: tensor.dtype, shape: tensor.shape });
  });
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const made = builder.node({ op, inputs: ids, outputs: names, attributes });
  for (const id of made) if (id !== undefined) builder.output(id);
  return { graph: builder.build(), inputs: given };
}

function disagreement(wanted: NamedTensors, came: NamedTensors, { rtol, atol }: Case): string | undefined {
  for (const [name, expected] of Object.entries(wanted)) {
    const result = came[name]!;
    if (result.dtype !== expected.dtype || formatShape(result.shape) !== formatShape(expected.shape)) {
      return `${name}: expected ${expected.dtype}${formatShape(expected.shape)}, got ${result.dtype}${formatShape(result.shape)}`;
    }
    const exact = DTYPES[expected.dtype].kind !== 'float';
    const [a, b] = [expected.values().map(Number), result.values().map(Number)];
    for (let i = 0; i < a.length; i++) {
      const allowed = exact ? 0 : atol + rtol * Math.abs(a[i]!);
      if (Object.is(a[i], b[i]) || Math.abs(a[i]! - b[i]!) <= allowed) continue;
      return `${name}[${i}]: expected ${a[i]} within ${allowed}, got ${b[i]}`;
    }
  }
  return undefined;
}
