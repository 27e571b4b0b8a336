/**
 * The expression notation: text to a short program for a stack machine, and that program run against whoever knows what values are.
 *
 * ```
 * program    = { names "=" expression separator } expression
 * expression = "not" | "and" | "or" | comparison              (as in Python, loosest first: or, and, not)
 * comparison = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
 * sum        = product { ("+" | "-") product }
 * product    = unary { ("*" | "/" | "@") unary }
 * unary      = ("-" | "+") unary | postfix [ "**" unary ]
 * postfix    = atom { "(" arguments ")" | "[" subscripts "]" | "." name "(" arguments ")" }
 * atom       = number | string | name | hole | "(" expression ")" | "[" list "]"
 * ```
 * Statements end at a line's end outside of brackets, or at `;`. `#` starts a comment. Nothing here recurses deeper than
 * {@link MAX_DEPTH}, and the program is run by a loop, so no text costs more than a constant for each of its characters.
 * @module
 */
import { CloisterError, isCloisterError } from '../../base/index.ts';

/** Characters of one formula, at most. */
export const MAX_SOURCE = 65_536;
/** Brackets, signs and powers within one another, at most. */
export const MAX_DEPTH = 64;

/** One step of a compiled formula. `at` is where in the source it comes from. */
export type Step =
  | { readonly kind: 'push'; readonly at: number; readonly value: unknown }
  | { readonly kind: 'name'; readonly at: number; readonly name: string }
  | { readonly kind: 'hole'; readonly at: number; readonly index: number }
  | { readonly kind: 'list'; readonly at: number; readonly count: number }
  | {
      readonly kind: 'call';
      readonly at: number;
      /** Undefined: what is called lies on the stack, below the arguments. */
      readonly name: string | undefined;
      readonly positional: number;
      readonly keys: readonly string[];
      readonly outputs: number | undefined;
    }
  | { readonly kind: 'operator'; readonly at: number; readonly symbol: string; readonly operands: 1 | 2 }
  | { readonly kind: 'index'; readonly at: number; readonly items: readonly Subscript[] }
  | { readonly kind: 'store'; readonly at: number; readonly names: readonly string[] };

/** What one subscript takes from the stack. */
export type Subscript =
  | { readonly kind: 'at' | 'new' | 'rest' }
  | { readonly kind: 'slice'; readonly start: boolean; readonly end: boolean; readonly step: boolean };

/** A subscript with its values. */
export type SubscriptValue =
  | { readonly kind: 'at'; readonly value: unknown }
  | { readonly kind: 'new' }
  | { readonly kind: 'rest' }
  | { readonly kind: 'slice'; readonly start?: unknown; readonly end?: unknown; readonly step?: unknown };

/** A compiled formula. */
export interface Program {
  /** The text, with holes as `${1}`, `${2}` and so on. */
  readonly source: string;
  readonly steps: readonly Step[];
  /** Names that are used and not assigned before, each once, in order. Names of called operators are not among them. */
  readonly names: readonly string[];
}

/** What a program is run against. */
export interface Machine {
  /** What a name stands for; undefined where nothing. */
  name(name: string): unknown;
  hole(index: number): unknown;
  /** Calls an operator by name, or a function that a name or hole stood for. More than one result is an array. */
  call(
    callee: unknown,
    positional: readonly unknown[],
    named: Readonly<Record<string, unknown>>,
    outputs: number | undefined,
  ): unknown;
  operator(symbol: string, operands: readonly unknown[]): unknown;
  index(value: unknown, items: readonly SubscriptValue[]): unknown;
}

