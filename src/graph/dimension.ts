/**
 * Symbolic sizes: polynomials over named sizes with integer coefficients, each with one spelling, so that `n*2+1` and `1+n+n` are the
 * same size wherever they meet.
 *
 * | spelling | means |
 * |---|---|
 * | `batch` | a size that the caller fixes at run time |
 * | `2*n+1`, `a*b-4` | computed from such sizes |
 * | `(n/2)`, `floor(n*1.5)` | a part that is no polynomial: a size of its own, named after its derivation |
 *
 * A name begins with a letter, `_` or `?` and goes on with letters, digits, `_`, `.`, `'` and `?`, and a hyphen before a letter, so
 * that `seq-len` is a name and `n-1` and `a - b` are not. Whatever is no expression, as some names that exporters write, is a name as
 * a whole.
 * @module
 */
import type { Dim } from './graph.ts';

/** Products of atoms (in order, joined by {@link TIMES}) with their coefficients. The empty product is the constant. */
type Polynomial = ReadonlyMap<string, number>;

const TIMES = '\u0001';
const MAX_TEXT = 200;
const MAX_TERMS = 16;
const MAX_DEPTH = 16;

/**
 * Returns the one spelling of the size that `text` describes: a number where nothing in it is unknown, `text` itself where it is no
 * expression.
 * @example
 * ```ts
 * canonicalDim('1 + n*2'); // '2*n+1'
 * canonicalDim('(2+2)*3'); // 12
 * canonicalDim('batch size'); // 'batch size': no expression, so a name
 * ```
 */
export function canonicalDim(text: string): Dim {
  const polynomial = parse(text);
  return polynomial ? print(polynomial) : text;
}

/** The product of sizes, in its one spelling; undefined where it passes the bounds of this module. */
export function productOf(dims: readonly Dim[]): Dim | undefined {
  let product: Polynomial | undefined = constant(1);
  for (const dim of dims) product = product && multiply(product, polynomialOf(dim));
  return product && print(product);
}

/** The sum of sizes, in its one spelling; undefined where it passes the bounds of this module. */
export function sumOf(dims: readonly Dim[]): Dim | undefined {
  let sum: Polynomial | undefined = constant(0);
  for (const dim of dims) sum = sum && add(sum, polynomialOf(dim), 1);
  return sum && print(sum);
}

/**
 * `dim` divided by `by`, where that leaves no rest whatever the names stand for, zero aside; undefined otherwise.
 * @example
 * ```ts
 * exactQuotient('6*a*b', '2*a'); // '3*b'
 * exactQuotient('a+1', 'a'); // undefined
 * ```
 */
export function exactQuotient(dim: Dim, by: Dim): Dim | undefined {
  const [above, below] = [polynomialOf(dim), polynomialOf(by)];
  if (below.size !== 1) return dim === by && dim !== 0 ? 1 : undefined;
  const [[divisor, factor]] = below as unknown as [[string, number]];
  const gone = divisor === '' ? [] : divisor.split(TIMES);
  const out = new Map<string, number>();
  for (const [product, coefficient] of above) {
    const atoms = product === '' ? [] : product.split(TIMES);
    for (const atom of gone) {
      const at = atoms.indexOf(atom);
      if (at < 0) return undefined;
      atoms.splice(at, 1);
    }
    if (factor === 0 || coefficient % factor !== 0) return undefined;
    out.set(atoms.join(TIMES), coefficient / factor);
  }
  return print(out);
}

/** The names that a size is made of: those that the caller can fix. */
export function namesOf(dim: Dim): readonly string[] {
  if (typeof dim === 'number') return [];
  const polynomial = parse(dim);
  if (!polynomial) return [dim];
  return [...new Set([...polynomial.keys()].flatMap(product => (product === '' ? [] : product.split(TIMES))))];
}

/**
 * The size for these sizes of its names, or of the expression as a whole; undefined where one is missing.
 * @example
 * ```ts
 * evaluateDim('2*n+1', { n: 4 }); // 9
 * ```
 */
export function evaluateDim(dim: Dim, sizes: Readonly<Record<string, number>>): number | undefined {
  if (typeof dim === 'number') return dim;
  if (Object.hasOwn(sizes, dim)) return sizes[dim];
  const polynomial = parse(dim);
  if (!polynomial) return undefined;
  let sum = 0;
  for (const [product, coefficient] of polynomial) {
    let term = coefficient;
    for (const atom of product === '' ? [] : product.split(TIMES)) {
      if (!Object.hasOwn(sizes, atom)) return undefined;
      term *= sizes[atom]!;
    }
    sum += term;
  }
  return Number.isSafeInteger(sum) ? sum : undefined;
}

/**
 * Returns `dim` with these sizes in the place of its names: a number where all are there.
 * @example
 * ```ts
 * substituteDim('2*n+m', { n: 4 }); // 'm+8'
 * ```
 */
