/**
 * The engine: the backend seam and the executors of graphs; plans and programs for native kernels. Pure.
 * @module
 */
export { type ArenaPlan, planArena } from './arena.ts';
export type {
  Backend,
  Executable,
  ExecuteOptions,
  MemoryReport,
  NamedTensors,
  NodeEvent,
  PrepareOptions,
} from './backend.ts';
export type { KernelInfo, LoadedProgram, ProgramHost } from './kernel-host.ts';
export { ARENA_ALIGNMENT, type Lifetime, type MemoryPlan, planMemory } from './memory-planner.ts';
export { type NativeBackendOptions, nativeBackend } from './native-backend.ts';
export { type BackendCandidates, type BackendChoice, pickBackend } from './pick-backend.ts';
export {
  type PlannedMemory,
  type PlannedPort,
  type PlannedProgram,
  type PlanOptions,
  planProgram,
} from './plan.ts';
export {
  decodePlan,
  encodePlan,
  PlanCache,
  type PlanCacheOptions,
  type PlanOrigin,
  type PlanStore,
} from './plan-cache.ts';
export {
  joinProfiles,
  type Profile,
  type ProfiledNode,
  type ProfiledOperator,
  type ProfileOptions,
  profileRun,
  type TraceEvent,
  toTrace,
} from './profile.ts';
export { PROGRAM_LIMITS, PROGRAM_VERSION } from './program.ts';
export { checkInputs, referenceBackend, referenceBackendOf } from './reference.ts';
