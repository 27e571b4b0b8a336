/**
 * Which backends this machine has, and which of them is best for what: by running each. The engine is loaded only when asked.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { Backend, OnnxRuntimeModule, SelfTestReport } from '../engine/index.ts';
import type { Graph, ValueId } from '../graph/index.ts';

/** One backend, found or not. */
export interface FoundBackend {
  readonly name: 'native' | 'openblas' | 'onnxruntime' | 'reference';
  readonly state: 'ok' | 'missing';
  /** What it is, or why it is not there. */
  readonly found: string;
  /** The command that brings it. */
  readonly mend?: string;
}

/** One kind of work, and what it cost on each backend that does it. */
export interface BackendChoiceReport {
  readonly work: string;
  /** Microseconds, by backend: the shortest of a few runs, one at a time, each on as many threads as the backend takes by itself. */
  readonly us: Readonly<Record<string, number>>;
  readonly chosen: string;
  readonly reason: string;
}

/** What {@link compareBackends} found. */
export interface BackendReport {
  readonly backends: readonly FoundBackend[];
  readonly choices: readonly BackendChoiceReport[];
}

/**
 * Returns the backends that this machine has, the best first; the last one runs every operator. OpenBLAS is one of them where the system
 * or `CLOISTER_OPENBLAS` has it, onnxruntime where `onnxruntime-node` is installed beside this package.
 */
export async function findBackends(): Promise<{
  readonly backends: readonly Backend[];
  readonly found: readonly FoundBackend[];
}> {
  const { nativeBackend, onnxRuntimeBackend, openBlasBackend, referenceBackend } = await import('../engine/index.ts');
  const { kernelInfo, loadBinding, nativeStatus, openBlas, openProgramHost } = await import('../../native/index.ts');
  const backends: Backend[] = [];
  const found: FoundBackend[] = [];
  const binding = loadBinding();
  const status = nativeStatus();
  if (binding !== undefined) {
    const host = openProgramHost(binding);
    backends.push(nativeBackend(host));
    found.push({
      name: 'native',
      state: 'ok',
      found: `row ${host.info.isa} of ${kernelInfo()?.supported.join(' ')}`,
    });
  } else if (status.kind !== 'loaded') {
    found.push({ name: 'native', state: 'missing', found: status.reason, mend: status.mend });
  }
  const blas = openBlas();
  if (blas.kind === 'loaded') {
    const { path, config, core } = blas.library;
    backends.push(openBlasBackend(blas.library));
    const about = `${config || 'of unknown version'}${core && `, core ${core}`} (${path})`;
    found.push({ name: 'openblas', state: 'ok', found: about });
  } else {
    const reason = blas.kind === 'unusable' ? `found but of no use: ${blas.reason}` : blas.reason;
    found.push({ name: 'openblas', state: 'missing', found: reason, mend: blas.mend });
  }
  const ort = await importOnnxRuntime();
  if (ort !== undefined) {
    const { writeOnnx } = await import('../formats/index.ts');
    backends.push(onnxRuntimeBackend(ort, { encode: writeOnnx }));
    found.push({ name: 'onnxruntime', state: 'ok', found: 'onnxruntime-node, for models that are trusted' });
  } else {
    const mend = 'npm install onnxruntime-node';
    found.push({ name: 'onnxruntime', state: 'missing', found: 'onnxruntime-node is not installed', mend });
  }
  backends.push(referenceBackend);
  found.push({ name: 'reference', state: 'ok', found: 'plain TypeScript, runs every operator' });
  return { backends, found };
}

/**
 * Runs some common work on every backend that there is and says which would be chosen for it, and why. Takes about a second.
 * @example
 * ```ts
 * const { choices } = await compareBackends();
 * choices.map(({ work, chosen }) => `${work}: ${chosen}`); // such as 'MatMul [128,384] [384,384]: native'
 * ```
 */
