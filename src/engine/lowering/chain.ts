/**
 * Elementwise operators as chains: one pass over the elements, however many operators there are.
 * @module
 */
import type { Facts, Graph, Node, ValueId } from '../../graph/index.ts';
import { DTYPES, type DType, elementCount, type Shape } from '../../tensor/index.ts';
import { broadcastStrides, collapse, type Draft, Unsupported, type View } from '../draft.ts';
import { BINARY_OPS, CHANNEL_BLOCK, floatWord, INTEGER_OPS, UNARY_OPS } from '../program.ts';
import { type BlockedOperand, blockedOperand } from './blocks.ts';
import { type Lowering, type Lowerings, number } from './lowering.ts';

/** What the executor takes in one chain. */
const MAX_OPERANDS = 16;
const MAX_INSTRUCTIONS = 64;

const CLASSES = { unary: 0, binary: 1, choose: 2, convert: 3, integer: 4 } as const;
const INTEGERS: ReadonlySet<DType> = new Set(['i8', 'u8', 'bool', 'i32', 'i64']);

/** A value within a chain: an operand by its place, or the result of an instruction. */
interface Ref {
  readonly kind: 'operand' | 'result';
  readonly index: number;
  readonly dtype: DType;
}

/** Compiles nodes into the instructions of one chain. */
class Chain {
  readonly operands: { readonly view: View; readonly dtype: DType; readonly shape: readonly number[] }[] = [];
  readonly #instructions: {
    readonly head: number;
    readonly takes: readonly Ref[];
    readonly tail: readonly number[];
  }[] = [];

  readonly #draft: Draft;

  constructor(d: Draft) {
    this.#draft = d;
  }

  scalar(value: number): Ref {
    return this.operand(this.#draft.scalar(value), 'f32', []);
  }

  operand(view: View, dtype: DType, shape: readonly number[]): Ref {
    const index = this.operands.push({ view, dtype, shape }) - 1;
    if (index >= MAX_OPERANDS) throw new Unsupported(`it takes more than ${MAX_OPERANDS} tensors at once`);
    return { kind: 'operand', index, dtype };
  }

  unary(op: keyof typeof UNARY_OPS, x: Ref, p0 = 0, p1 = 0): Ref {
    return this.#add('unary', UNARY_OPS[op], [this.convert(x, 'f32')], 'f32', [floatWord(p0), floatWord(p1)]);
  }

  binary(op: keyof typeof BINARY_OPS, a: Ref, b: Ref): Ref {
    return this.#add('binary', BINARY_OPS[op], [this.convert(a, 'f32'), this.convert(b, 'f32')], 'f32');
  }

  choose(condition: Ref, yes: Ref, no: Ref): Ref {
    return this.#add('choose', 0, [this.convert(condition, 'f32'), yes, no], 'f32');
  }

  integer(op: keyof typeof INTEGER_OPS, a: Ref, b: Ref): Ref {
    return this.#add('integer', INTEGER_OPS[op], [a, b], INTEGER_OPS[op] >= INTEGER_OPS.less ? 'bool' : a.dtype);
  }

  convert(x: Ref, dtype: DType): Ref {
    return x.dtype === dtype ? x : this.#add('convert', Object.keys(DTYPES).indexOf(dtype), [x], dtype);
  }

  get length(): number {
    return this.#instructions.length;
  }

  #add(
    what: keyof typeof CLASSES,
    op: number,
    takes: readonly Ref[],
    dtype: DType,
    tail: readonly number[] = [0, 0],
  ): Ref {
    const index = this.#instructions.push({ head: CLASSES[what] | (op << 8), takes, tail }) - 1;
    if (index >= MAX_INSTRUCTIONS) throw new Unsupported(`it is more than ${MAX_INSTRUCTIONS} functions at once`);
    return { kind: 'result', index, dtype };
  }

  /** Adds the step that writes the last result to `y`, of `shape`. */
  emit(y: View, shape: Shape, dtype: DType): void {
    this.emitOver(
      y,
      shape,
      this.operands.map(operand => broadcastStrides(operand.shape, shape)),
      dtype,
    );
  }

  /** The same over `shape`, which operand i goes through at `steps[i]`: dense, but for the dims where it has 0. */
  emitOver(y: View, shape: Shape, steps: readonly (readonly number[])[], dtype: DType): void {
    const { operands } = this;
    const { dims, strides } = collapse(shape, ...steps);
    if (dims.length > 8) throw new Unsupported('it broadcasts along too many axes');
    const types = Object.keys(DTYPES);
    const place = (ref: Ref): number => (ref.kind === 'operand' ? ref.index : operands.length + ref.index);
    const masks = strides.map(steps => steps.reduce((mask, step, i) => (step === 0 ? mask : mask | (1 << i)), 0));
    const inPlace = operands.flatMap((operand, i) =>
      operand.view.length === y.length && DTYPES[operand.dtype].bytes === DTYPES[dtype].bytes ? [i + 1] : [],
    );
    this.#draft.emit(
      'chain',
      [y, ...operands.map(operand => operand.view)],
      [
        ...[operands.length, this.#instructions.length, dims.length, ...dims],
        ...operands.map((operand, i) => types.indexOf(operand.dtype) | (masks[i]! << 8)),
        ...this.#instructions.flatMap(({ head, takes, tail }) => [
          head,
          takes.reduce((word, ref, i) => word | (place(ref) << (8 * i)), 0),
          ...tail,
        ]),
      ],
      inPlace,
    );
  }
}

