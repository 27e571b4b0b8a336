/**
 * Names, facts and sizes as a person reads them. Names come from model files, so nothing of them is trusted.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { DTYPES, elementCount } from '../../tensor/index.ts';
import { type Constant, type Facts, type Graph, isGraph, type Node, type ValueId } from '../graph.ts';

/** Bounds of what is written. */
export interface PrintOptions {
  /** Characters of the result, at most. Default 16,777,216. */
  readonly limitChars?: number;
}

/** Characters of one name that are shown. */
const MAX_NAME = 120;

/**
 * `text` with everything that a person cannot see spelt out as `\u{…}`: control characters, marks that turn the direction of
 * writing, halves of pairs, code points that have no character. Cut to `most` characters.
 */
export function visible(text: string, most: number = MAX_NAME): string {
  const shown = text.length <= most ? text : `${text.slice(0, most - 1)}…`;
  return shown.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, mark => `\\u{${mark.codePointAt(0)!.toString(16)}}`);
}

/** `f32[batch, 10]`. */
export function formatFacts({ dtype, shape }: Facts): string {
  const dims = shape.slice(0, 16).map(dim => (typeof dim === 'number' ? String(dim) : visible(dim, 40)));
  return `${dtype}[${dims.join(', ')}]`;
}

/** `Conv`, or `com.microsoft::Gelu`. */
export function operatorLabel({ domain, op }: Pick<Node, 'domain' | 'op'>): string {
  return visible(domain === '' ? op : `${domain}::${op}`, 60);
}

/** The bytes of a constant. */
export function constantBytes(graph: Graph, id: ValueId, constant: Constant): number {
  if (constant.kind === 'range') return constant.length;
  const { dtype, shape } = graph.values[id]!.facts;
  return elementCount(shape as readonly number[]) * DTYPES[dtype].bytes;
}

/** `bytes` in the unit that reads best. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  const power = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** power;
  return `${power === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[power]}`;
}

/** The attributes of a node that are not subgraphs, and those that are. */
export function sortAttributes(node: Node): {
  readonly plain: readonly (readonly [string, Exclude<Node['attributes'][string], Graph>])[];
  readonly graphs: readonly (readonly [string, Graph])[];
} {
  const plain: [string, Exclude<Node['attributes'][string], Graph>][] = [];
  const graphs: [string, Graph][] = [];
  for (const [name, value] of Object.entries(node.attributes)) {
    if (isGraph(value)) graphs.push([name, value]);
    else plain.push([name, value]);
  }
  return { plain, graphs };
}

/** Text that is put together piece by piece and refuses to become too long. */
export class Pieces {
  readonly #pieces: string[] = [];
  readonly #limit: number;
  readonly #what: string;
  #length = 0;

  constructor(what: string, { limitChars = 16_777_216 }: PrintOptions) {
    this.#what = what;
    this.#limit = limitChars;
  }

  /** @throws {CloisterError} `LIMIT_EXCEEDED` when the text would become longer than it may. */
  add(piece: string): void {
    this.#length += piece.length;
    if (this.#length > this.#limit) {
      const message = `${this.#what} of this graph has more than ${this.#limit} characters`;
      throw new CloisterError('LIMIT_EXCEEDED', message, { limitChars: this.#limit });
    }
    this.#pieces.push(piece);
  }

  line(text: string): void {
    this.add(`${text}\n`);
  }

  toString(): string {
    return this.#pieces.join('');
  }
}
