/**
 * Isolation `process`: every guest in a supervised worker process.
 * @module
 */
import { assertIsolatedVm } from './isolate.ts';
import { evaluateInWorker, SupervisedModel, WorkerPool } from './supervisor.ts';
import type { Walls } from './walls.ts';

/** @throws {CloisterError} `MISSING_DEPENDENCY` when the workers would not find isolated-vm. */
export function openProcessWalls(warm: number): Walls {
  assertIsolatedVm();
  const pool = new WorkerPool(warm);
  return {
    load: (bytes, name, limits, signal) => SupervisedModel.open({ pool, bytes, name, limits }, signal),
    evaluate: (source, limits, signal) => evaluateInWorker(pool, source, limits, signal),
    settled: () => pool.settled(),
    close: () => pool.close(),
  };
}
