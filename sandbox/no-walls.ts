/**
 * Isolation `none`: the engine called directly, for benches and tests. Nothing is confined.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import {
  type Executable,
  nativeBackend,
  PlanCache,
  type PlanStore,
  pickBackend,
  profileRun,
  referenceBackend,
} from '../src/engine/index.ts';
import { bytesSource, listExternalData, parseOnnx } from '../src/formats/index.ts';
import { type Graph, optimise } from '../src/graph/index.ts';
import { encodeShown } from './drawing.ts';
import type { GivenModel } from './given-model.ts';
import { loadKernels } from './kernels.ts';
import type { Limits } from './limits.ts';
import { type LocalExecutable, LocalModel, type LocalVersion } from './local-model.ts';
import {
  addFiles,
  aloneModel,
  digestModel,
  type FixedDims,
  type ModelFiles,
  type OpenExternal,
} from './model-files.ts';
import { MAX_SHOWN_BYTES, parseShown } from './shown.ts';
import { arenaOf, summarise } from './summary.ts';
import type { Walls } from './walls.ts';

/** Opens the sandbox that is none. */
export function openNoWalls(store: PlanStore | undefined): Walls {
  const models = new Set<LocalModel>();
  return {
    async load(request) {
      if (request.plugins !== undefined) refusePlugins();
      const load = (given: GivenModel): Promise<LocalVersion> => openVersion(given, request.limits, store);
      const model = await LocalModel.open({ ...request, load, closed: model => models.delete(model) }, request);
      models.add(model);
      return model;
    },
    async evaluate() {
      const message = 'a script is not run without walls: open the sandbox with isolation process or isolate';
      throw new CloisterError('INVALID_ARGUMENT', message);
    },
    plug: async () => refusePlugins(),
    settled: async () => {},
    async close() {
      await Promise.all([...models].map(model => model.close()));
    },
  };
}

async function openVersion(
  { bytes, dims, external }: GivenModel,
  limits: Limits,
  store: PlanStore | undefined,
): Promise<LocalVersion> {
  const { files, graph } = await readModel(aloneModel(bytes), dims, external, limits.modelBytes);
  const constants = bytesSource(files.bytes);
  const summary = summarise(graph, files.modelBytes);
  const kernels = loadKernels();
  const limitBytes = limits.memoryMb * 1_048_576;
  // Only what the load is planned to is kept: sizes that runs bring may be private.
  let loading = true;
  const kept = store && {
    ...reading(store),
    set: (key: string, plan: Uint8Array) => loading && store.set(key, plan),
  };
  const plans = kept && { plans: new PlanCache({ store: kept }) };
  const native = kernels.host && nativeBackend(kernels.host, plans);
  const { backend, reasons } = pickBackend(graph, { native, reference: referenceBackend, constants });
  const interpret = (): Executable =>
    referenceBackend.prepare(optimise(graph, { constants }).graph, { constants, limitBytes });
  const executable: Executable =
    backend === native
      ? native.prepare(graph, { constants, limitBytes, sourceDigest: digestModel(files) })
      : interpret();
  loading = false;
  let interpreter = backend === native ? undefined : executable;
  const report = {
    summary,
    backend: backend === native ? ('native' as const) : ('reference' as const),
    why: backend === native || kernels.host === undefined ? kernels.why : reasons.join('; ').slice(0, 1_000),
    get memory() {
      return executable.memory;
    },
  };
  const hosted: LocalExecutable = {
    report,
    run: inputs => executable.runSync(inputs),
    show: (form, outputBytes) => {
      const mostBytes = Math.min(outputBytes, MAX_SHOWN_BYTES);
      return parseShown(encodeShown(graph, form, mostBytes), form, mostBytes);
    },
    profile: async (inputs, runs, warm) => {
      interpreter ??= interpret();
      return profileRun(interpreter, inputs, { now: () => performance.now(), runs, warm });
    },
    passes: async () => {
      const { graph: small, report: passes } = optimise(graph, { constants, now: () => performance.now() });
      return { passes, arena: arenaOf(small) };
    },
    close: () => {
      executable.close();
      interpreter?.close();
    },
  };
  return { executable: hosted, files, dims, release: () => {} };
}

function refusePlugins(): never {
  const message = 'plugins are not run without walls: open the sandbox with isolation process or isolate';
  throw new CloisterError('INVALID_ARGUMENT', message);
}

/** Parses a model, with the files that it turns out to need. */
async function readModel(
  alone: ModelFiles,
  dims: FixedDims,
  open: OpenExternal | undefined,
  limitBytes: number,
): Promise<{ readonly files: ModelFiles; readonly graph: Graph }> {
  const source = bytesSource(alone.bytes);
  let missing = false;
  const none = {
    locate() {
      missing = true;
      return undefined;
    },
  };
  try {
    return { files: alone, graph: parseOnnx(source, { dims, external: none }) };
  } catch (error) {
    if (!missing) throw error;
  }
  const files = await addFiles(alone, listExternalData(source), open, limitBytes);
  const places = new Map(files.files.map(file => [file.location, file]));
  const joined = { size: files.modelBytes, read: bytesSource(files.bytes).read };
  return { files, graph: parseOnnx(joined, { dims, external: { locate: location => places.get(location) } }) };
}

function reading(store: PlanStore): Pick<PlanStore, 'get' | 'delete'> {
  return { get: key => store.get(key), delete: key => store.delete(key) };
}
