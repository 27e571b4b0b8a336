/**
 * What an operation takes on node-seal, for choosing between plans and for telling a user in advance. Pure.
 * @module
 */

/** Operations of an evaluator. */
export type HeOperation =
  | 'rotate'
  | 'relinearise'
  | 'multiply'
  | 'multiplyPlain'
  | 'rescale'
  | 'add'
  | 'addPlain'
  | 'modSwitch';

/**
 * Milliseconds of one operation on one core at 2.5 GHz: fitted to node-seal 7 at degrees 8192 (3 and 7 primes) and 16,384 (7 primes),
 * within about a tenth. Key switching grows with the square of the primes, all else with their number.
 *
 * @param primes - Data primes at the level of the operation.
 */
export function milliseconds(operation: HeOperation, degree: number, primes: number): number {
  const size = (degree / 8192) * (Math.log2(degree) / 13);
  switch (operation) {
    case 'rotate':
    case 'relinearise':
      return size * (0.288 * primes * primes + 1.413 * primes);
    case 'multiply':
      return size * 0.51 * primes;
    case 'multiplyPlain':
      return size * 0.25 * primes;
    case 'rescale':
      return size * 0.55 * primes;
    case 'add':
    case 'addPlain':
    case 'modSwitch':
      return size * 0.025 * primes;
    default:
      operation satisfies never;
      return 0;
  }
}
