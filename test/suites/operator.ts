/**
 * What every operator promises, as tests: whoever adds one gives some cases, and the suite finds where kernel, shape rule and
 * gradient contradict each other.
 * @module
 */
import { describe, expect, it } from 'vitest';
import { isCloisterError } from '../../src/base/index.ts';
import {
  type Attribute,
  type Facts,
  findVersion,
  GRADIENTS,
  type GradientTable,
  type Graph,
  GraphBuilder,
  gradient,
  gradientsWith,
  inferFacts,
  MAX_OPSET,
  type Node,
  OPERATORS,
  type Operator,
  type OperatorTable,
  type OperatorVersion,
  operatorKey,
  runGraph,
  runNode,
  type ValueId,
} from '../../src/graph/index.ts';
import { DTYPES, formatShape, sameShape, Tensor } from '../../src/tensor/index.ts';
import { centralDifference } from './difference.ts';
import { disagreement } from './passes.ts';
import { DTYPE_NAMES, LAYOUT_NAMES, laidOut } from './tensors.ts';

/** Inputs on which an operator computes something. */
export interface OperatorCase {
  /** For messages; the dtypes and shapes of the inputs where left out. */
  readonly title?: string;
  /** `undefined` leaves an optional input out. */
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Default: the newest. */
  readonly opset?: number;
  /** How many outputs the node names. Default 1. */
  readonly outputs?: number;
  /** What must come out, bit for bit where it is integers, within 1e-5 of the largest element where it is floats. */
  readonly expected?: readonly (Tensor | undefined)[];
  /** The f64 inputs by which the gradient is checked; all of them where left out, none where the case is at a kink. */
  readonly gradient?: readonly number[];
}

/** What {@link operatorSuite} may be told. */
export interface OperatorSuiteOptions {
  /** The operators beside this one that its gradient and its subgraphs need; the whole table where left out. */
  readonly operators?: OperatorTable;
  /** Gradients beside the operator's own; all where left out. */
  readonly rules?: GradientTable;
  /** The checks to leave out. */
  readonly without?: readonly OperatorCheck[];
}

/** Something that an operator promises and does not keep. */
export interface OperatorFault {
  readonly check: OperatorCheck;
  /** The case that shows it. */
  readonly title: string;
  readonly problem: string;
}

/** What is known of a case when a graph of it is built. */
interface Knowledge {
  readonly title: string;
  /** The size of an axis as the graph declares it. */
  readonly dim: (input: number, axis: number, size: number) => number | string;
  /** Whether the elements of inputs that are no floats are constants. */
  readonly constants: boolean;
}

const KNOWLEDGE: readonly Knowledge[] = [
  { title: 'no elements known', dim: (_input, _axis, size) => size, constants: false },
  { title: 'no sizes known', dim: (input, axis) => `x${input}_${axis}`, constants: true },
  { title: 'equal sizes of one name', dim: (_input, _axis, size) => (size === 1 ? 1 : `n${size}`), constants: true },
  { title: 'nothing known', dim: (input, axis) => `x${input}_${axis}`, constants: false },
];

/** One case of one operator, with what it computes. */
class Probe {
  readonly node: Node;
  readonly version: OperatorVersion;
  readonly given: OperatorCase;
  readonly operator: Operator;
  readonly operators: OperatorTable;
  readonly rules: GradientTable;
  #results: readonly Tensor[] | undefined;

  constructor(operator: Operator, given: OperatorCase, options: OperatorSuiteOptions) {
    this.operator = operator;
    // Copies: a faulty kernel must not spoil the cases for what is checked next.
    this.given = { ...given, inputs: given.inputs.map(input => input?.clone()) };
    const key = operatorKey(operator.domain, operator.name);
    const table = options.operators ?? OPERATORS;
    this.operators = table.get(key) === operator ? table : new Map([...table, [key, operator]]);
    this.rules = gradientsWith(options.rules ?? GRADIENTS, [operator]);
    const opset = given.opset ?? (operator.domain === '' ? MAX_OPSET : operator.versions.at(-1)!.since);
    this.node = {
      name: NODE,
      domain: operator.domain,
      op: operator.name,
      opset,
      inputs: given.inputs.map((input, i) => (input ? i : undefined)),
      outputs: Array.from({ length: given.outputs ?? 1 }, (_, i) => 1000 + i),
      attributes: given.attributes ?? {},
    };
    const version = findVersion(this.operators, this.node);
    if (!version) throw new Error(`${operator.name} has no version at opset ${opset}`);
    this.version = version;
  }