/** An error with the line it is about and a caret under the column. */
function errorAt(source: string, at: number, message: string, cause?: unknown): CloisterError {
  const start = source.lastIndexOf('\n', at - 1) + 1;
  const stop = source.indexOf('\n', at);
  const line = source.slice(start, stop === -1 ? source.length : stop);
  const column = at - start;
  // A long line is shown around the column.
  const left = column > 60 ? column - 50 : 0;
  const shown = line.slice(left, left + 100).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, ' ');
  const row = source.slice(0, start).split('\n').length;
  const where = `line ${row}, column ${column + 1}`;
  const text = `${message} (${where})\n  ${shown}\n  ${' '.repeat(column - left)}^`;
  const { code, detail } = isCloisterError(cause) ? cause : { code: 'INVALID_ARGUMENT' as const, detail: {} };
  return new CloisterError(code, text, { ...detail, line: row, column: column + 1 }, cause ? { cause } : undefined);
}

/**
 * Compiles the parts of a formula, between which the holes lie.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with a caret under what does not fit.
 */
export function compile(parts: readonly string[]): Program {
  return new Parser(parts).program();
}

/** Runs a compiled formula. An error of the machine is thrown again with the place in the source. */
export function run(program: Program, machine: Machine): unknown {
  const stack: unknown[] = [];
  const locals = new Map<string, unknown>();
  const take = (count: number): unknown[] => stack.splice(stack.length - count, count);
  const lookup = (name: string): unknown => (locals.has(name) ? locals.get(name) : machine.name(name));
  for (const step of program.steps) {
    try {
      switch (step.kind) {
        case 'push':
          stack.push(step.value);
          break;
        case 'name': {
          const value = lookup(step.name);
          if (value === undefined) throw new CloisterError('INVALID_ARGUMENT', `nothing is called ${step.name}`);
          stack.push(value);
          break;
        }
        case 'hole':
          stack.push(machine.hole(step.index));
          break;
        case 'list':
          stack.push(take(step.count));
          break;
        case 'call': {
          const values = take(step.positional + step.keys.length);
          const named: Record<string, unknown> = Object.create(null);
          step.keys.forEach((key, i) => {
            named[key] = values[step.positional + i];
          });
          const bound = step.name === undefined ? stack.pop() : lookup(step.name);
          const callee = typeof bound === 'function' || step.name === undefined ? bound : step.name;
          stack.push(machine.call(callee, values.slice(0, step.positional), named, step.outputs));
          break;
        }
        case 'operator':
          stack.push(machine.operator(step.symbol, take(step.operands)));
          break;
        case 'index': {
          const items = step.items.toReversed().map((item): SubscriptValue => {
            if (item.kind === 'at') return { kind: 'at', value: stack.pop() };
            if (item.kind !== 'slice') return { kind: item.kind };
            const [by, end, start] = [item.step, item.end, item.start].map(has => (has ? stack.pop() : undefined));
            return { kind: 'slice', start, end, step: by };
          });
          stack.push(machine.index(stack.pop(), items.reverse()));
          break;
        }
        case 'store': {
          const value = stack.pop();
          const values = step.names.length === 1 ? [value] : (value as readonly unknown[]);
          step.names.forEach((name, i) => {
            locals.set(name, values[i]);
          });
          break;
        }
        default:
          step satisfies never;
      }
    } catch (error) {
      if (!isCloisterError(error)) throw error;
      throw errorAt(program.source, step.at, error.message, error);
    }
  }
  return stack.pop();
}

interface Token {
  readonly kind: 'number' | 'string' | 'name' | 'mark' | 'hole' | 'line' | 'end';
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /[ \t\r]+|#[^\n]*|(?<line>[\n;])|(?<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?<string>'[^'\n]*'|"[^"\n]*")|(?<name>[A-Za-z_][\w.]{0,63}::[A-Za-z_]\w*|[A-Za-z_]\w*)|(?<mark>\.\.\.|\*\*|[=!<>]=|[-+*/@<>=()[\],:.])/y;

const WORDS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ['true', true],
  ['True', true],
  ['false', false],
  ['False', false],
  ['inf', Number.POSITIVE_INFINITY],
  ['nan', Number.NaN],
]);
const KEYWORDS: ReadonlySet<string> = new Set(['and', 'or', 'not', 'None']);
const COMPARISONS: ReadonlySet<string> = new Set(['==', '!=', '<', '<=', '>', '>=']);
/** Left-associative operators by how tightly they bind. */
const LEVELS: readonly ReadonlySet<string>[] = [new Set(['+', '-']), new Set(['*', '/', '@'])];

