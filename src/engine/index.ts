/**
 * The engine: the backend seam and the executors of graphs; plans and programs for native kernels. Pure.
 * @module
 */
export {
  type OnnxRuntimeModule,
  type OnnxRuntimeOptions,
  type OnnxRuntimeSession,
  type OnnxRuntimeTensor,
  onnxRuntimeBackend,
} from './adapters/onnxruntime.ts';
export { type BlasLibrary, type BlasMatrix, openBlasBackend } from './adapters/openblas.ts';
export { type ArenaPlan, planArena } from './arena.ts';
export { assignNodes, type CostTable, cutSegments, type NodeChoice, type Segment } from './assignment.ts';
export type {
  Backend,
  Executable,
  ExecuteOptions,
  MemoryReport,
  NamedTensors,
  NodeEvent,
  PrepareOptions,
} from './backend.ts';
export type { KernelInfo, LoadedProgram, ModelReader, ProgramHost } from './kernel-host.ts';
export { type MeasureOptions, measureCosts } from './measure-costs.ts';
export { ARENA_ALIGNMENT, type Lifetime, type MemoryPlan, planMemory } from './memory-planner.ts';
export { type MixedBackend, type MixedBackendOptions, type MixedExecutable, mixedBackend } from './mixed-backend.ts';
export { type NativeBackendOptions, nativeBackend } from './native-backend.ts';
export { fillOutputs } from './outputs.ts';
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
export * from './scheduler/index.ts';
export {
  type SelfTestFailure,
  type SelfTestOptions,
  type SelfTestReport,
  selfTest,
} from './self-test/self-test.ts';