/** How one operator joins a chain: from its inputs, which `node` names, to its result. */
interface Elementwise {
  /** Why inputs of these dtypes are not computed; the ones left out are undefined. */
  readonly refuses: (dtypes: readonly (DType | undefined)[]) => string | undefined;
  readonly join: (c: Chain, node: Node, inputs: readonly (Ref | undefined)[], out: DType) => Ref;
}

const onlyFloats = (dtypes: readonly (DType | undefined)[]): string | undefined => {
  const other = dtypes.find(dtype => dtype !== undefined && dtype !== 'f32');
  return other === undefined ? undefined : `native kernels compute in f32, not ${other}`;
};
const floatsOrIntegers = (dtypes: readonly (DType | undefined)[]): string | undefined => {
  const other = dtypes.find(dtype => dtype !== undefined && dtype !== 'f32' && !INTEGERS.has(dtype));
  return other === undefined ? undefined : `native kernels compute in f32 and integers, not ${other}`;
};
const noText = (dtypes: readonly (DType | undefined)[]): string | undefined =>
  dtypes.includes('string') ? 'kernels have no text' : undefined;

function unary(
  op: keyof typeof UNARY_OPS,
  parameters: (node: Node) => readonly [number, number?] = () => [0],
  dtype?: DType,
): Elementwise {
  return {
    refuses: onlyFloats,
    join: (c, node, [x]) => {
      const y = c.unary(op, x!, ...parameters(node));
      return dtype === undefined ? y : c.convert(y, dtype);
    },
  };
}

function arithmetic(op: 'add' | 'sub' | 'mul' | 'div'): Elementwise {
  return {
    refuses: floatsOrIntegers,
    join: (c, _, [a, b]) => (a!.dtype === 'f32' ? c.binary(op, a!, b!) : c.integer(op, a!, b!)),
  };
}

function comparison(op: 'less' | 'lessOrEqual' | 'greater' | 'greaterOrEqual' | 'equal'): Elementwise {
  return {
    refuses: floatsOrIntegers,
    join: (c, _, [a, b]) => (a!.dtype === 'f32' ? c.convert(c.binary(op, a!, b!), 'bool') : c.integer(op, a!, b!)),
  };
}

function logical(op: 'and' | 'or' | 'xor'): Elementwise {
  return { refuses: noText, join: (c, _, [a, b]) => c.integer(op, a!, b!) };
}

function variadic(op: 'add' | 'min' | 'max', mean = false): Elementwise {
  return {
    refuses: mean || op === 'add' ? onlyFloats : floatsOrIntegers,
    join: (c, _, inputs) => {
      const given = inputs.filter(ref => ref !== undefined);
      const all = given.reduce((sum, x) => (x.dtype === 'f32' ? c.binary(op, sum, x) : c.integer(op, sum, x)));
      return mean ? c.binary('div', all, c.scalar(given.length)) : all;
    },
  };
}

