/**
 * Seeds the properties of every test file, so that the same tree passes or fails the same way everywhere. New cases are
 * looked for on purpose: `CLOISTER_FUZZ_SEED=random npm test`, or any number; what fails prints its seed.
 * @module
 */
import fc from 'fast-check';

const seed = process.env['CLOISTER_FUZZ_SEED'] ?? '1';
if (seed !== 'random') fc.configureGlobal({ seed: Number(seed) });
