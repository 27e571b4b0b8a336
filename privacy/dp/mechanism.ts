/**
 * What every mechanism looks like from outside.
 * @module
 */
import type { DpEvent } from './event.ts';
import type { Adjacency } from './parameters.ts';
import type { Private, Released } from './private.ts';

/**
 * A randomised map ready to run, built from public parameters alone. What it costs is in `event`, known before it reads
 * anything, and holds for neighbours by `A`: a private value that was made under another relation does not compile.
 */
export interface Mechanism<In, Out, A extends Adjacency = 'add-remove'> {
  readonly neighboring: A;
  readonly event: DpEvent;
  /**
   * Takes the answer out of `held`, so nothing can be released twice, and returns a noised one. Never throws because of what
   * `held` holds.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `held` was released before.
   */
  release(held: Private<In, A>): Released<Out>;
}
