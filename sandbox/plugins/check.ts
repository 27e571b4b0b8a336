/**
 * The check of a plugin: it is run under the contract of its kind and under hostile inputs, behind the walls that it would work behind,
 * and judged from outside them. Passing means that nothing was found, not that nothing is there.
 * @module
 */
import { type CloisterError, isCloisterError } from '../../src/base/index.ts';
import type { Facts } from '../../src/graph/index.ts';
import { DTYPES, type DType, formatShape, MAX_RANK, sameShape, Tensor } from '../../src/tensor/index.ts';
import type { Sandbox } from '../sandbox.ts';
import type { ModelSummary } from '../untrusted.ts';
import type { PluginOperator } from './definition.ts';
import type { AdmittedPlugin } from './registry.ts';
import type { WorkingPlugin } from './working-plugin.ts';

/** What is checked. */
export const PLUGIN_CHECKS = [
  'is admitted', // package, signature and policy
  'defines what it is', // the entry is evaluated, and what it defines is of the form of its kind
  'answers something', // at least one input that is tried has an answer
  'answers in form', // what comes back is of the agreed form; an operator's kernel keeps to its shape rule
  'refuses by its shape rule', // what the shape rule of an operator takes, its kernel computes
  'infers the same from symbols', // sizes that are known later are the sizes that come out
  'repeats itself', // the same again is the same again, also after everything else, and in another process
  'keeps to its bounds', // a contribution is within the bounds that are declared
  'keeps to its limits', // nothing that is tried takes more time, memory or output than it is allowed
  'does not grow', // a thousand calls take no more memory than three hundred
] as const;

/** The name of a check. */
export type PluginCheckName = (typeof PLUGIN_CHECKS)[number];

/** Something that a plugin promises and does not keep. */
export interface PluginViolation {
  readonly check: PluginCheckName;
  readonly problem: string;
}

/** What was used of a limit, at most in one call, and what is allowed. `used` is null where nobody could tell. */
export interface LimitUse {
  readonly used: number | null;
  readonly allowed: number;
}

/** What {@link checkPlugin} found. */
export interface PluginVerdict {
  /** `refused`: the plugin was not run. */
  readonly verdict: 'pass' | 'fail' | 'refused';
  readonly violations: readonly PluginViolation[];
  readonly limits: { readonly [K in 'wallMs' | 'memoryMb' | 'outputBytes']?: LimitUse };
  /** Calls that were made. */
  readonly calls: number;
}

/** Violations of one check, after which it is over: each may have cost a worker. */
const MAX_VIOLATIONS = 3;
/** Characters of a problem. */
const MAX_PROBLEM = 600;
const REPEATS = 1_000;
/** From here on memory is not to grow. */
const SETTLED = 300;
const MAX_GROWTH_MB = 32;
const SHAPES: readonly (readonly number[])[] = [[2, 3], [4], [], [1, 1], [0], [2, 0, 3], [3, 1, 2, 1], [257]];
/** Shapes that no tensor of a test has: for shape rules alone. */
const HUGE: readonly (readonly (number | string)[])[] = [
  [1 << 20, 1 << 10],
  [2 ** 31 - 1],
  ['n', 'm'],
  Array.from({ length: MAX_RANK }, () => 2),
];
const SAMPLES: Readonly<Record<NonNullable<PluginOperator['attributes'][number]>['type'], unknown>> = {
  int: 1,
  float: 1,
  string: 'text',
  ints: [1],
  floats: [1],
  strings: ['text'],
};