export function substituteDim(dim: Dim, sizes: Readonly<Record<string, number>>): Dim {
  if (typeof dim === 'number') return dim;
  if (Object.hasOwn(sizes, dim)) return sizes[dim]!;
  const polynomial = parse(dim);
  if (!polynomial) return dim;
  let sum: Polynomial | undefined = new Map();
  for (const [product, coefficient] of polynomial) {
    let term: Polynomial | undefined = constant(coefficient);
    for (const atom of product === '' ? [] : product.split(TIMES)) {
      term = term && multiply(term, Object.hasOwn(sizes, atom) ? constant(sizes[atom]!) : new Map([[atom, 1]]));
    }
    sum = sum && term && add(sum, term, 1);
  }
  return sum ? print(sum) : dim;
}

/** A shape as it was declared, and as it is. */
export interface ShapePair {
  readonly declared: readonly Dim[];
  readonly actual: readonly number[];
}

/** What {@link bindSizes} found. */
export type BoundSizes = {
  /** By name; an expression whose names are not known has its size as a whole. */
  readonly sizes: Readonly<Record<string, number>>;
  /** The first pair that fits neither its declaration nor the sizes that others have, if any. */
  readonly conflict: number | undefined;
};

/**
 * Finds the size of every name from shapes: names that stand alone first, then what expressions say of names that do not.
 * @example
 * ```ts
 * const past = { declared: ['batch', 'past+1'], actual: [2, 9] };
 * bindSizes([past]).sizes['past']; // 8
 * ```
 */
export function bindSizes(pairs: readonly ShapePair[]): BoundSizes {
  const sizes: Record<string, number> = Object.create(null);
  const conflict = (index: number): BoundSizes => ({ sizes, conflict: index });
  for (const [index, { declared, actual }] of pairs.entries()) {
    if (declared.length !== actual.length) return conflict(index);
    for (const [i, dim] of declared.entries()) {
      if (typeof dim === 'number' && dim !== actual[i]) return conflict(index);
      if (typeof dim === 'number' || namesOf(dim)[0] !== dim) continue;
      sizes[dim] ??= actual[i]!;
      if (sizes[dim] !== actual[i]) return conflict(index);
    }
  }
  for (const [index, { declared, actual }] of pairs.entries()) {
    for (const [i, dim] of declared.entries()) {
      if (typeof dim === 'number' || namesOf(dim)[0] === dim) continue;
      if (!solve(dim, actual[i]!, sizes)) return conflict(index);
    }
  }
  return { sizes, conflict: undefined };
}

/** Whether an expression can have this size; what it says of its one unknown name is added to `sizes`. */
function solve(dim: string, size: number, sizes: Record<string, number>): boolean {
  const known = evaluateDim(dim, sizes);
  if (known !== undefined) return known === size;
  const open = namesOf(dim).filter(name => !Object.hasOwn(sizes, name));
  const [name, other] = open;
  const rest = name === undefined || other !== undefined ? undefined : evaluateDim(dim, { ...sizes, [name]: 0 });
  const one = rest === undefined ? undefined : evaluateDim(dim, { ...sizes, [name!]: 1 });
  const two = rest === undefined ? undefined : evaluateDim(dim, { ...sizes, [name!]: 2 });
  if (rest === undefined || one === undefined || two === undefined || two - one !== one - rest || one === rest) {
    sizes[dim] = size; // not linear in one name: known as a whole
    return true;
  }
  const value = (size - rest) / (one - rest);
  if (!Number.isSafeInteger(value) || value < 0) return false;
  sizes[name!] = value;
  return true;
}

function polynomialOf(dim: Dim): Polynomial {
  return typeof dim === 'number' ? constant(dim) : (parse(dim) ?? new Map([[dim, 1]]));
}

function constant(value: number): Polynomial {
  return value === 0 ? new Map() : new Map([['', value]]);
}

function add(a: Polynomial, b: Polynomial, sign: 1 | -1): Polynomial | undefined {
  const sum = new Map(a);
  for (const [product, coefficient] of b) {
    const total = (sum.get(product) ?? 0) + sign * coefficient;
    if (!Number.isSafeInteger(total)) return undefined;
    if (total === 0) sum.delete(product);
    else sum.set(product, total);
  }
  return sum.size <= MAX_TERMS ? sum : undefined;
}

function multiply(a: Polynomial, b: Polynomial): Polynomial | undefined {
  let out: Polynomial | undefined = new Map();
  for (const [left, x] of a) {
    for (const [right, y] of b) {
      const atoms = [left, right].flatMap(product => (product === '' ? [] : product.split(TIMES))).sort();
      if (!Number.isSafeInteger(x * y)) return undefined;
      out = out && add(out, new Map([[atoms.join(TIMES), x * y]]), 1);
    }
  }
  return out;
}