  run(inputs: readonly (Tensor | undefined)[] = this.given.inputs): readonly Tensor[] {
    return runNode(this.node, inputs, { operators: this.operators }).slice(0, this.node.outputs.length);
  }

  results(): readonly Tensor[] {
    this.#results ??= this.run().map(result => result.clone());
    return this.#results;
  }

  /** A graph of this node alone, of which as much is known as `knowledge` says; its inputs are those that are no constants. */
  graph(knowledge: Knowledge): { readonly builder: GraphBuilder; readonly outputs: readonly ValueId[] } {
    const builder = new GraphBuilder('probe', { operators: this.operators });
    const ids = this.given.inputs.map((tensor, i) => {
      if (!tensor) return undefined;
      if (knowledge.constants && DTYPES[tensor.dtype].kind !== 'float') return builder.constant(`x${i}`, tensor);
      const shape = tensor.shape.map((size, axis) => knowledge.dim(i, axis, size));
      return builder.input(`x${i}`, { dtype: tensor.dtype, shape });
    });
    return { builder, outputs: this.add(builder, ids) };
  }

  add(builder: GraphBuilder, inputs: readonly (ValueId | undefined)[], change: Partial<Node> = {}): readonly ValueId[] {
    const { domain, op, opset, outputs, attributes } = { ...this.node, ...change };
    const names = outputs.map((_, i) => `y${i}`);
    return builder.node({ name: NODE, domain, op, opset, inputs, outputs: names, attributes }) as readonly ValueId[];
  }
}

const NODE = 'the probed node';