class Parser {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  readonly #steps: Step[] = [];
  readonly #names = new Set<string>();
  readonly #assigned = new Set<string>();
  #next = 0;
  #depth = 0;

  constructor(parts: readonly string[]) {
    const { source, tokens } = tokenise(parts);
    this.#source = source;
    this.#tokens = tokens;
  }

  program(): Program {
    for (;;) {
      while (this.#accept('line')) {}
      const targets = this.#targets();
      const start = this.#steps.length;
      this.#expression();
      if (!targets) break;
      if (targets.length > 1) this.#destructure(start, targets);
      this.#emit({ kind: 'store', at: targets[0]!.at, names: targets.map(({ text }) => text) });
      for (const { text } of targets) this.#assigned.add(text);
      if (!this.#accept('line')) this.#refuse('expected the end of the line after an assignment');
    }
    while (this.#accept('line')) {}
    if (this.#peek().kind !== 'end') this.#refuse('expected an operator, or the end');
    return Object.freeze({
      source: this.#source,
      steps: Object.freeze(this.#steps),
      names: Object.freeze([...this.#names]),
    });
  }

  /** `a, b =` at the start of a statement. */
  #targets(): readonly Token[] | undefined {
    const names: Token[] = [];
    let i = this.#next;
    for (;;) {
      const name = this.#tokens[i]!;
      if (name.kind !== 'name' || name.text.includes('::')) return undefined;
      names.push(name);
      const mark = this.#tokens[i + 1]!.text;
      if (mark !== ',' && mark !== '=') return undefined;
      i += 2;
      if (mark === '=') break;
    }
    const reserved = names.find(({ text }) => KEYWORDS.has(text) || WORDS.has(text));
    if (reserved) this.#refuse(`${reserved.text} cannot be assigned to`, reserved);
    this.#next = i;
    return names;
  }

  /** Several targets take the several results of one call. */
  #destructure(start: number, targets: readonly Token[]): void {
    const last = this.#steps.at(-1)!;
    if (this.#steps.length === start || last.kind !== 'call') {
      this.#refuse('only a call has several results', targets[1]!);
    }
    this.#steps[this.#steps.length - 1] = { ...(last as Extract<Step, { kind: 'call' }>), outputs: targets.length };
  }

  #expression(): void {
    this.#logical('or', () => this.#logical('and', () => this.#negation()));
  }

  #logical(word: 'and' | 'or', operand: () => void): void {
    operand();
    while (this.#peek().kind === 'name' && this.#peek().text === word) {
      const { at } = this.#take();
      operand();
      this.#emit({ kind: 'operator', at, symbol: word, operands: 2 });
    }
  }

  #negation(): void {
    const nots: Token[] = [];
    while (this.#peek().kind === 'name' && this.#peek().text === 'not') nots.push(this.#take());
    this.#comparison();
    for (const { at } of nots) this.#emit({ kind: 'operator', at, symbol: 'not', operands: 1 });
  }

  #comparison(): void {
    this.#binary(0);
    if (!COMPARISONS.has(this.#mark())) return;
    const { at, text } = this.#take();
    this.#binary(0);
    this.#emit({ kind: 'operator', at, symbol: text, operands: 2 });
    if (COMPARISONS.has(this.#mark())) this.#refuse('comparisons do not chain: write them with «and»');
  }

  #binary(level: number): void {
    const operand = (): void => (level + 1 < LEVELS.length ? this.#binary(level + 1) : this.#unary());
    operand();
    while (LEVELS[level]!.has(this.#mark())) {
      const { at, text } = this.#take();
      operand();
      this.#emit({ kind: 'operator', at, symbol: text, operands: 2 });
    }
  }

  #unary(): void {
    this.#nested(() => {
      const sign = this.#mark();
      if (sign === '-' || sign === '+') {
        const { at } = this.#take();
        this.#unary();
        if (sign === '-') this.#emit({ kind: 'operator', at, symbol: 'neg', operands: 1 });
        return;
      }
      this.#postfix();
      if (this.#mark() !== '**') return;
      const { at } = this.#take();
      this.#unary();
      this.#emit({ kind: 'operator', at, symbol: '**', operands: 2 });
    });
  }

  #postfix(): void {
    this.#atom();
    for (;;) {
      const token = this.#peek();
      if (this.#mark() === '(') {
        // A name before «(» is what is called, not a value.
        const callee = this.#steps.at(-1)!;
        const before = this.#tokens[this.#next - 1]!;
        const called = callee.kind === 'name' && before.kind === 'name' && before.at === callee.at;
        if (called) this.#steps.pop();
        this.#call(called ? callee.name : undefined, called ? callee.at : token.at, 0);
      } else if (this.#mark() === '.') {
        this.#take();
        const name = this.#take();
        if (name.kind !== 'name' || this.#mark() !== '(') this.#refuse('expected an operator after the dot', name);
        this.#call(name.text, name.at, 1);
      } else if (this.#mark() === '[') {
        this.#index();
      } else {
        return;
      }
    }
  }

  #atom(): void {
    const token = this.#take();
    const { kind, text, at } = token;
    if (kind === 'number') {
      const value = Number(text);
      if (!Number.isFinite(value)) this.#refuse('this number is too large', token);
      this.#emit({ kind: 'push', at, value });
    } else if (kind === 'string') {
      this.#emit({ kind: 'push', at, value: text.slice(1, -1) });
    } else if (kind === 'hole') {
      this.#emit({ kind: 'hole', at, index: Number(text) });
    } else if (kind === 'name' && WORDS.has(text)) {
      this.#emit({ kind: 'push', at, value: WORDS.get(text) });
    } else if (kind === 'name' && !KEYWORDS.has(text)) {
      if (this.#mark() !== '(') {
        if (text.includes('::')) this.#refuse('an operator is called', token);
        if (!this.#assigned.has(text)) this.#names.add(text);
      }
      this.#emit({ kind: 'name', at, name: text });
    } else if (kind === 'mark' && text === '(') {
      this.#nested(() => this.#expression());
      this.#expect(')');
    } else if (kind === 'mark' && text === '[') {
      const count = this.#items(']', () => this.#expression());
      this.#emit({ kind: 'list', at, count });
    } else {
      this.#refuse('expected a value', token);
    }
  }

  /** `(arguments)`, the first `given` of which are on the stack already. */
  #call(name: string | undefined, at: number, given: number): void {
    this.#expect('(');
    const keys = new Set<string>();
    let positional = given;
    this.#items(')', () => {
      const key = this.#peek();
      if (key.kind === 'name' && this.#tokens[this.#next + 1]!.text === '=') {
        if (keys.has(key.text)) this.#refuse(`${key.text} is given twice`, key);
        this.#next += 2;
        keys.add(key.text);
      } else if (keys.size > 0) {
        this.#refuse('an argument without a name comes before those with one', key);
      } else {
        positional++;
      }
      this.#expression();
    });
    this.#emit({ kind: 'call', at, name, positional, keys: [...keys], outputs: undefined });
  }

  #index(): void {
    const { at } = this.#take();
    const items: Subscript[] = [];
    this.#items(']', () => {
      items.push(this.#subscript());
    });
    if (items.length === 0) this.#refuse('expected a subscript', this.#tokens[this.#next - 1]!);
    this.#emit({ kind: 'index', at, items });
  }

