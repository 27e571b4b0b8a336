/** One-node graphs on the native backend, on each row of the dispatch table, beside the reference backend. */
import { afterAll, beforeAll, describe } from 'vitest';
import { forceIsa, kernelInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { type NamedTensors, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { type Attribute, type Graph, GraphBuilder } from '../../src/graph/index.ts';
import type { Tensor } from '../../src/tensor/index.ts';
import { noFile } from '../native/program-seeds.ts';

/** The rows that this machine runs; none without a native build. */
export const NATIVE_ROWS: readonly string[] = kernelInfo()?.supported ?? [];

/** Describes `body` once per row, with that row forced. */
export function onEachRow(name: string, body: () => void): void {
  describe.skipIf(NATIVE_ROWS.length === 0)(name, () => {
    describe.each(NATIVE_ROWS)('%s', isa => {
      beforeAll(() => forceIsa(isa));
      afterAll(() => forceIsa(null));
      body();
    });
  });
}

/** A node with tensors: those in `weights` are constants, the others inputs. A missing input is undefined. */
export interface OneNode {
  readonly op: string;
  readonly domain?: string;
  readonly opset: number;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly weights?: readonly number[];
  readonly outputs: readonly (string | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
}

/** The graph of one node, and what its inputs are given. */
export function oneNode(node: OneNode): { readonly graph: Graph; readonly inputs: NamedTensors } {
  const b = new GraphBuilder('one', { opset: 24 });
  const inputs: Record<string, Tensor> = {};
  const ids = node.inputs.map((tensor, i) => {
    if (tensor === undefined) return undefined;
    if (node.weights?.includes(i)) return b.constant(`w${i}`, tensor);
    inputs[`x${i}`] = tensor;
    return b.input(`x${i}`, { dtype: tensor.dtype, shape: tensor.shape });
  });
  const { op, domain, opset, attributes } = node;
  const outputs = b.node({
    op,
    opset,
    inputs: ids,
    outputs: node.outputs,
    ...(domain !== undefined && { domain }),
    ...(attributes && { attributes }),
  });
  node.outputs.forEach((name, i) => {
    if (name !== undefined) b.output(outputs[i]!);
  });
  return { graph: b.build(), inputs };
}

/** What the node gives on both backends. */
export function onBoth(node: OneNode): { readonly came: NamedTensors; readonly wanted: NamedTensors } {
  const { graph, inputs } = oneNode(node);
  const run = (backend: { prepare: typeof referenceBackend.prepare }): NamedTensors => {
    const executable = backend.prepare(graph, { constants: noFile });
    try {
      return executable.runSync(inputs);
    } finally {
      executable.close();
    }
  };
  return { came: run(nativeBackend(openProgramHost(loadBinding()!))), wanted: run(referenceBackend) };
}