/** Every check: what it finds wrong, in words. */
const CHECKS: Readonly<Record<OperatorCheck, (p: Probe) => Generator<string | undefined, void>>> = {
  /** What is expected comes out, of the dtype and shape that inference finds when it knows everything. */
  *'computes what its rule says'(p: Probe) {
    const { builder, outputs } = p.graph({ title: '', dim: (_i, _a, size) => size, constants: true });
    const results = p.results();
    for (const [i, id] of outputs.entries()) yield* unlike(results[i], builder.facts(id), new Map(), i);
    const { expected = [] } = p.given;
    for (const [i, tensor] of expected.entries()) {
      if (!tensor) continue;
      const came = results[i];
      yield came ? disagreement({ [`output ${i}`]: came }, { [`output ${i}`]: tensor }, 'rounding') : `no output ${i}`;
    }
  },

  /** Whatever is known of sizes and elements, inference contradicts nothing that comes out; it may say that it must know more. */
  *'infers the same from symbols'(p: Probe) {
    for (const knowledge of KNOWLEDGE) {
      try {
        const { builder, outputs } = p.graph(knowledge);
        const sizes = new Map<string, number>();
        p.given.inputs.forEach((tensor, i) => {
          tensor?.shape.forEach((size, axis) => {
            const dim = knowledge.dim(i, axis, size);
            if (typeof dim === 'string') sizes.set(dim, size);
          });
        });
        for (const [i, id] of outputs.entries()) {
          for (const problem of unlike(p.results()[i], builder.facts(id), sizes, i))
            yield `${knowledge.title}: ${problem}`;
          const known = builder.known(id);
          if (known) yield prefixed(knowledge.title, differs(known, p.results()[i]!, `the known output ${i}`));
        }
        for (const id of outputs) builder.output(id);
        yield* boundLater(p, builder.build(), sizes, knowledge);
      } catch (error) {
        if (!isCloisterError(error) || error.code !== 'UNSUPPORTED_MODEL') yield `${knowledge.title}: ${said(error)}`;
      }
    }
  },

  /** Where elements lie makes no difference, one input at a time and all together. */
  *'reads views as what they show'(p: Probe) {
    const { inputs } = p.given;
    for (const layout of LAYOUT_NAMES) {
      const all = inputs.map(input => input && laidOut(input, layout));
      const single = inputs.length > 1 ? inputs.map((_, i) => inputs.with(i, all[i])) : [];
      for (const tensors of [all, ...single]) {
        const results = p.run(tensors);
        for (const [i, wanted] of p.results().entries()) {
          yield prefixed(`${layout} inputs`, differs(results[i], wanted, `output ${i}`));
        }
      }
    }
  },

  /** What the caller holds is not written: inputs, what lies around them, and attributes. */
  *'leaves its inputs alone'(p: Probe) {
    for (const layout of ['shifted', 'scattered'] as const) {
      const tensors = p.given.inputs.map(input => input && laidOut(input, layout));
      const attributes = Object.values(p.node.attributes).filter(value => value instanceof Tensor);
      const held = [...tensors.filter(tensor => tensor !== undefined), ...attributes];
      const before = held.map(({ data }) => copyOf(data));
      p.run(tensors);
      for (const [i, { data, dtype }] of held.entries()) {
        const whole = (of: Tensor['data']): Tensor => new Tensor(dtype, [data.length], of as Tensor['data']);
        yield differs(
          whole(data),
          whole(before[i]!),
          `what it was given (${i < held.length - attributes.length ? 'input' : 'attribute'} ${i}, in memory)`,
        );
      }
    }
  },

  /** The same again is the same again, bit for bit, also after the caller wrote over the results. */
  *'repeats itself'(p: Probe) {
    const copies = (): readonly (Tensor | undefined)[] => p.given.inputs.map(input => input?.clone());
    const attributes = Object.values(p.node.attributes).flatMap(value => (value instanceof Tensor ? [value.data] : []));
    const wanted = p.results();
    for (const result of p.run(copies())) {
      // A constant may be handed out as it is: the engine copies it.
      const { data } = result;
      if (!attributes.some(other => other === data))
        (data as unknown as { fill(value: unknown): void }).fill(fillOf(data));
    }
    const again = p.run(copies());
    for (const [i, tensor] of wanted.entries()) yield differs(again[i], tensor, `output ${i}, the second time`);
  },

  /** `view`: output 0 shows the elements of input 0. `elementwise`: every element depends on those at its place alone. */
  *'is of the kind that it says'(p: Probe) {
    const { kind } = p.operator;
    const [out] = p.results();
    const { inputs } = p.given;
    if (kind === 'view') {
      const [input] = inputs;
      if (!out || !input || out.size !== input.size) return yield 'output 0 has not the elements of input 0';
      yield differs(out.reshape([out.size]), input.reshape([input.size]), 'output 0, as a view of input 0');
    }
    if (kind !== 'elementwise' || !out) return;
    const broadcasts = (shape: readonly number[]): boolean =>
      shape.every((size, axis) => size === 1 || size === out.shape[axis + out.shape.length - shape.length]);
    // An old form that broadcasts from another axis on, say.
    if (inputs.some(input => input && !broadcasts(input.shape))) return;
    for (let step = 0; step < Math.min(out.size, 5); step++) {
      const place = Math.floor((step * (out.size - 1)) / 4);
      const at = indexOf(out.shape, place);
      const ones = inputs.map(input => input && elementAt(input, at));
      const [came] = p.run(ones);
      const wanted = elementAt(out, at).reshape([1]);
      yield came?.size === 1
        ? differs(came.reshape([1]), wanted, `element ${place} of output 0, computed alone,`)
        : `of one element of each input it made ${came ? formatShape(came.shape) : 'nothing'}`;
    }
  },

  /** Wrong numbers of inputs and outputs, and wrong attributes, are errors of this library that name the node. */
  *'refuses what does not fit its entry'(p: Probe) {
    const { version, node } = p;
    const present = node.inputs.length;
    const wrong: [string, Partial<Node>, number][] = [
      ['an attribute that it does not have', { attributes: { ...node.attributes, [UNKNOWN]: 1 } }, present],
    ];
    const [least, most] = version.inputs;
    if (least > 0) wrong.push(['too few inputs', {}, least - 1]);
    if (most < 50 && present === most && present > 0) wrong.push(['too many inputs', {}, most + 1]);
    if (version.outputs[1] < 50)
      wrong.push([
        'too many outputs',
        { outputs: Array.from({ length: version.outputs[1] + 1 }, (_, i) => i) },
        present,
      ]);
    for (const [name, spec] of Object.entries(version.attributes)) {
      const other = spec.type === 'string' || spec.type === 'strings' ? 1 : 'text';
      wrong.push([`attribute ${name} of another type`, { attributes: { ...node.attributes, [name]: other } }, present]);
      if (!spec.required) continue;
      const rest = Object.fromEntries(Object.entries(node.attributes).filter(([key]) => key !== name));
      wrong.push([`no attribute ${name}`, { attributes: rest }, present]);
    }
    for (const [what, change, count] of wrong) {
      const problem = refusal(p, () => {
        const { builder, ids } = inputsOf(p);
        const padded = Array.from({ length: count }, (_, i) => (i < present ? ids[i] : (ids[0] ?? extra(builder))));
        p.add(builder, padded, change);
      });
      if (problem !== 'refused') yield `${what}: ${problem ?? 'accepted'}`;
    }
  },

  /** Inputs of every dtype and of other shapes: a result that fits what was inferred, or a refusal. */
  *'takes anything, or refuses it'(p: Probe) {
    const { inputs } = p.given;
    for (const [i, input] of inputs.entries()) {
      if (!input) continue;
      const others = [
        ...DTYPE_NAMES.filter(dtype => dtype !== input.dtype).map(dtype => Tensor.zeros(dtype, input.shape)),
        ...[
          [],
          [0],
          [1, ...input.shape],
          input.shape.slice(1),
          input.shape.map(size => size + 1),
          input.shape.map(() => 0),
        ].map(shape => Tensor.zeros(input.dtype, shape)),
      ];
      for (const other of others) {
        const what = `input ${i} as ${other.dtype}${formatShape(other.shape)}`;
        const tensors = inputs.with(i, other);
        let facts: readonly Facts[] = [];
        const problem = refusal(p, () => {
          const { builder, ids } = inputsOf(p, tensors);
          facts = p.add(builder, ids).map(id => builder.facts(id));
        });
        if (problem !== undefined && problem !== 'refused') yield `${what}: ${problem}`;
        if (problem !== undefined) continue;
        try {
          const results = p.run(tensors);
          for (const [at, fact] of facts.entries()) {
            for (const unfit of unlike(results[at], fact, new Map(), at)) yield `${what}: ${unfit}`;
          }
        } catch (error) {
          if (!isCloisterError(error)) yield `${what}: threw ${said(error)}`;
        }
      }
    }
  },

  /** The gradient of a weighted sum of the outputs is what differences say, where the operator has one and the case is in f64. */
  *'has the gradient that differences show'(p: Probe) {
    if (!p.rules.has(operatorKey(p.operator.domain, p.operator.name))) return;
    const { inputs } = p.given;
    const wrt = p.given.gradient ?? inputs.flatMap((input, i) => (input?.dtype === 'f64' ? [i] : []));
    const floats = p.results().flatMap((result, i) => (result.dtype === 'f64' ? [i] : []));
    if (wrt.length === 0 || floats.length === 0) return;
    const b = new GraphBuilder('loss', { operators: p.operators });
    const tensors: Tensor[] = [];
    const places = new Map<number, number>();
    const ids = inputs.map((tensor, i) => {
      if (!tensor) return undefined;
      if (!wrt.includes(i)) return b.constant(`x${i}`, tensor);
      places.set(i, tensors.push(tensor) - 1);
      return b.input(`x${i}`, { dtype: tensor.dtype, shape: tensor.shape });
    });
    const outputs = p.add(b, ids);
    const terms = floats.map(i => {
      const result = p.results()[i]!;
      const weights = Float64Array.from({ length: result.size }, (_, at) => 0.5 + ((at * 7 + i * 3) % 11) / 11);
      const weight = b.constant(`w${i}`, Tensor.from('f64', result.shape, weights));
      const product = b.node({ op: 'Mul', inputs: [outputs[i], weight], opset: 18 })[0]!;
      return b.node({ op: 'ReduceSum', inputs: [product], attributes: { keepdims: 0 }, opset: 18 })[0]!;
    });
    b.output(b.node({ op: 'Sum', inputs: terms, outputs: ['loss'], opset: 18 })[0]!);
    const graph = b.build();
    const slope = gradient(graph, { of: 'loss', wrt: wrt.map(i => `x${i}`), rules: p.rules, operators: p.operators });
    const run = { operators: p.operators };
    const came = runGraph(slope, tensors, run).slice(1);
    for (const [place, i] of wrt.entries()) {
      const got = came[place]!;
      if (got.dtype !== 'f64' || !sameShape(got.shape, inputs[i]!.shape)) {
        yield `by input ${i}: ${got.dtype}${formatShape(got.shape)} instead of f64${formatShape(inputs[i]!.shape)}`;
        continue;
      }
      const wanted = centralDifference(graph, tensors, places.get(i)!, 0, run);
      const off = (got.values() as number[]).findIndex(
        (value, at) => !(Math.abs(value - wanted[at]!) <= 1e-7 * Math.max(1, Math.abs(wanted[at]!))),
      );
      if (off >= 0) yield `by element ${off} of input ${i}: gradient ${got.values()[off]}, difference ${wanted[off]}`;
    }
  },
};