/**
 * Checks a plugin in `sandbox`, under the limits and with the capabilities that it was admitted with.
 *
 * An operator that refuses an input by its shape rule, and a plugin of another kind that throws at one, refuses it: that is no
 * violation, as long as something is answered.
 *
 * @throws {CloisterError} `POLICY_REFUSED` when it is to be lent what its kind cannot be lent; `MISSING_DEPENDENCY`, `CLOSED`.
 * @example
 * ```ts
 * const main = "define({ choose: () => 'gpu' });";
 * const source = { name: 'odd', version: '1.0.0', api: '^1.0.0', entry: 'main.js', licence: 'MIT', files: ['main.js'] };
 * const files = new Map([['main.js', new TextEncoder().encode(main)]]);
 * const policy = pluginPolicySchema.parse({ unsigned: true });
 * const registry = openPluginRegistry('./plugins', { policy, record: async () => {} });
 * await registry.install(packPlugin({ ...source, kind: 'policy' }, files));
 * await using sandbox = await openSandbox();
 * const { verdict, violations } = await checkPlugin(sandbox, registry.open('odd'));
 * verdict; // 'fail'
 * violations[0]?.check; // 'answers in form'
 * ```
 */
export async function checkPlugin(sandbox: Sandbox, plugin: AdmittedPlugin): Promise<PluginVerdict> {
  return await new Check(sandbox, plugin).run();
}

class Check {
  readonly #sandbox: Sandbox;
  readonly #plugin: AdmittedPlugin;
  readonly #violations: PluginViolation[] = [];
  #working: WorkingPlugin | undefined;
  #calls = 0;
  #wallMs = 0;
  /** Whether the next call waits for a fresh worker, too. */
  #restarting = false;
  #outputBytes = 0;
  #peakMb: number | undefined;

  constructor(sandbox: Sandbox, plugin: AdmittedPlugin) {
    this.#sandbox = sandbox;
    this.#plugin = plugin;
  }

