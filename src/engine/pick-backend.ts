/**
 * Which backend runs a graph.
 * @module
 */
import type { ConstantReader, Graph } from '../graph/index.ts';
import type { Backend } from './backend.ts';
import { analyse, nativeForm, refusals } from './plan.ts';

/** What there is to pick from. */
export interface BackendCandidates {
  /** Where there is no binary, `undefined`. */
  readonly native: Backend | undefined;
  readonly reference: Backend;
  /** Where the bytes of the graph's `range` constants are. */
  readonly constants?: ConstantReader;
}

/** The choice, and why it fell so: one line for each reason. */
export interface BackendChoice {
  readonly backend: Backend;
  readonly reasons: readonly string[];
}

/**
 * Picks the native backend when it runs every node of `graph` that a step is needed for, else the reference backend for
 * the whole graph: a graph never runs on two backends. `reasons` name the nodes that the native backend lacks.
 * @example
 * ```ts
 * const graph = parseOnnx(bytesSource(await readFile('digits.onnx')));
 * const { backend } = pickBackend(graph, { native: undefined, reference: referenceBackend });
 * backend.name; // 'reference'
 * ```
 */
export function pickBackend(graph: Graph, candidates: BackendCandidates): BackendChoice {
  const { native, reference, constants } = candidates;
  if (native === undefined) return { backend: reference, reasons: ['there are no native kernels here'] };
  const folded = nativeForm(graph, constants);
  const reasons = refusals(folded, analyse(folded).nodes);
  if (reasons.length > 0) return { backend: reference, reasons };
  return { backend: native, reasons: ['every node runs on native kernels'] };
}
