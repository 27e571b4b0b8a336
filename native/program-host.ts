/**
 * The program host: verified programs on the native executor.
 * @module
 */
import type { Binding } from './loader.ts';

/** The executor's part of the addon's exports. */
interface ExecutorBinding {
  readonly programVersion: number;
}

/** Version of the program format that the executor of `binding` verifies. */
export function programVersion(binding: Binding): number {
  return (binding as unknown as ExecutorBinding).programVersion;
}
