/**
 * What an ONNX file may ask of its reader.
 * @module
 */
import { CloisterError } from '../../base/index.ts';

/** The most of each thing that a model may have. All are checked before anything is allocated for them. */
export interface OnnxLimits {
  /** The file. */
  readonly bytes: number;
  readonly nodes: number;
  /** Initialisers and Constant nodes together. */
  readonly constants: number;
  /** Inputs and outputs of the graph together. */
  readonly ports: number;
  /** Inputs and outputs of all nodes together. */
  readonly edges: number;
  /** Attributes of all nodes together. */
  readonly attributes: number;
  /** Items in the list attributes of all nodes together. Each takes at least a byte of the file, and 8 of memory. */
  readonly listItems: number;
  /** Elements of tensors that are fields of their own: strings, numbers that are not packed, keys of external data. */
  readonly tensorFields: number;
  /** One name or string, in bytes of UTF-8. */
  readonly stringBytes: number;
  /**
   * Constants that are decoded into memory, because the file does not hold them as plain little-endian bytes; and the strings of list
   * attributes, each counted once while there are few of them.
   */
  readonly inlineBytes: number;
}

/** Limits that real models stay far below. */
export const DEFAULT_ONNX_LIMITS: OnnxLimits = Object.freeze({
  bytes: 2 ** 31 - 1, // protobuf itself has no larger messages
  nodes: 100_000,
  constants: 100_000,
  ports: 10_000,
  edges: 1_000_000,
  attributes: 1_000_000,
  // A forest has some 9 lists with an item per node and 4 with one per leaf and class: 100 trees of 1,000 nodes take 0.9 to 3 million
  // items, 500 trees of 3,000 nodes up to 15 million. All items together are at most 128 MiB of numbers.
  listItems: 2 ** 24,
  tensorFields: 1_000_000,
  stringBytes: 4096,
  inlineBytes: 64 * 2 ** 20,
});

/** Counts what has been used of each limit. */
export class LimitCounter {
  readonly limits: OnnxLimits;
  readonly #used: Partial<Record<keyof OnnxLimits, number>> = {};

  constructor(limits: OnnxLimits) {
    this.limits = limits;
  }

  /** Takes `amount` of a limit. @throws {CloisterError} `MODEL_TOO_LARGE` naming the limit and the byte where it was reached. */
  take(limit: keyof OnnxLimits, amount: number, at: number): void {
    const used = (this.#used[limit] ?? 0) + amount;
    this.#used[limit] = used;
    if (used > this.limits[limit]) {
      const message = `the model passes the limit of ${this.limits[limit]} ${limit} (at byte ${at})`;
      throw new CloisterError('MODEL_TOO_LARGE', message, { limit, most: this.limits[limit], at });
    }
  }
}
