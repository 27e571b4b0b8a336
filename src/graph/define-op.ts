/**
 * Operators of one's own: an entry for an operator table, checked when it is defined and again each time it computes.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { DTYPES, formatShape, Tensor } from '../tensor/index.ts';
import type { GradientRule, GradientTable } from './autodiff/index.ts';
import type { Facts } from './graph.ts';
import {
  type AttributeSpec,
  type InferContext,
  MANY,
  type Operator,
  type OperatorKind,
  type OperatorVersion,
  operatorKey,
  type RunContext,
} from './ops/operator.ts';

/** What {@link defineOp} is told. */
export interface OpDefinition {
  /** A domain of one's own, as `com.example`. */
  readonly domain: string;
  readonly name: string;
  /** The first opset of the domain that has the operator. Default 1. */
  readonly since?: number;
  /** How outputs relate to inputs; `compute`, which promises nothing, where left out. */
  readonly kind?: Exclude<OperatorKind, 'control'>;
  /** Names of the inputs: `x` is required, `bias?` may be left out, `...rest` at the end is any number. */
  readonly inputs: readonly string[];
  /** Names of the outputs, all of which the operator computes. */
  readonly outputs: readonly string[];
  /** `{ alpha: { type: 'float', default: 1 } }`. None where left out. */
  readonly attributes?: Readonly<Record<string, AttributeSpec>>;
  /** The facts of the outputs from those of the inputs. `c.fail` refuses what does not fit. */
  readonly infer: (c: InferContext) => readonly Facts[];
  /** Computes the outputs, of exactly those facts. f16 and bf16 inputs come as f32 and are rounded afterwards. */
  readonly run: (c: RunContext) => readonly Tensor[];
  /** How gradients are pulled back through it. Without a rule, `gradient` refuses to pass through it. */
  readonly gradient?: GradientRule;
}

/** An operator that was made by {@link defineOp}. */
export interface CustomOperator extends Operator {
  /** Names of the inputs, by which formulas and fluent calls know them. */
  readonly parameters: readonly string[];
  readonly gradient?: GradientRule;
}

/**
 * Returns an operator for a table: `tableOf([...OPERATORS.values(), mine])` goes to `parseOnnx`, `GraphBuilder`, `graphOf` and
 * `referenceBackendOf`.
 *
 * The definition is checked here. What its functions return is checked each time: facts that no tensor can have, and a result
 * that is not of the inferred dtype and shape, are errors that name the node, and never reach another operator.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` about the definition. In use: `INVALID_GRAPH` when `infer` returns no facts,
 *   `DTYPE_MISMATCH` and `SHAPE_MISMATCH` when `run` returns something else than it said.
 * @example
 * ```ts
 * const scaleBy = defineOp({
 *   domain: 'com.example',
 *   name: 'ScaleBy',
 *   inputs: ['x'],
 *   outputs: ['y'],
 *   attributes: { by: { type: 'float', default: 2 } },
 *   infer: c => [c.input(0)],
 *   run: c => [Tensor.of('f32', c.operand(0).values().map(x => Number(x) * c.number('by'))).reshape(c.shape())],
 * });
 * const operators = tableOf(Array.from(OPERATORS.values()).concat(scaleBy));
 * const g = graphOf('g', { operators });
 * g.output('y', g.input('x', 'f32', ['n']).op('ScaleBy', { by: 3 }));
 * const constants = bytesSource(new Uint8Array());
 * const { y } = await referenceBackendOf(operators).prepare(g.build(), { constants }).run({ x: Tensor.of('f32', [1, 2]) });
 * y?.toArray(); // [3, 6]
 * ```
 */
export function defineOp(definition: OpDefinition): CustomOperator {
  const { domain, name, since = 1, kind = 'compute', attributes = {}, infer, run, gradient } = definition;
  const label = `operator ${JSON.stringify(String(name).slice(0, 80))}`;
  const check = (holds: boolean, problem: string): void => {
    if (!holds) throw new CloisterError('INVALID_ARGUMENT', `${label}: ${problem}`);
  };
  check(isWord(name), 'a name is letters, digits and _, at most 100, and starts with a letter');
  const named = typeof domain === 'string' && /^[A-Za-z][\w.-]{0,99}$/.test(domain);
  check(named && !RESERVED.has(domain), `the domain ${JSON.stringify(domain)} is not free: choose one of your own`);
  check(Number.isSafeInteger(since) && since >= 1, `expected an opset of at least 1, got ${since}`);
  check(KINDS.has(kind), `expected one of the kinds ${[...KINDS].join(', ')}`);
  check(typeof infer === 'function' && typeof run === 'function', 'infer and run are functions');
  check(gradient === undefined || typeof gradient === 'function', 'gradient is a function');
  const inputs = parseInputs(definition.inputs, check);
  const { outputs } = definition;
  check(Array.isArray(outputs) && outputs.length >= 1 && outputs.every(isWord), 'expected the names of the outputs');
  check(new Set(outputs).size === outputs.length, 'two outputs have one name');
  for (const [attribute, spec] of Object.entries(attributes)) {
    check(isWord(attribute), `attribute ${JSON.stringify(attribute.slice(0, 80))} has no name that a node can have`);
    check(!inputs.names.includes(attribute), `${attribute} is both an input and an attribute`);
    check(
      fitsSpec(spec),
      `attribute ${attribute}: no such type, or a default of another type, or one that is required too`,
    );
  }
  const version: OperatorVersion = Object.freeze({
    since,
    inputs: Object.freeze([inputs.least, inputs.most] as const),
    outputs: Object.freeze([1, outputs.length] as const),
    attributes: Object.freeze({ ...attributes }),
    infer: (c: InferContext) => checkedFacts(c, infer(c), outputs.length),
    run: (c: RunContext) => checkedResults(c, run(c), outputs),
  });
  return Object.freeze({
    domain,
    name,
    kind,
    versions: Object.freeze([version]),
    parameters: Object.freeze(inputs.names),
    ...(gradient ? { gradient } : {}),
  });
}

