/**
 * Isolation `none`: the engine called directly, for benches and tests. Nothing is confined.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import {
  type Executable,
  type NamedTensors,
  nativeBackend,
  pickBackend,
  referenceBackend,
} from '../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../src/formats/index.ts';
import { encodeShown } from './drawing.ts';
import { loadKernels } from './kernels.ts';
import { LocalModel } from './local-model.ts';
import { MAX_SHOWN_BYTES, parseShown, type ShownForm } from './shown.ts';
import { summarise } from './summary.ts';
import type { Walls } from './walls.ts';

/** Opens the sandbox that is none. */
export function openNoWalls(): Walls {
  const models = new Set<LocalModel>();
  return {
    async load(bytes, name, limits) {
      const constants = bytesSource(bytes);
      const graph = parseOnnx(constants);
      const summary = summarise(graph, bytes.length);
      const kernels = loadKernels();
      const native = kernels.host && nativeBackend(kernels.host);
      const { backend, reasons } = pickBackend(graph, { native, reference: referenceBackend, constants });
      const executable: Executable = backend.prepare(graph, { constants, limitBytes: limits.memoryMb * 1_048_576 });
      const report = {
        summary,
        backend: backend === native ? ('native' as const) : ('reference' as const),
        why: backend === native || kernels.host === undefined ? kernels.why : reasons.join('; ').slice(0, 1_000),
        get memory() {
          return executable.memory;
        },
      };
      const hosted = {
        report,
        run: (inputs: NamedTensors) => executable.runSync(inputs),
        show: (form: ShownForm, outputBytes: number) => {
          const limitBytes = Math.min(outputBytes, MAX_SHOWN_BYTES);
          return parseShown(encodeShown(graph, form, limitBytes), form, limitBytes);
        },
        close: () => executable.close(),
      };
      const model: LocalModel = new LocalModel(name, limits, hosted, () => models.delete(model));
      models.add(model);
      return model;
    },
    async evaluate() {
      const message = 'a script is not run without walls: open the sandbox with isolation process or isolate';
      throw new CloisterError('INVALID_ARGUMENT', message);
    },
    settled: async () => {},
    async close() {
      await Promise.all([...models].map(model => model.close()));
    },
  };
}
