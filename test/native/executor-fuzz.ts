/**
 * Run by `executor-fuzz.test.ts` in a child process: corrupts valid programs and feeds them to the executor. Prints one
 * line of JSON. A crash ends this process and nothing else.
 * @module
 */

import { loadBinding } from '../../native/loader.ts';
import { type NativeProgramHost, openProgramHost } from '../../native/program-host.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { numbers, seedPrograms } from './program-seeds.ts';

const runs = Number(process.argv[2]);
const next = numbers(Number(process.argv[3]));
const below = (limit: number): number => Math.floor(((next() + 1) / 2) * limit);
const LIMIT_BYTES = 2 ** 20;
const INTERESTING = [0, 1, 2, 3, 4, 8, 64, 255, 1024, 2 ** 20, 2 ** 30, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 0x7fc00000];

const binding = loadBinding()!;
const [zeros, ones] = [0x00, 0xff].map(fill => openProgramHost(binding, { fill, limitWork: 2 ** 23 }));
const seeds = seedPrograms();
const count = { runs, refused: 0, harmless: 0, leaks: 0, unexpected: 0 };
for (let i = 0; i < runs; i++) {
  const { program, model } = seeds[below(seeds.length)]!;
  const corrupted = corrupt(program);
  const first = attempt(zeros!, corrupted, model);
  if (first === undefined) continue;
  const second = attempt(ones!, corrupted, model);
  if (second !== undefined && Buffer.compare(first, second) === 0) count.harmless++;
  else count.leaks++;
}
console.log(JSON.stringify(count));

/** One to three corruptions: of a bit, of a word, or of the length. */
function corrupt(program: Uint8Array): Uint8Array {
  let bytes = program.slice();
  for (let n = 1 + below(3); n > 0; n--) {
    if (below(64) === 0) bytes = bytes.slice(0, below(bytes.length + 1));
    if (bytes.length < 4) continue;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const words = Math.floor(bytes.length / 4);
    const at = 4 * below(words);
    const was = view.getUint32(at, true);
    const changed = [
      () => (was ^ (1 << below(32))) >>> 0,
      () => was + 1,
      () => was - 1,
      () => was + 64 * below(9) - 256,
      () => INTERESTING[below(INTERESTING.length)]!,
      () => view.getUint32(4 * below(words), true),
      () => below(100),
    ][below(7)]!();
    view.setUint32(at, changed, true);
  }
  return bytes;
}

/** The outputs, or undefined when the program was refused as it should be. */
function attempt(host: NativeProgramHost, program: Uint8Array, model: Uint8Array): Uint8Array | undefined {
  try {
    const loaded = host.load(program, model, LIMIT_BYTES);
    const inputs = loaded.inputBytes.map(length => {
      const bytes = new Uint8Array(length);
      new Float32Array(bytes.buffer, 0, length >> 2).forEach((_, i, floats) => {
        floats[i] = Math.sin(i);
      });
      return bytes;
    });
    const outputs = loaded.outputBytes.map(length => new Uint8Array(length));
    loaded.run(inputs, outputs);
    loaded.close();
    return Buffer.concat(outputs);
  } catch (error) {
    // INPUT_MISMATCH: data, which may be a corrupted constant, asked for what is not there.
    const codes = ['INVALID_PROGRAM', 'OUT_OF_MEMORY', 'INPUT_MISMATCH'] as const;
    if (codes.some(code => isCloisterError(error, code))) count.refused++;
    else count.unexpected++;
    return undefined;
  }
}