  #subscript(): Subscript {
    const token = this.#peek();
    if (token.kind === 'name' && token.text === 'None') {
      this.#take();
      return { kind: 'new' };
    }
    if (this.#mark() === '...') {
      this.#take();
      return { kind: 'rest' };
    }
    const part = (): boolean => {
      if ([':', ',', ']'].includes(this.#mark())) return false;
      this.#expression();
      return true;
    };
    const start = part();
    if (this.#mark() !== ':') return start ? { kind: 'at' } : this.#refuse('expected a subscript');
    this.#take();
    const end = part();
    if (this.#mark() !== ':') return { kind: 'slice', start, end, step: false };
    this.#take();
    return { kind: 'slice', start, end, step: part() };
  }

  /** Items between commas up to `close`; a comma may stand before it. */
  #items(close: string, item: () => void): number {
    let count = 0;
    this.#nested(() => {
      while (this.#mark() !== close) {
        item();
        count++;
        if (this.#mark() !== close) this.#expect(',');
      }
    });
    this.#expect(close);
    return count;
  }

  #nested(parse: () => void): void {
    if (++this.#depth > MAX_DEPTH) this.#refuse(`nested more than ${MAX_DEPTH} deep`);
    parse();
    this.#depth--;
  }

  #emit(step: Step): void {
    this.#steps.push(Object.freeze(step));
  }

