/**
 * The engine: the backend seam and the executors of graphs. Pure.
 * @module
 */
export type { Backend, Executable, MemoryReport, NamedTensors, PrepareOptions } from './backend.ts';
export type { KernelInfo, LoadedProgram, ProgramHost } from './kernel-host.ts';