const alpha = (absent: number) => (node: Node) => [number(node, 'alpha', absent)] as const;

/** Operators of the default domain that are computed element by element. */
const ELEMENTWISE: Readonly<Record<string, Elementwise>> = {
  ...Object.fromEntries(
    (
      [
        ...['Relu', 'Neg', 'Abs', 'Sqrt', 'Exp', 'Log', 'Tanh', 'Sigmoid', 'Erf', 'Floor', 'Ceil', 'Reciprocal'],
        ...['Round', 'Sign', 'HardSwish', 'Softplus', 'Softsign', 'Mish', 'Sin', 'Cos', 'Tan', 'Asin', 'Acos'],
        ...['Atan', 'Sinh', 'Cosh', 'Asinh', 'Acosh', 'Atanh'],
      ] as const
    ).map(name => [name, unary(`${name[0]!.toLowerCase()}${name.slice(1)}` as keyof typeof UNARY_OPS)]),
  ),
  Gelu: {
    refuses: onlyFloats,
    join: (c, node, [x]) => c.unary(node.attributes['approximate'] === 'tanh' ? 'geluTanh' : 'gelu', x!),
  },
  Swish: unary('swish', alpha(1)),
  LeakyRelu: unary('leakyRelu', alpha(0.01)),
  HardSigmoid: unary('hardSigmoid', node => [number(node, 'alpha', 0.2), number(node, 'beta', 0.5)]),
  Clip: {
    refuses: onlyFloats,
    join: (c, node, [x, low, high]) => {
      if (node.opset < 11) throw new Unsupported('before opset 11 its bounds are attributes');
      const least = low === undefined ? x! : c.binary('max', x!, low);
      return high === undefined ? least : c.binary('min', least, high);
    },
  },
  Celu: unary('celu', alpha(1)),
  Elu: unary('elu', node => [number(node, 'alpha', 1), 1]),
  Selu: unary('elu', node => [number(node, 'alpha', 1.6732632423543772), number(node, 'gamma', 1.0507009873554805)]),
  ThresholdedRelu: unary('thresholdedRelu', alpha(1)),
  Shrink: unary('shrink', node => [number(node, 'bias', 0), number(node, 'lambd', 0.5)]),
  IsNaN: unary('isNan', undefined, 'bool'),
  IsInf: unary('isInf', node => [number(node, 'detect_positive', 1), number(node, 'detect_negative', 1)], 'bool'),
  Not: { refuses: noText, join: (c, _, [x]) => c.convert(c.unary('not', x!), 'bool') },
  Add: arithmetic('add'),
  Sub: arithmetic('sub'),
  Mul: arithmetic('mul'),
  Div: arithmetic('div'),
  Pow: { refuses: onlyFloats, join: (c, _, [a, b]) => c.binary('pow', a!, b!) },
  PRelu: { refuses: onlyFloats, join: (c, _, [a, b]) => c.binary('prelu', a!, b!) },
  Mod: {
    refuses: floatsOrIntegers,
    join: (c, node, [a, b]) => {
      if (a!.dtype === 'f32') return c.binary('fmod', a!, b!);
      return c.integer(number(node, 'fmod', 0) === 0 ? 'mod' : 'rem', a!, b!);
    },
  },
  Sum: variadic('add'),
  Mean: variadic('add', true),
  Min: variadic('min'),
  Max: variadic('max'),
  Less: comparison('less'),
  LessOrEqual: comparison('lessOrEqual'),
  Greater: comparison('greater'),
  GreaterOrEqual: comparison('greaterOrEqual'),
  Equal: comparison('equal'),
  And: logical('and'),
  Or: logical('or'),
  Xor: logical('xor'),
  Where: {
    refuses: ([, ...data]) => onlyFloats(data),
    join: (c, _, [condition, yes, no]) => c.choose(condition!, yes!, no!),
  },
  Cast: { refuses: noText, join: (c, _, [x], out) => c.convert(x!, out) },
};