/** The name of a check, as tests show it. */
export type OperatorCheck =
  | 'computes what its rule says'
  | 'infers the same from symbols'
  | 'reads views as what they show'
  | 'leaves its inputs alone'
  | 'repeats itself'
  | 'is of the kind that it says'
  | 'refuses what does not fit its entry'
  | 'takes anything, or refuses it'
  | 'has the gradient that differences show';

/** The names of all checks. */
export const OPERATOR_CHECKS: readonly OperatorCheck[] = Object.keys(CHECKS) as OperatorCheck[];

const UNKNOWN = 'an_attribute_that_no_operator_has';

/** What is wrong with `operator` on these cases: at most three faults for each check. Empty where nothing is. */
export function operatorFaults(
  operator: Operator,
  cases: readonly OperatorCase[],
  options: OperatorSuiteOptions = {},
): readonly OperatorFault[] {
  return OPERATOR_CHECKS.filter(check => !options.without?.includes(check)).flatMap(check =>
    faultsOf(check, operator, cases, options),
  );
}

function faultsOf(
  check: OperatorCheck,
  operator: Operator,
  cases: readonly OperatorCase[],
  options: OperatorSuiteOptions,
): OperatorFault[] {
  const faults: OperatorFault[] = [];
  for (const given of cases) {
    const title = given.title ?? given.inputs.map(x => (x ? x.dtype + formatShape(x.shape) : '-')).join(', ');
    try {
      for (const problem of CHECKS[check](new Probe(operator, given, options))) {
        if (problem !== undefined) faults.push({ check, title, problem });
        if (faults.length === 3) return faults;
      }
    } catch (error) {
      faults.push({ check, title, problem: `threw ${said(error)}` });
    }
    if (faults.length >= 3) return faults;
  }
  return faults;
}

