/**
 * Isolation `isolate`: every guest in an isolate of this process. Its limits stop careless code; hostile code can pass them.
 * @module
 */
import { HostedModel } from './hosted-model.ts';
import { evaluateGuest, Guest, loadIsolatedVm } from './isolate.ts';
import { loadKernels } from './kernels.ts';
import { LocalModel } from './local-model.ts';
import { outcomeOf } from './outcome.ts';
import type { Walls } from './walls.ts';

/** @throws {CloisterError} `MISSING_DEPENDENCY` without isolated-vm. */
export function openIsolateWalls(): Walls {
  loadIsolatedVm();
  const models = new Set<LocalModel>();
  return {
    async load(bytes, name, limits) {
      const guest = Guest.open({ memoryMb: limits.memoryMb });
      guest.lend(bytes);
      try {
        const hosted = await HostedModel.open({
          call: (op, header, payload) => guest.callSync(op, header, payload, limits.wallMs),
          kernels: loadKernels(),
          model: bytes,
          limitBytes: limits.memoryMb * 1_048_576,
        });
        const model = new LocalModel(name, limits, hosted, () => {
          models.delete(model);
          guest.close();
        });
        models.add(model);
        return model;
      } catch (error) {
        guest.close();
        throw error;
      }
    },
    async evaluate(source, limits) {
      const start = performance.now();
      const verdict = await evaluateGuest(source, limits);
      const wallMs = performance.now() - start;
      const usage = { wallMs, cpuMs: verdict.cpuMs, peakMb: undefined };
      if (verdict.kind !== 'limit') return Object.freeze({ outcome: verdict.kind, value: verdict.value, ...usage });
      return Object.freeze({ outcome: outcomeOf(verdict.error), value: verdict.error.message, ...usage });
    },
    settled: async () => {},
    async close() {
      await Promise.all([...models].map(model => model.close()));
    },
  };
}
