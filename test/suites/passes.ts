/**
 * How tests see that a pass keeps what a graph computes: both graphs run on the reference backend, and outputs are compared.
 * @module
 */

import type { Backend, Executable, NamedTensors, PrepareOptions } from '../../src/engine/index.ts';
import { fillOutputs, referenceBackend } from '../../src/engine/index.ts';
import { type Graph, inferFacts, type Pass } from '../../src/graph/index.ts';
import { DTYPES, type DType, sameShape, type Tensor } from '../../src/tensor/index.ts';

/** How far a pass keeps outputs. */
export type Agreement = Pass['keeps'];

/** Distance that adding up in another order may make, relative to 1 and the largest element of the output. */
const ROUNDING: Readonly<Partial<Record<DType, number>>> = { f64: 1e-6, f32: 1e-5, f16: 4e-3, bf16: 4e-2 };

/** Distance that a few steps of eight-bit scales make, relative to the largest element of a float output. Integers: one step. */
const STEPS = 0.02;

/** Says how `came` differs from `wanted`, or nothing. NaN is equal to itself, and -0 is not 0 where outputs must agree exactly. */
export function disagreement(came: NamedTensors, wanted: NamedTensors, agreement: Agreement): string | undefined {
  const names = Object.keys(wanted);
  if (Object.keys(came).join() !== names.join())
    return `outputs ${Object.keys(came).join()} instead of ${names.join()}`;
  for (const name of names) {
    const why = differs(came[name]!, wanted[name]!, agreement);
    if (why !== undefined) return `${name}: ${why}`;
  }
  return undefined;
}

function differs(came: Tensor, wanted: Tensor, agreement: Agreement): string | undefined {
  if (came.dtype !== wanted.dtype || !sameShape(came.shape, wanted.shape)) {
    return `${came.dtype}[${came.shape}] instead of ${wanted.dtype}[${wanted.shape}]`;
  }
  const [have, want] = [came.values(), wanted.values()];
  const bound = boundOf(wanted.dtype, want, agreement);
  for (let i = 0; i < want.length; i++) {
    const [a, b] = [have[i]!, want[i]!];
    if (Object.is(a, b) || (bound > 0 && Math.abs(Number(a) - Number(b)) <= bound)) continue;
    return `element ${i} is ${String(a)} instead of ${String(b)}`;
  }
  return undefined;
}

function boundOf(dtype: DType, wanted: readonly unknown[], agreement: Agreement): number {
  if (agreement === 'bits') return 0;
  if (DTYPES[dtype].kind !== 'float') return agreement === 'steps' && DTYPES[dtype].kind === 'int' ? 1 : 0;
  let largest = 0;
  for (const value of wanted) if (Number.isFinite(value)) largest = Math.max(largest, Math.abs(Number(value)));
  return agreement === 'steps' ? STEPS * largest : (ROUNDING[dtype] ?? 0) * (1 + largest);
}

/**
 * Facts of the outputs of nodes, as text. Sizes that inputs do not name are counted in the order in which they occur, so that two inferences of one graph
 * can be compared.
 */
export function factsOf(graph: Graph): readonly string[] {
  const names = new Map<string, string>();
  for (const id of graph.inputs) {
    for (const dim of graph.values[id]!.facts.shape) if (typeof dim === 'string') names.set(dim, dim);
  }
  const ids = graph.nodes.flatMap(node => node.outputs.filter(id => id !== undefined));
  return ids.map(id => {
    const { dtype, shape } = graph.values[id]!.facts;
    const dims = shape.map(dim => {
      if (typeof dim === 'number') return dim;
      if (!names.has(dim)) names.set(dim, `#${names.size}`);
      return names.get(dim)!;
    });
    return `${graph.values[id]!.name}: ${dtype}[${dims.join()}]`;
  });
}

/**
 * A backend that runs each graph as it is and after `change`, and gives the outputs of the first. What it finds to differ is added
 * to `found`.
 */
export function comparing(
  change: (graph: Graph, options: PrepareOptions) => Graph,
  agreement: Agreement,
  found: string[],
): Backend {
  return {
    name: 'comparing',
    supports: referenceBackend.supports,
    prepare(graph, options): Executable {
      const plain = referenceBackend.prepare(graph, options);
      const before = inferFacts(graph, options.dims ? { dims: options.dims } : {});
      const changed = referenceBackend.prepare(change(before, options), { constants: options.constants });
      const runSync = (inputs: NamedTensors): NamedTensors => {
        const wanted = plain.runSync(inputs);
        const why = disagreement(changed.runSync(inputs), wanted, agreement);
        if (why !== undefined) found.push(why);
        return wanted;
      };
      return {
        memory: plain.memory,
        run: async inputs => runSync(inputs),
        runSync,
        runInto: (inputs, outputs) => fillOutputs(runSync(inputs), outputs),
        close() {
          plain.close();
          changed.close();
        },
      };
    },
  };
}