/** Runs the contract of an operator on these cases: one test for each check. */
export function operatorSuite(
  operator: Operator,
  cases: readonly OperatorCase[],
  options: OperatorSuiteOptions = {},
): void {
  describe(`operator contract: ${operator.domain === '' ? '' : `${operator.domain}.`}${operator.name}`, () => {
    it('has cases', () => {
      expect(cases.length).toBeGreaterThan(0);
    });
    for (const check of OPERATOR_CHECKS) {
      if (!options.without?.includes(check)) {
        it(check, () => {
          const faults = faultsOf(check, operator, cases, options);
          expect(faults, faults.map(({ title, problem }) => `${title}: ${problem}`).join('\n')).toEqual([]);
        });
      }
    }
  });
}

/**
 * The cases that running `graph` on these inputs gives for the operators of its nodes, by {@link operatorKey}. Their expected
 * outputs are what the kernels compute.
 */
export function casesOf(
  graph: Graph,
  inputs: readonly Tensor[],
  operators: OperatorTable = OPERATORS,
): ReadonlyMap<string, readonly OperatorCase[]> {
  const cases = new Map<string, OperatorCase[]>();
  const values = new Map<ValueId, Tensor>();
  for (const [id, constant] of graph.constants) if (constant.kind === 'inline') values.set(id, constant.tensor);
  graph.inputs.forEach((id, i) => {
    if (inputs[i]) values.set(id, inputs[i]);
  });
  for (const node of graph.nodes) {
    const tensors = node.inputs.map(id => (id === undefined ? undefined : values.get(id)));
    const results = runNode(node, tensors, { operators });
    node.outputs.forEach((id, i) => {
      if (id !== undefined && results[i]) values.set(id, results[i]);
    });
    const key = operatorKey(node.domain, node.op);
    const { opset, attributes, outputs } = node;
    cases.set(key, [...(cases.get(key) ?? []), { inputs: tensors, attributes, opset, outputs: outputs.length }]);
  }
  return cases;
}

