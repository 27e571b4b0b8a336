/**
 * The capability `kernels`: programs on the native kernels, verified first.
 * @module
 */
import { loadBinding, type NativeProgramHost, openProgramHost } from '../../native/index.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { bytesOf, type Capability, Refusal } from './capability.ts';

/** Runs programs. Each is verified as if it were hostile, which it may be, before anything of it runs. */
export const KERNELS: Capability<'memoryMb' | 'work'> = {
  name: 'kernels',
  sees: '{ info(): { isa: string; programVersion: number; gemmPanel: number } | undefined; run(program: ArrayBuffer, inputs: ArrayBuffer): ArrayBuffer }',
  does: 'Verifies a program and runs it once: its inputs lie one after the other in `inputs`, its outputs so in the answer.',
  records: 'nothing more',
  options: {
    calls: { default: 1_000, least: 0, most: 1_000_000 },
    bytes: { default: 268_435_456, least: 0, most: 1_099_511_627_776 },
    memoryMb: { default: 64, least: 1, most: 65_536 },
    work: { default: 4_294_967_296, least: 1, most: 17_592_186_044_416 },
  },
  guest: `use => ({
    __proto__: null,
    info: () => { const info = use('info'); return info === '' ? undefined : JSON.parse(info); },
    run: (program, inputs) => use('run', program, inputs),
  })`,
  open({ memoryMb, work }, { model }, spend) {
    let host: NativeProgramHost | undefined;
    const opened = (): NativeProgramHost | undefined => {
      const binding = host === undefined ? loadBinding() : undefined;
      if (binding !== undefined) host = openProgramHost(binding, { limitWork: work });
      return host;
    };
    return {
      info: () => JSON.stringify(opened()?.info) ?? '',
      run(first, second) {
        const code = bytesOf(first, 'the program');
        const inputs = bytesOf(second, 'the inputs');
        const native = opened();
        if (native === undefined) throw new Refusal('form', 'there are no native kernels here');
        try {
          const program = native.load(code, model, memoryMb * 1_048_576);
          try {
            const sum = (bytes: readonly number[]): number => bytes.reduce((a, b) => a + b, 0);
            if (sum(program.inputBytes) !== inputs.length) {
              throw new Refusal('form', `expected inputs of ${sum(program.inputBytes)} bytes, got ${inputs.length}`);
            }
            spend(sum(program.outputBytes));
            const answer = new Uint8Array(sum(program.outputBytes));
            program.run(pieces(inputs, program.inputBytes), pieces(answer, program.outputBytes));
            return answer.buffer;
          } finally {
            program.close();
          }
        } catch (error) {
          if (!isCloisterError(error)) throw error;
          throw new Refusal(error.code === 'OUT_OF_MEMORY' ? 'limit' : 'form', error.message);
        }
      },
    };
  },
};

function pieces(bytes: Uint8Array, lengths: readonly number[]): Uint8Array[] {
  let at = 0;
  return lengths.map(length => {
    at += length;
    return bytes.subarray(at - length, at);
  });
}