/** `rules` with those of the operators that brought one: what `gradient` takes beside a table with custom operators. */
export function gradientsWith(rules: GradientTable, operators: Iterable<Operator>): GradientTable {
  const own = [...operators].flatMap(operator => {
    const { domain, name, gradient } = operator as CustomOperator;
    return gradient ? [[operatorKey(domain, name), gradient] as const] : [];
  });
  return new Map([...rules, ...own]);
}

/** Domains whose operators are specified elsewhere. */
const RESERVED: ReadonlySet<string> = new Set(['ai.onnx', 'ai.onnx.ml', 'com.microsoft', 'cloister']);
const KINDS: ReadonlySet<string> = new Set(['elementwise', 'view', 'compute']);

function isWord(name: unknown): name is string {
  return typeof name === 'string' && /^[A-Za-z]\w{0,99}$/.test(name);
}

function parseInputs(
  inputs: unknown,
  check: (holds: boolean, problem: string) => void,
): { readonly names: readonly string[]; readonly least: number; readonly most: number } {
  check(Array.isArray(inputs), 'expected the names of the inputs');
  const list = (inputs as readonly unknown[]).map(input => /^(\.\.\.)?([A-Za-z]\w{0,99})(\?)?$/.exec(String(input)));
  check(
    list.every(match => match !== null),
    'an input is a name, `name?` or, as the last one, `...names`',
  );
  const names = list.map(match => match![2]!);
  check(new Set(names).size === names.length, 'two inputs have one name');
  const open = list.findIndex(match => match![1] !== undefined);
  check(open === -1 || open === list.length - 1, 'only the last input stands for any number');
  const firstOptional = list.findIndex(match => match![1] !== undefined || match![3] !== undefined);
  const least = firstOptional === -1 ? list.length : firstOptional;
  check(
    list.slice(least).every(match => match![1] !== undefined || match![3] !== undefined),
    'a required input comes before optional ones',
  );
  // The rest is called by place.
  return { names: open === -1 ? names : [], least, most: open === -1 ? list.length : MANY };
}

function fitsSpec(spec: AttributeSpec): boolean {
  const { type, default: value, required } = spec ?? {};
  const all = (kind: 'number' | 'string'): boolean =>
    Array.isArray(value) && (value as readonly unknown[]).every(item => typeof item === kind);
  const fits: Readonly<Record<AttributeSpec['type'], () => boolean>> = {
    int: () => Number.isSafeInteger(value),
    float: () => typeof value === 'number',
    string: () => typeof value === 'string',
    ints: () => all('number') && (value as readonly number[]).every(Number.isSafeInteger),
    floats: () => all('number'),
    strings: () => all('string'),
    tensor: () => false,
    graph: () => false,
  };
  if (!Object.hasOwn(fits, type)) return false;
  return value === undefined || (fits[type]() && !required);
}

function checkedFacts(c: InferContext, facts: unknown, count: number): readonly Facts[] {
  const good = (item: Facts | undefined): boolean =>
    typeof item === 'object' &&
    item !== null &&
    Object.hasOwn(DTYPES, item.dtype) &&
    Array.isArray(item.shape) &&
    item.shape.every(dim => (typeof dim === 'string' ? dim !== '' : Number.isSafeInteger(dim) && dim >= 0));
  if (!Array.isArray(facts) || facts.length !== count || !facts.every(good)) {
    return c.fail(`its infer did not return the dtype and shape of ${count === 1 ? 'its output' : `${count} outputs`}`);
  }
  return facts as readonly Facts[];
}

function checkedResults(c: RunContext, results: unknown, outputs: readonly string[]): readonly Tensor[] {
  const fail = (code: 'DTYPE_MISMATCH' | 'SHAPE_MISMATCH', problem: string): never => {
    const { name, op } = c.node;
    const message = `${op} ${JSON.stringify(name.slice(0, 80))}: its kernel returned ${problem}`;
    throw new CloisterError(code, message, { node: name, op });
  };
  if (!Array.isArray(results) || results.length !== outputs.length) {
    const came = Array.isArray(results) ? `${results.length} results` : 'no list of results';
    return fail('SHAPE_MISMATCH', `${came}, expected ${outputs.length}`);
  }
  outputs.forEach((output, i) => {
    const result: unknown = results[i];
    const { dtype, shape } = c.outputs[i]!;
    if (!(result instanceof Tensor)) fail('DTYPE_MISMATCH', `no tensor for ${output}`);
    const tensor = result as Tensor;
    if (tensor.dtype !== dtype) fail('DTYPE_MISMATCH', `${tensor.dtype} for ${output}, expected ${dtype}`);
    const fits =
      tensor.shape.length === shape.length &&
      shape.every((dim, axis) => typeof dim === 'string' || dim === tensor.shape[axis]);
    if (!fits) {
      fail('SHAPE_MISMATCH', `shape ${formatShape(tensor.shape)} for ${output}, expected ${formatShape(shape)}`);
    }
  });
  return results as readonly Tensor[];
}