  #peek(): Token {
    return this.#tokens[this.#next]!;
  }

  /** The next token where it is a mark, else the empty string. */
  #mark(): string {
    const { kind, text } = this.#peek();
    return kind === 'mark' ? text : '';
  }

  #take(): Token {
    const token = this.#peek();
    if (token.kind !== 'end') this.#next++;
    return token;
  }

  #accept(kind: Token['kind']): boolean {
    if (this.#peek().kind !== kind) return false;
    this.#take();
    return true;
  }

  #expect(mark: string): void {
    if (this.#mark() !== mark) this.#refuse(`expected «${mark}»`);
    this.#take();
  }

  #refuse(message: string, token: Token = this.#peek()): never {
    const came = { end: 'the end', line: 'the end of the line', hole: 'a value' }[token.kind as string];
    const got = message.startsWith('expected') ? `, got ${came ?? JSON.stringify(token.text.slice(0, 40))}` : '';
    throw errorAt(this.#source, token.at, message + got);
  }
}

/** Cuts the parts into tokens; line ends within brackets are dropped. */
function tokenise(parts: readonly string[]): { readonly source: string; readonly tokens: readonly Token[] } {
  const source = parts.reduce((text, part, i) => `${text}\${${i}}${part}`);
  if (source.length > MAX_SOURCE) {
    throw new CloisterError('INVALID_ARGUMENT', `a formula of ${source.length} characters; at most ${MAX_SOURCE}`);
  }
  const tokens: Token[] = [];
  let base = 0;
  let brackets = 0;
  parts.forEach((part, i) => {
    if (i > 0) {
      tokens.push({ kind: 'hole', text: String(i - 1), at: base });
      base += `\${${i}}`.length;
    }
    const pattern = new RegExp(TOKEN);
    while (pattern.lastIndex < part.length) {
      const at = base + pattern.lastIndex;
      const groups = pattern.exec(part)?.groups;
      if (!groups) throw errorAt(source, at, 'this character has no meaning here');
      const found = Object.entries(groups).find(([, text]) => text !== undefined);
      if (!found) continue;
      const [kind, text] = found as [Token['kind'], string];
      if (text === '(' || text === '[') brackets++;
      if (text === ')' || text === ']') brackets = Math.max(0, brackets - 1);
      if (kind !== 'line' || brackets === 0) tokens.push({ kind, text, at });
    }
    base += part.length;
  });
  tokens.push({ kind: 'end', text: '', at: source.length });
  return { source, tokens };
}
