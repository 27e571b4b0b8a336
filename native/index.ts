/**
 * Native kernels and the program executor: SIMD rows behind one dispatch table, verified programs on top. Everything
 * here is optional: without the binary {@link loadNative} returns `undefined` and the reference backend serves.
 * @module
 */
export { canForbidDump, forbidDump } from './dump.ts';
export {
  type BinaryOp,
  type CopyShape,
  type Epilogue,
  forceIsa,
  type GemmShape,
  type KernelDetails,
  kernelInfo,
  loadNative,
  type NativeAddon,
  type OuterInner,
  type PoolOp,
  type ReduceOp,
  type UnaryOp,
  type Window,
} from './kernels.ts';
export { findLauncher, type Launcher, packageRoot } from './launcher.ts';
export { type Binding, loadBinding, type NativeStatus, nativeStatus } from './loader.ts';
export { type MappedFile, mapFile } from './map-file.ts';
export { type ModelFile, openModelFile } from './model-file.ts';
export {
  type MatrixOperand,
  type MatrixProduct,
  type OpenBlas,
  type OpenBlasStatus,
  openBlas,
} from './openblas.ts';
export {
  type ModelReader,
  type NativeProgram,
  type NativeProgramHost,
  openProgramHost,
  type ProgramHostOptions,
  type ProgramMemory,
} from './program-host.ts';
export { createSharedMemory, mapSharedMemory, type SharedMemory } from './shared-memory.ts';
export { type ThreadInfo, threadInfo } from './threads.ts';