export async function compareBackends(): Promise<BackendReport> {
  const { assignNodes, measureCosts } = await import('../engine/index.ts');
  const { backends, found } = await findBackends();
  const choices: BackendChoiceReport[] = [];
  for (const [work, graph] of Object.entries(await probes())) {
    const costs = await measureCosts(graph, backends, { constants: nothing, now: () => performance.now() });
    const [choice] = assignNodes(graph, backends, costs);
    const [times] = costs.costs.values();
    choices.push({
      work,
      us: Object.fromEntries(
        [...(times ?? [])].filter(([, us]) => us < Number.POSITIVE_INFINITY).map(([{ name }, us]) => [name, us]),
      ),
      chosen: choice?.backend.name ?? 'reference',
      reason: choice?.reason ?? 'nothing to compute',
    });
  }
  return { backends: found, choices };
}

/** What {@link testKernels} found. */
export interface KernelTestReport extends SelfTestReport {
  /** The row of kernels that was tested; `none` where there is no binary. */
  readonly isa: string;
}

/**
 * Compares every kernel with the reference backend on random sizes and numbers. Takes a second or two.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` when there is no native binary.
 * @example
 * ```ts
 * const { ok, isa } = nativeStatus().kind === 'loaded' ? await testKernels() : { ok: true, isa: 'none' };
 * ok; // true
 * ```
 */
export async function testKernels(): Promise<KernelTestReport> {
  const { nativeBackend, selfTest } = await import('../engine/index.ts');
  const { loadBinding, nativeStatus, openProgramHost } = await import('../../native/index.ts');
  const binding = loadBinding();
  const status = nativeStatus();
  if (binding === undefined) {
    const reason = status.kind === 'loaded' ? '' : status.reason;
    throw new CloisterError('MISSING_DEPENDENCY', `there are no kernels to test: ${reason}`, {
      install: status.kind === 'loaded' ? '' : status.mend,
    });
  }
  const host = openProgramHost(binding);
  return { isa: host.info.isa, ...selfTest(nativeBackend(host)) };
}

async function importOnnxRuntime(): Promise<OnnxRuntimeModule | undefined> {
  const name = 'onnxruntime-node'; // not a dependency: whoever has it may use it
  try {
    const module = (await import(name)) as { default?: OnnxRuntimeModule } & OnnxRuntimeModule;
    return module.default ?? module;
  } catch {
    return undefined;
  }
}

const nothing = {
  read(): never {
    throw new CloisterError('INVALID_ARGUMENT', 'the probes have no model file');
  },
};

interface Probe {
  readonly op: string;
  readonly input: readonly number[];
  readonly weights?: readonly (readonly number[])[];
  readonly attributes?: Readonly<Record<string, readonly number[]>>;
}

/** One node each, of the sizes that models have. */
const PROBES: readonly Probe[] = [
  { op: 'MatMul', input: [128, 384], weights: [[384, 384]] },
  { op: 'MatMul', input: [1, 784], weights: [[784, 128]] },
  { op: 'Conv', input: [1, 64, 56, 56], weights: [[64, 64, 3, 3]], attributes: { pads: [1, 1, 1, 1] } },
  { op: 'Conv', input: [1, 64, 56, 56], weights: [[256, 64, 1, 1]] },
  { op: 'Softmax', input: [1536, 128] },
  { op: 'LayerNormalization', input: [128, 384], weights: [[384], [384]] },
  { op: 'Tanh', input: [65_536] },
  { op: 'Transpose', input: [512, 512] },
];

async function probes(): Promise<Readonly<Record<string, Graph>>> {
  const { GraphBuilder } = await import('../graph/index.ts');
  const { Tensor } = await import('../tensor/index.ts');
  return Object.fromEntries(
    PROBES.map(({ op, input, weights = [], attributes = {} }) => {
      const builder = new GraphBuilder('probe', { opset: 17 });
      const x = builder.input('x', { dtype: 'f32', shape: input });
      const rest = weights.map((shape, i): ValueId => builder.constant(`w${i}`, Tensor.zeros('f32', shape)));
      builder.output(builder.node({ op, inputs: [x, ...rest], attributes })[0]!);
      const sizes = [input, ...weights].map(shape => `[${shape}]`).join(' ');
      return [`${op} ${sizes}`, builder.build()];
    }),
  );
}