  async run(): Promise<PluginVerdict> {
    this.#working = await this.#opened();
    if (this.#working !== undefined) {
      await using _ = { [Symbol.asyncDispose]: async () => this.#working?.close() };
      const held = (): WorkingPlugin => this.#working!;
      const { definition } = held();
      if (definition.kind === 'operator') {
        for (const operator of definition.operators) await this.#operator(held, operator);
      } else if (definition.kind === 'processor') {
        for (const method of definition.methods) {
          await this.#calling(held, tensors => held().map(method, tensors, { anyName: true }), method);
        }
      } else if (definition.kind === 'statistic') {
        await this.#calling(held, async tensors =>
          this.#bounded(held(), await held().claim(tensors, { anyName: true })),
        );
      } else await this.#policy(held);
      this.#peakMb = held().peakMb;
    }
    const { wallMs, memoryMb, outputBytes } = this.#plugin.limits;
    const used = (value: number, allowed: number): LimitUse => ({ used: Math.ceil(value), allowed });
    return Object.freeze({
      verdict: this.#violations.length === 0 ? 'pass' : 'fail',
      violations: Object.freeze(this.#violations),
      limits: Object.freeze({
        wallMs: used(this.#wallMs, wallMs),
        memoryMb: this.#peakMb === undefined ? { used: null, allowed: memoryMb } : used(this.#peakMb, memoryMb),
        outputBytes: used(this.#outputBytes, outputBytes),
      }),
      calls: this.#calls,
    });
  }

  async #opened(): Promise<WorkingPlugin | undefined> {
    try {
      return await this.#sandbox.plug(this.#plugin);
    } catch (error) {
      if (!isCloisterError(error) || !isPluginsFault(error)) throw error;
      this.#violation(error.code === 'LIMIT_EXCEEDED' ? 'keeps to its limits' : 'defines what it is', error.message);
      return undefined;
    }
  }

  async #operator(working: () => WorkingPlugin, operator: PluginOperator): Promise<void> {
    const attributes = Object.fromEntries(
      operator.attributes
        .filter(attribute => attribute.required && attribute.default === undefined)
        .map(({ name, type }) => [name, SAMPLES[type]]),
    );
    const [least, most] = operator.inputs;
    const counts = new Set([least, Math.min(most ?? least + 2, least + 2)]);
    const what = `${operator.domain}::${operator.name}`;
    const compute = (inputs: readonly Tensor[]): Promise<readonly Tensor[] | undefined> =>
      this.#call(`${what} of ${inputs.map(shown).join(', ') || 'nothing'}`, () =>
        working().kernel(operator, attributes, inputs),
      );
    const answered: { readonly inputs: readonly Tensor[]; readonly outputs: readonly Tensor[] }[] = [];
    for (const count of counts) {
      for (const shape of SHAPES) {
        for (const dtype of Object.keys(DTYPES) as DType[]) {
          const inputs = Array.from({ length: count }, (_, i) => sample(dtype, shape, i));
          const outputs = await compute(inputs);
          if (outputs === undefined) continue;
          answered.push({ inputs, outputs });
          await this.#symbols(working, operator, attributes, inputs, outputs, what);
        }
      }
    }
    if (answered.length === 0)
      return this.#violation('answers something', `${what} refuses all inputs that were tried`);
    for (const hostile of [Number.NaN, Number.POSITIVE_INFINITY, -0, 3.4e38]) {
      const [{ inputs }] = answered as [(typeof answered)[0]];
      await compute(inputs.map(input => filled(input, hostile)));
    }
    for (const shape of HUGE) {
      const inputs = Array.from(
        { length: least },
        (): Facts => ({ dtype: answered[0]!.inputs[0]?.dtype ?? 'f32', shape }),
      );
      await this.#call(`the shape rule of ${what} at ${formatShape(shape)}`, () =>
        working().facts(operator, attributes, inputs),
      );
    }
    const again = answered.slice(0, 16).map(({ inputs, outputs }) => ({ call: () => compute(inputs), first: outputs }));
    await this.#repeats(what, again, (a, b) => b !== undefined && same(a, b));
    const other = await this.#opened();
    if (other !== undefined) {
      await using held = other;
      const elsewhere = again.map(({ first }, i) => ({
        call: () => this.#call(what, () => held.kernel(operator, attributes, answered[i]!.inputs)),
        first,
      }));
      await this.#repeats(`${what}, in another process,`, elsewhere, (a, b) => b !== undefined && same(a, b));
    }
    await this.#thousand(working, what, () => compute(answered[0]!.inputs));
  }

  /** Sizes that have names must be the sizes that come out, once they have numbers. */
  async #symbols(
    working: () => WorkingPlugin,
    operator: PluginOperator,
    attributes: Readonly<Record<string, unknown>>,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    what: string,
  ): Promise<void> {
    const sizes = new Map<string, number>(
      inputs.flatMap(({ shape }, i) => shape.map((size, axis) => [`n${i}_${axis}`, size] as const)),
    );
    const named = inputs.map(({ dtype, shape }, i) => ({ dtype, shape: shape.map((_, axis) => `n${i}_${axis}`) }));
    const facts = await this.#call(`the shape rule of ${what}`, () => working().facts(operator, attributes, named));
    facts?.forEach(({ dtype, shape }, i) => {
      const came = outputs[i]!;
      const fits =
        dtype === came.dtype &&
        shape.length === came.shape.length &&
        shape.every((dim, axis) => {
          const size = typeof dim === 'string' ? sizes.get(dim) : dim;
          return size === undefined || size === came.shape[axis];
        });
      if (fits) return;
      const problem = `${what}: inferred ${dtype}${formatShape(shape)} of ${named.map(({ shape: dims }) => formatShape(dims)).join(', ')}, and of ${inputs.map(shown).join(', ')} came ${shown(came)}`;
      this.#violation('infers the same from symbols', problem);
    });
  }

  /** Processors and statistics: functions of tensors by name. */
  async #calling<T>(
    working: () => WorkingPlugin,
    body: (tensors: Readonly<Record<string, Tensor>>) => Promise<T>,
    what = 'contribute',
  ): Promise<void> {
    const answered: { readonly call: () => Promise<T | undefined>; readonly first: T }[] = [];
    const attempt = async (tensors: Readonly<Record<string, Tensor>>): Promise<void> => {
      const title = `${what} of ${Object.values(tensors).map(shown).join(', ') || 'nothing'}`;
      const call = (): Promise<T | undefined> => this.#call(title, () => body(tensors), true);
      const first = await call();
      if (first !== undefined) answered.push({ call, first });
    };
    const dtypes = (Object.keys(DTYPES) as DType[]).filter(dtype => dtype !== 'f32');
    for (const shape of [...SHAPES, [1, 10], [1, 3, 8, 8]]) await attempt({ x: sample('f32', shape, 0) });
    for (const dtype of dtypes) await attempt({ x: sample(dtype, [2, 3], 0) });
    for (const hostile of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3.4e38]) {
      await attempt({ x: filled(sample('f32', [1, 10], 0), hostile) });
    }
    await attempt({});
    const [initial] = answered;
    if (initial === undefined) return this.#violation('answers something', `${what} throws at all that was tried`);
    const spelt = (value: T): string => JSON.stringify(value, (_, item: unknown) => plain(item));
    await this.#repeats(what, answered.slice(0, 16), (a, b) => b !== undefined && spelt(a) === spelt(b));
    // A statistic meets each record in a fresh guest, which is slow, and cannot grow.
    if (working().definition.kind !== 'statistic') await this.#thousand(working, what, initial.call);
  }

  async #policy(working: () => WorkingPlugin): Promise<void> {
    const summary = {
      ...{ name: 'probe', bytes: 1, inputs: [], outputs: [], operators: [], nodes: 0, outline: [] },
      ...{ parameters: 0, parameterBytes: 0 },
    } satisfies ModelSummary;
    const summaries = [summary, { ...summary, parameters: 2 ** 40, parameterBytes: 2 ** 42, nodes: 1e6 }];
    const offers = [['native', 'reference'], ['reference'], Array.from({ length: 100 }, (_, i) => `backend-${i}`)];
    const choose = async (about: ModelSummary, backends: readonly string[]): Promise<string> => {
      const { backend, failure } = await working().choose(about, backends);
      if (failure !== undefined) throw failure;
      return backend;
    };
    const calls = summaries.flatMap(about => offers.map(backends => () => choose(about, backends)));
    for (const call of calls) {
      const first = await this.#call('choose', call);
      if (first !== undefined)
        await this.#repeats('choose', [{ call: () => this.#call('choose', call), first }], Object.is);
    }
    await this.#thousand(working, 'choose', () => this.#call('choose', calls[0]!));
  }

  #bounded(working: WorkingPlugin, claim: readonly number[]): readonly number[] {
    const { low, high } = working.bounds;
    const outside = claim.find(value => !(value >= low && value <= high));
    if (outside !== undefined) {
      this.#violation('keeps to its bounds', `contribute said ${outside}, its bounds are ${low} to ${high}`);
    }
    return claim;
  }

  async #repeats<T>(
    what: string,
    cases: readonly { readonly call: () => Promise<T | undefined>; readonly first: T }[],
    equal: (first: T, again: T | undefined) => boolean,
  ): Promise<void> {
    for (const { call, first } of cases) {
      for (let time = 0; time < 2; time++) {
        if (this.#isOver('repeats itself') || this.#isOver('keeps to its limits')) return;
        if (!equal(first, await call())) {
          this.#violation('repeats itself', `${what} answered the same inputs in two ways`);
          break;
        }
      }
    }
  }

  async #thousand(working: () => WorkingPlugin, what: string, call: () => Promise<unknown>): Promise<void> {
    let settled: number | undefined;
    for (let i = 0; i < REPEATS && !this.#isOver('keeps to its limits'); i++) {
      if (i === SETTLED) settled = working().peakMb;
      await call();
    }
    const grown = (working().peakMb ?? 0) - (settled ?? Number.POSITIVE_INFINITY);
    if (grown > MAX_GROWTH_MB) {
      this.#violation(
        'does not grow',
        `${what}: ${REPEATS - SETTLED} equal calls took ${Math.round(grown)} MiB more, expected at most ${MAX_GROWTH_MB}`,
      );
    }
  }

  /** One call; undefined where the plugin refuses, or is at fault. */
  async #call<T>(what: string, body: () => Promise<T>, mayThrow = false): Promise<T | undefined> {
    if (this.#isOver('keeps to its limits') || this.#isOver('answers in form')) return undefined;
    this.#calls++;
    const start = performance.now();
    let failed = false;
    try {
      const answer = await this.#patiently(body);
      this.#outputBytes = Math.max(this.#outputBytes, bytesOf(answer));
      return answer;
    } catch (error) {
      if (!isCloisterError(error)) throw error;
      const { code, detail } = error;
      failed = true;
      const threw = code === 'GUEST_FAILED' && detail['threw'] === true;
      if (threw && mayThrow) return undefined;
      const problem = `${what}: ${error.message}`;
      if (code === 'LIMIT_EXCEEDED' || code === 'WORKER_CRASHED') this.#violation('keeps to its limits', problem);
      else if (code === 'DTYPE_MISMATCH' || code === 'SHAPE_MISMATCH') this.#violation('answers in form', problem);
      else if (isPluginsFault(error)) this.#violation(threw ? 'refuses by its shape rule' : 'answers in form', problem);
      else throw error;
      return undefined;
    } finally {
      if (!this.#restarting) this.#wallMs = Math.max(this.#wallMs, performance.now() - start);
      this.#restarting = failed;
    }
  }

  /** A plugin may refuse one input after the other by throwing: where the sandbox has enough of it, it is opened anew. */
  async #patiently<T>(body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      if (!isCloisterError(error, 'GUEST_REFUSED')) throw error;
      await this.#working?.close();
      this.#working = await this.#sandbox.plug(this.#plugin);
      return await body();
    }
  }

  #violation(check: PluginCheckName, problem: string): void {
    if (!this.#isOver(check)) this.#violations.push(Object.freeze({ check, problem: problem.slice(0, MAX_PROBLEM) }));
  }

  #isOver(check: PluginCheckName): boolean {
    return this.#violations.filter(violation => violation.check === check).length >= MAX_VIOLATIONS;
  }
}