/** Says where a result is not of these facts; sizes that have a name get it from the first result that has it. */
function* unlike(
  tensor: Tensor | undefined,
  { dtype, shape }: Facts,
  sizes: Map<string, number>,
  output: number,
): Generator<string> {
  if (!tensor) return yield `output ${output} is not computed`;
  const fits = shape.every((dim, axis) => {
    const size = tensor.shape[axis]!;
    if (typeof dim === 'number') return dim === size;
    if (!sizes.has(dim)) sizes.set(dim, size);
    return sizes.get(dim) === size;
  });
  if (tensor.dtype === dtype && tensor.shape.length === shape.length && fits) return;
  const names = shape.flatMap(dim => (sizes.has(dim as string) ? [`${dim} = ${sizes.get(dim as string)}`] : []));
  const where = names.length > 0 ? ` with ${[...new Set(names)].join(', ')}` : '';
  yield `output ${output} is ${tensor.dtype}${formatShape(tensor.shape)}, inferred was ${dtype}${formatShape(shape)}${where}`;
}

/** The same graph with its sizes bound afterwards must give the same facts. */
function* boundLater(
  p: Probe,
  graph: Graph,
  sizes: ReadonlyMap<string, number>,
  knowledge: Knowledge,
): Generator<string> {
  const declared = graph.inputs.flatMap(id => graph.values[id]!.facts.shape);
  const dims = Object.fromEntries([...sizes].filter(([name]) => declared.includes(name)));
  const bound = inferFacts(graph, { operators: p.operators, dims });
  for (const [i, id] of bound.outputs.entries()) {
    for (const problem of unlike(p.results()[i], bound.values[id]!.facts, new Map(), i)) {
      yield `${knowledge.title}, then bound: ${problem}`;
    }
  }
}

/** Inputs of a graph that are of the dtypes and shapes of these tensors; small ones that are no floats are constants. */
function inputsOf(
  p: Probe,
  tensors: readonly (Tensor | undefined)[] = p.given.inputs,
): { readonly builder: GraphBuilder; readonly ids: readonly (ValueId | undefined)[] } {
  const builder = new GraphBuilder('probe', { operators: p.operators });
  const ids = tensors.map((tensor, i) => {
    if (!tensor) return undefined;
    return DTYPES[tensor.dtype].kind === 'float'
      ? builder.input(`x${i}`, { dtype: tensor.dtype, shape: tensor.shape })
      : builder.constant(`x${i}`, tensor);
  });
  return { builder, ids };
}

function extra(builder: GraphBuilder): ValueId {
  return builder.find('extra') ?? builder.input('extra', { dtype: 'f32', shape: [2] });
}

/** `refused` where `body` throws an error of this library that names the node; what is wrong with the error; undefined without one. */
function refusal(p: Probe, body: () => void): string | undefined {
  try {
    body();
  } catch (error) {
    if (!isCloisterError(error)) return `threw ${said(error)}`;
    // Inside a subgraph, the node that does not fit is named.
    const named = error.message.includes(NODE) || (p.operator.kind === 'control' && error.detail['node'] !== undefined);
    return named ? 'refused' : `the error does not name the node: ${said(error)}`;
  }
  return undefined;
}

function differs(came: Tensor | undefined, wanted: Tensor, what: string): string | undefined {
  return came ? disagreement({ [what]: came }, { [what]: wanted }, 'bits') : `${what} is not there`;
}

function prefixed(what: string, problem: string | undefined): string | undefined {
  return problem === undefined ? undefined : `${what}: ${problem}`;
}

function said(error: unknown): string {
  return isCloisterError(error) ? `${error.code}: ${error.message}` : String(error);
}

function copyOf(data: Tensor['data']): Tensor['data'] {
  return data.slice() as Tensor['data'];
}

function fillOf(data: Tensor['data']): unknown {
  if (Array.isArray(data)) return 'written over';
  return data instanceof BigInt64Array || data instanceof BigUint64Array ? 77n : 77;
}

function indexOf(shape: readonly number[], place: number): readonly number[] {
  const index = new Array<number>(shape.length).fill(0);
  let rest = place;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = rest % shape[axis]!;
    rest = Math.floor(rest / shape[axis]!);
  }
  return index;
}

/** The element that broadcasts to `index`, as a tensor of the same rank whose sizes are 1. */
function elementAt(tensor: Tensor, index: readonly number[]): Tensor {
  const lead = index.length - tensor.shape.length;
  const cuts = tensor.shape.map((size, axis) => ({ axis, start: size === 1 ? 0 : index[axis + lead]! }));
  return tensor.slice(...cuts.map(({ axis, start }) => ({ axis, start, end: start + 1 }))).clone();
}
