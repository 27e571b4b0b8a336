/**
 * Isolation `isolate`: every guest in an isolate of this process. Its limits stop careless code; hostile code can pass them.
 * @module
 */
import { HostedModel, NeedsFiles } from './hosted-model.ts';
import { evaluateGuest, Guest, loadIsolatedVm } from './isolate.ts';
import { loadKernels } from './kernels.ts';
import { LocalModel } from './local-model.ts';
import { addFiles, aloneModel, digestModel, type ModelFiles } from './model-files.ts';
import { outcomeOf } from './outcome.ts';
import type { PlanNotes } from './plan-notes.ts';
import type { LoadRequest, Walls } from './walls.ts';

/** @throws {CloisterError} `MISSING_DEPENDENCY` without isolated-vm. */
export function openIsolateWalls(plans: PlanNotes | undefined): Walls {
  loadIsolatedVm();
  const models = new Set<LocalModel>();
  return {
    async load(request) {
      const { bytes, name, limits, dims } = request;
      const guest = Guest.open({ memoryMb: limits.memoryMb });
      try {
        const { hosted, files } = await openHosted(guest, aloneModel(bytes), request, plans);
        const release = (): void => {
          models.delete(model);
          guest.close();
        };
        const model: LocalModel = new LocalModel({ name, limits, files, dims, executable: hosted, release });
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

/** Loads a model, with the files that it turns out to need. */
async function openHosted(
  guest: Guest,
  files: ModelFiles,
  request: LoadRequest,
  plans: PlanNotes | undefined,
): Promise<{ readonly hosted: HostedModel; readonly files: ModelFiles }> {
  const { limits, dims, external } = request;
  guest.lend(files.bytes);
  const kernels = loadKernels();
  const kernel = kernels.host?.info;
  const of = plans && kernel && { digest: digestModel(files), dims, kernel };
  const hosted = await HostedModel.open({
    call: (op, header, payload) => guest.callSync(op, header, payload, limits.wallMs),
    kernels,
    model: files,
    dims,
    plan: of && plans?.get(of),
    limitBytes: limits.memoryMb * 1_048_576,
  });
  if (hosted instanceof NeedsFiles) {
    return openHosted(guest, await addFiles(files, hosted.asked, external, limits.modelBytes), request, plans);
  }
  if (of && hosted.freshPlan) plans?.set(of, hosted.freshPlan);
  return { hosted, files };
}
