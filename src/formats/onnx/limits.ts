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
  /** Items in the list attributes of all nodes together. */
  readonly listItems: number;
  /** One name or string, in bytes of UTF-8. */
  readonly stringBytes: number;
  /** Constants that are decoded into memory, because the file does not hold them as plain little-endian bytes. */
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
  listItems: 1_000_000,
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
