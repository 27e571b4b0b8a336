/**
 * The capability `readModel`: ranges of a model's bytes.
 * @module
 */
import { type Capability, Refusal, wholeNumber } from './capability.ts';

/** The bytes of the model that the call was given, in ranges; none where it was given none. */
export const READ_MODEL: Capability<'rangeBytes'> = {
  name: 'readModel',
  sees: '{ readonly size: number; read(offset: number, length: number): ArrayBuffer }',
  does: "Copies a range of the model's bytes into the guest; a range that is not inside the model is refused.",
  records: 'nothing more',
  options: {
    calls: { default: 100_000, least: 0, most: 100_000_000 },
    bytes: { default: 1_073_741_824, least: 0, most: 1_099_511_627_776 },
    rangeBytes: { default: 67_108_864, least: 1, most: 268_435_456 },
  },
  guest: `use => ({
    __proto__: null,
    get size() { return Number(use('size')); },
    read: (offset, length) => use('read', offset, length),
  })`,
  open({ rangeBytes }, { model }, spend) {
    return {
      size: () => String(model.length),
      read(from, count) {
        const offset = wholeNumber(from, 'the offset');
        const length = wholeNumber(count, 'the length');
        if (length > rangeBytes)
          throw new Refusal('limit', `a range of ${length} bytes is over rangeBytes (${rangeBytes})`);
        if (offset + length > model.length) {
          throw new Refusal(
            'limit',
            `${length} bytes at ${offset} are not inside the model, which has ${model.length}`,
          );
        }
        spend(length);
        return new Uint8Array(model.subarray(offset, offset + length)).buffer;
      },
    };
  },
};