/** Products before the constant, longer ones first, then by name. */
function print(polynomial: Polynomial): Dim {
  const degree = (product: string): number => (product === '' ? 0 : product.split(TIMES).length);
  const terms = [...polynomial].sort(([a], [b]) => degree(b) - degree(a) || (a < b ? -1 : 1));
  if (terms.length === 0) return 0;
  if (terms.length === 1 && terms[0]![0] === '') return terms[0]![1];
  let text = '';
  for (const [product, coefficient] of terms) {
    const size = Math.abs(coefficient);
    const factors = [...(size === 1 && product !== '' ? [] : [size]), ...(product === '' ? [] : product.split(TIMES))];
    // Spaces keep a difference of two names from being read as one name with a hyphen.
    const minus = text === '' || typeof factors[0] === 'number' ? '-' : ' - ';
    text += `${coefficient < 0 ? minus : text === '' ? '' : '+'}${factors.join('*')}`;
  }
  return text;
}

const NAME = /[A-Za-z_?](?:[\w.'?]|-(?=[A-Za-z_]))*/y;
const INTEGER = /\d{1,15}(?![\w.])/y;

/** Expressions that were read lately: a graph says the same few over and over. */
const seen = new Map<string, Polynomial | undefined>();
const MAX_SEEN = 256;

/** The polynomial of an expression; undefined where `text` is none, or passes the bounds. */
function parse(text: string): Polynomial | undefined {
  if (text.length > MAX_TEXT) return undefined;
  const known = seen.get(text);
  if (known !== undefined || seen.has(text)) return known;
  const polynomial = new Parser(text).parse();
  if (seen.size === MAX_SEEN) seen.clear();
  seen.set(text, polynomial);
  return polynomial;
}

/** Sums of products of integers, names, parts in parentheses, and calls, which are names as a whole. */
class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Polynomial | undefined {
    const sum = this.#sum(0);
    this.#space();
    return this.#at === this.#text.length ? sum : undefined;
  }

  #sum(depth: number): Polynomial | undefined {
    let sum = this.#product(depth);
    for (let sign = this.#operator('+-'); sum && sign; sign = this.#operator('+-')) {
      const next = this.#product(depth);
      sum = next && add(sum, next, sign === '+' ? 1 : -1);
    }
    return sum;
  }

  #product(depth: number): Polynomial | undefined {
    let product = this.#factor(depth);
    for (let sign = this.#operator('*/'); product && sign; sign = this.#operator('*/')) {
      const next = this.#factor(depth);
      if (!next) return undefined;
      product = sign === '*' ? multiply(product, next) : divide(product, next);
    }
    return product;
  }

  #factor(depth: number): Polynomial | undefined {
    if (depth > MAX_DEPTH) return undefined;
    this.#space();
    const start = this.#at;
    if (this.#operator('-')) {
      const factor = this.#factor(depth + 1);
      return factor && add(new Map(), factor, -1);
    }
    const integer = this.#match(INTEGER);
    if (integer !== undefined) return constant(Number(integer));
    const name = this.#match(NAME);
    if (this.#text[this.#at] !== '(') return name === undefined ? undefined : new Map([[name, 1]]);
    if (name !== undefined) {
      // A call says how a size was derived; nothing is computed from it.
      const end = this.#closing();
      if (end === undefined) return undefined;
      this.#at = end;
      return new Map([[this.#text.slice(start, end).replaceAll(' ', ''), 1]]);
    }
    this.#at++;
    const inner = this.#sum(depth + 1);
    return inner && this.#operator(')') ? inner : undefined;
  }

  /** Behind the parenthesis that closes the one here. */
  #closing(): number | undefined {
    let open = 0;
    for (let at = this.#at; at < this.#text.length; at++) {
      if (this.#text[at] === '(') open++;
      else if (this.#text[at] === ')' && --open === 0) return at + 1;
    }
    return undefined;
  }

  #operator(signs: string): string | undefined {
    this.#space();
    const sign = this.#text[this.#at];
    if (sign === undefined || !signs.includes(sign)) return undefined;
    this.#at++;
    return sign;
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text)?.[0];
    if (match !== undefined) this.#at += match.length;
    return match;
  }

  #space(): void {
    while (this.#text[this.#at] === ' ') this.#at++;
  }
}

/** A quotient without rest, or a part of its own. */
function divide(a: Polynomial, b: Polynomial): Polynomial | undefined {
  const [above, below] = [print(a), print(b)];
  if (below === 0) return undefined;
  const exact = exactQuotient(above, below);
  if (exact !== undefined) return polynomialOf(exact);
  const bare = (dim: Dim): string => (/^[\w.'?]+$/.test(String(dim)) ? String(dim) : `(${dim})`);
  return new Map([[`(${bare(above)}/${bare(below)})`, 1]]);
}