function isPluginsFault({ code }: CloisterError): boolean {
  return code === 'GUEST_FAILED' || code === 'LIMIT_EXCEEDED' || code === 'WORKER_CRASHED' || code === 'GUEST_REFUSED';
}

/** A tensor of small numbers, the same each time. */
function sample(dtype: DType, shape: readonly number[], which: number): Tensor {
  const tensor = Tensor.zeros(dtype, shape);
  const value = (i: number): number => (i * 7 + which * 3 + 1) % 5;
  if (dtype === 'string')
    return Tensor.from(
      dtype,
      shape,
      Array.from({ length: tensor.size }, (_, i) => `${value(i)}`),
    );
  if (dtype === 'bool')
    return Tensor.from(
      dtype,
      shape,
      Uint8Array.from({ length: tensor.size }, (_, i) => value(i) & 1),
    );
  return Tensor.of(
    'f64',
    Array.from({ length: tensor.size }, (_, i) => value(i)),
  )
    .cast(dtype)
    .reshape([...shape]);
}

function filled(tensor: Tensor, value: number): Tensor {
  if (DTYPES[tensor.dtype].kind !== 'float') return tensor;
  return Tensor.of(
    'f64',
    Array.from({ length: tensor.size }, () => value),
  )
    .cast(tensor.dtype)
    .reshape([...tensor.shape]);
}

function shown({ dtype, shape }: Tensor): string {
  return `${dtype}${formatShape(shape)}`;
}

function same(first: readonly Tensor[], again: readonly Tensor[]): boolean {
  return (
    first.length === again.length &&
    first.every((tensor, i) => {
      const other = again[i]!;
      if (other.dtype !== tensor.dtype || !sameShape(other.shape, tensor.shape)) return false;
      return Buffer.compare(tensor.bytes(), other.bytes()) === 0;
    })
  );
}

function plain(value: unknown): unknown {
  if (value instanceof Tensor) return [value.dtype, value.shape, Buffer.from(value.bytes()).toString('hex')];
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}

function bytesOf(answer: unknown): number {
  if (answer instanceof Tensor) return answer.bytes().length;
  if (typeof answer === 'string') return answer.length;
  if (typeof answer === 'number') return 8;
  if (typeof answer !== 'object' || answer === null) return 0;
  return Object.values(answer).reduce((sum: number, item) => sum + bytesOf(item), 0);
}
