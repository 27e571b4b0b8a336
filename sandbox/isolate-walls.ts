/**
 * Isolation `isolate`: every guest in an isolate of this process. Its limits stop careless code; hostile code can pass them.
 * @module
 */
import { evaluateGuest } from './evaluation.ts';
import type { GivenModel } from './given-model.ts';
import { HostedModel, NeedsFiles } from './hosted-model.ts';
import { Guest, loadIsolatedVm } from './isolate.ts';
import { loadKernels } from './kernels.ts';
import { changesBetween } from './lending/kv-store.ts';
import { LocalModel, type LocalVersion } from './local-model.ts';
import { addFiles, aloneModel, digestModel, type ModelFiles } from './model-files.ts';
import { outcomeOf } from './outcome.ts';
import type { PlanNotes } from './plan-notes.ts';
import { pluggedCall, plugInto } from './plugins/hosted-plugin.ts';
import { LocalPlugin } from './plugins/local-plugin.ts';
import type { LoadRequest, Walls } from './walls.ts';

/** @throws {CloisterError} `MISSING_DEPENDENCY` without isolated-vm. */
export function openIsolateWalls(plans: PlanNotes | undefined): Walls {
  loadIsolatedVm();
  const models = new Set<LocalModel>();
  const plugins = new Set<LocalPlugin>();
  return {
    async load(request) {
      const load = async (given: GivenModel): Promise<LocalVersion> => {
        const guest = Guest.open({ memoryMb: request.limits.memoryMb });
        try {
          const { memoryMb, wallMs } = request.limits;
          await plugInto(guest, request.plugins?.plugins ?? [], { memoryMb, wallMs, onLine: () => {} });
          const { hosted, files } = await openHosted(guest, aloneModel(given.bytes), { ...request, ...given }, plans);
          return { executable: hosted, files, dims: given.dims, release: () => guest.close() };
        } catch (error) {
          guest.close();
          throw error;
        }
      };
      const model = await LocalModel.open({ ...request, load, closed: model => models.delete(model) }, request);
      models.add(model);
      return model;
    },
    async evaluate({ source, limits, lent, seed, entries, model, signal }) {
      const start = performance.now();
      const before = new Map(entries);
      const messages: string[] = [];
      const given = { lent, seed, entries, model, signal, onLine: (line: string) => void messages.push(line) };
      const verdict = await evaluateGuest(source, { ...limits, ...given });
      const wallMs = performance.now() - start;
      const { cpuMs, uses } = verdict;
      const [outcome, value] =
        verdict.kind === 'limit'
          ? ([outcomeOf(verdict.error), verdict.error.message] as const)
          : ([verdict.kind, verdict.value] as const);
      const evaluation = Object.freeze({
        outcome,
        value,
        messages: Object.freeze(messages),
        uses,
        wallMs,
        cpuMs,
        peakMb: undefined,
      });
      return { evaluation, changes: changesBetween(before, entries) };
    },
    async plug(request) {
      const plugin = await LocalPlugin.open(request);
      plugins.add(plugin);
      return plugin;
    },
    settled: async () => {},
    async close() {
      await Promise.all([...plugins].map(plugin => plugin.close()));
      await Promise.all([...models].map(model => model.close()));
    },
  };
}

/** Loads a model, with the files that it turns out to need. */
async function openHosted(
  guest: Guest,
  files: ModelFiles,
  request: LoadRequest,
  notes: PlanNotes | undefined,
): Promise<{ readonly hosted: HostedModel; readonly files: ModelFiles }> {
  const { limits, dims, external, plugins } = request;
  const plans = plugins === undefined ? notes : undefined; // a plan says nothing of what plugins change
  guest.lend(files.bytes);
  const kernels = loadKernels();
  const kernel = kernels.host?.info;
  const of = plans && kernel && { digest: digestModel(files), dims, kernel };
  const hosted = await HostedModel.open({
    call:
      plugins === undefined
        ? (op, header, payload) => guest.callSync(op, header, payload, limits.wallMs)
        : pluggedCall(guest, limits.wallMs),
    interpret: plugins?.interpret,
    kernels,
    model: files,
    dims,
    plan: of && plans?.get(of),
    limitBytes: limits.memoryMb * 1_048_576,
  });
  if (hosted instanceof NeedsFiles) {
    return openHosted(guest, await addFiles(files, hosted.asked, external, limits.modelBytes), request, notes);
  }
  if (of && hosted.freshPlan) plans?.set(of, hosted.freshPlan);
  return { hosted, files };
}