/** Lowerings of what is computed element by element, each as a chain of its own. */
export const ELEMENTWISE_OPERATORS: Readonly<Record<string, Lowering>> = Object.fromEntries(
  Object.keys(ELEMENTWISE).map(op => [
    op,
    { float: false, refuses: refuseAlone, lower: lowerAlone } satisfies Lowering,
  ]),
);

/** The operators of our own domain. */
export const CHAINS: Lowerings = { Chain: { float: false, refuses: refuseChain, lower: lowerChain } };

function refuseAlone(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  if (node.opset < 7 && node.inputs.length > 1) return 'before opset 7 it broadcasts in another way';
  return ELEMENTWISE[node.op]!.refuses(inputs.map(facts => facts?.dtype));
}

function lowerAlone(d: Draft, node: Node): void {
  const chain = new Chain(d);
  const inputs = node.inputs.map(id =>
    id === undefined ? undefined : chain.operand(d.read(id), d.facts(id).dtype, d.shape(id)),
  );
  const out = node.outputs[0]!;
  const { dtype } = d.facts(out);
  ELEMENTWISE[node.op]!.join(chain, node, inputs, dtype);
  // A Cast to the same dtype, a sum of one: nothing is computed.
  if (chain.length === 0) {
    d.alias(out, node.inputs[0]!);
    return;
  }
  const y = d.write(out);
  if (y.length > 0) chain.emit(y, d.shape(out), dtype);
}

function bodyOf(node: Node): Graph {
  return node.attributes['body'] as unknown as Graph;
}

function refuseChain(node: Node): string | undefined {
  const body = bodyOf(node);
  for (const inner of body.nodes) {
    const known = Object.hasOwn(ELEMENTWISE, inner.op) ? ELEMENTWISE[inner.op] : undefined;
    if (known === undefined) return `no native kernel for ${inner.op} in a chain`;
    const reason = known.refuses(inner.inputs.map(id => (id === undefined ? undefined : body.values[id]!.facts.dtype)));
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function lowerChain(d: Draft, node: Node): void {
  const body = bodyOf(node);
  const chain = new Chain(d);
  const values = new Map<ValueId, Ref>();
  const out = node.outputs[0]!;
  const shape = d.shape(out);
  const { dtype } = d.facts(out);
  const given = node.inputs.filter(id => id !== undefined);
  const blocked = inBlocks(d, given, out);
  body.inputs.forEach((id, i) => {
    const view = blocked === undefined ? d.read(given[i]!) : blocked[i]!.view();
    values.set(id, chain.operand(view, d.facts(given[i]!).dtype, d.shape(given[i]!)));
  });
  for (const inner of body.nodes) {
    const result = inner.outputs[0]!;
    const inputs = inner.inputs.map(id => (id === undefined ? undefined : values.get(id)));
    values.set(result, ELEMENTWISE[inner.op]!.join(chain, inner, inputs, body.values[result]!.facts.dtype));
  }
  const y = blocked === undefined ? d.write(out) : d.writeBlocks(out);
  if (y.length === 0) return;
  if (blocked === undefined) {
    chain.emit(y, shape, dtype);
    return;
  }
  const [batch, channels, ...rest] = shape as readonly [number, number, ...number[]];
  const dims = [batch, Math.ceil(channels / CHANNEL_BLOCK), elementCount(rest), CHANNEL_BLOCK];
  // What a body adds of its own is one number.
  const steps = chain.operands.map((_, i) => blocked[i]?.strides ?? [0, 0, 0, 0]);
  chain.emitOver(y, dims, steps, dtype);
}

/** How a chain reads `given` where its result stays in blocks, as at least one of them is. */
function inBlocks(d: Draft, given: readonly ValueId[], out: ValueId): readonly BlockedOperand[] | undefined {
  if (!given.some(id => d.inBlocks(id)) || [...given, out].some(id => d.facts(id).dtype !== 'f32')) return undefined;
  const operands = given.map(id => blockedOperand(d, id, d.shape(out))).filter(operand => operand !== undefined);
  return operands.length === given.length ? operands : undefined;
}
