/**
 * Isolation `process`: every guest in a supervised worker process.
 * @module
 */
import type { Confinement } from './confinement/confinement.ts';
import { assertIsolatedVm } from './isolate.ts';
import type { PlanNotes } from './plan-notes.ts';
import { SupervisedPlugin } from './plugins/supervised-plugin.ts';
import { evaluateInWorker, SupervisedModel } from './supervisor.ts';
import type { Walls } from './walls.ts';
import { WorkerPool } from './worker/pool.ts';

/** @throws {CloisterError} `MISSING_DEPENDENCY` when the workers would not find isolated-vm. */
export function openProcessWalls(warm: number, plans: PlanNotes | undefined, confinement: Confinement): Walls {
  assertIsolatedVm();
  const pool = new WorkerPool(warm, undefined, confinement);
  return {
    load: ({ signal, ...request }) => SupervisedModel.open({ pool, plans, ...request }, signal),
    evaluate: request => evaluateInWorker(pool, request),
    plug: request => SupervisedPlugin.open(pool, request),
    settled: () => pool.settled(),
    close: () => pool.close(),
  };
}
