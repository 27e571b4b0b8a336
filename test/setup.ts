/**
 * Builds the guest bundle once before any test file runs: the sandbox loads it from `dist/`, and a test must never run
 * against the bundle of an earlier tree.
 * @module
 */
import { buildGuest } from '../sandbox/guest/build.ts';

export default async function setup(): Promise<void> {
  await buildGuest();
}
