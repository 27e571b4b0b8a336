/**
 * Every operator of the table on nodes that nobody would write: random attributes of the right type, random shapes, dtypes and
 * elements. Whatever comes, a kernel answers with what inference said, or refuses with a typed error, in bounded time and memory.
 */
// First, so that what follows finds the arrays that are counted.
import './counted-arrays.ts';

import { Script } from 'node:vm';
import { expect, test } from 'vitest';
import { CloisterError } from '../../../src/base/index.ts';
import {
  type Attribute,
  type AttributeSpec,
  checkNode,
  type Facts,
  findVersion,
  type Graph,
  GraphBuilder,
  inferFacts,
  type Node,
  OPERATORS,
  type Operator,
  type OperatorVersion,
  runNode,
} from '../../../src/graph/index.ts';
import { DTYPES, type DType, Tensor } from '../../../src/tensor/index.ts';
import { countArrays } from './counted-arrays.ts';

/** Forms that are tried of each version of each operator. */
const RUNS = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 8);
const FUZZ_SEED = process.env['CLOISTER_FUZZ_SEED'] ?? '1';
const SEED = FUZZ_SEED === 'random' ? Math.floor(Math.random() * 2 ** 31) : Number(FUZZ_SEED);

/** What one call may take: a kernel on a few thousand elements needs a hundredth of it. */
const LIMIT_MS = 2000;
/** Results of more are refused before they are made. */
const LIMIT_BYTES = 4 * 2 ** 20;
/** What typed arrays a call may make in all, beside its results. */
const SCRATCH_BYTES = 64 * 2 ** 20;

type Random = () => number;

function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const below = (random: Random, most: number): number => Math.floor(random() * most);
const pick = <T>(random: Random, items: readonly T[]): T => items[below(random, items.length)]!;
const chance = (random: Random, of: number): boolean => random() < of;

const SMALL = [0, 1, 1, 1, 2, 2, 3, 4, -1, -2];
const ABSURD = [
  5,
  8,
  255,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  -(2 ** 31),
  2 ** 32,
  2 ** 53 - 1,
  -(2 ** 53 - 1),
  -7,
  1_000_000,
];
const REALS = [0, 1, 0.5, 2, -1, 3];
const STRANGE = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e-45, 3e38, 1e10, 2 ** 40, -2.5];
const WORDS = [
  ...['NOTSET', 'SAME_UPPER', 'SAME_LOWER', 'VALID', 'linear', 'cubic', 'nearest', 'add', 'mul', 'none', 'max', 'min'],
  ...['constant', 'reflect', 'edge', 'wrap', 'bilinear', 'LOGISTIC', 'SOFTMAX', 'PROBIT', 'forward', 'reverse'],
  ...[
    'bidirectional',
    'DCR',
    'CRD',
    'tanh',
    'Relu',
    'Tanh',
    'Sigmoid',
    'LeakyRelu',
    'AVERAGE',
    'SUM',
    'MAX',
    'L1',
    'L2',
  ],
  ...['BRANCH_LEQ', 'BRANCH_EQ', 'LEAF', 'RBF', 'POLY', 'LINEAR', 'TFIDF', 'TF', 'avg', 'half_pixel', 'align_corners'],
  ...[
    'asymmetric',
    'tf_crop_and_resize',
    'pytorch_half_pixel',
    'floor',
    'round_prefer_floor',
    'LOWER',
    'UPPER',
    'mean',
  ],
  ...[
    'sum',
    'RIGHT',
    'ij,jk->ik',
    'ii->i',
    '...i,...i',
    'a,b->ab',
    '',
    '__proto__',
    'constructor',
    '(a+)+$',
    'x'.repeat(50),
  ],
];
const DTYPE_NAMES = Object.keys(DTYPES) as readonly DType[];
/** Contents that no message may tell of. */
const SECRETS = [-4_917, 6_211.25, 731_443] as const;
const SECRET_TEXT = 'patient zero';

function integer(random: Random): number {
  return chance(random, 0.85) ? pick(random, SMALL) : pick(random, ABSURD);
}

function real(random: Random): number {
  return chance(random, 0.8) ? pick(random, REALS) : pick(random, STRANGE);
}

function shape(random: Random): readonly number[] {
  const rank = pick(random, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
  const sizes = chance(random, 0.15) ? [0, 1, 2] : [1, 2, 3, 4];
  const out = Array.from({ length: rank }, () => pick(random, sizes));
  if (rank > 0 && chance(random, 0.1)) out[below(random, rank)] = pick(random, [17, 130, 600]);
  return out;
}

function tensor(random: Random, dtype: DType, of: readonly number[]): Tensor {
  // Sometimes one element under many: what a model says with Expand.
  if (chance(random, 0.03)) return Tensor.of(dtype, dtype === 'string' ? 'x' : 1).expand([2 ** 18]);
  const out = Tensor.zeros(dtype, of);
  const odd = chance(random, 0.2);
  const secret = chance(random, 0.3);
  const { kind } = DTYPES[dtype];
  const value = (): number | string => {
    if (kind === 'string') return secret ? SECRET_TEXT : pick(random, ['', '1', 'a', 'b,c', '-1e5', 'NaN', 'é']);
    if (kind === 'float' && secret && chance(random, 0.5)) return pick(random, SECRETS);
    if (kind === 'float') return odd ? real(random) : random() * 4 - 1;
    return odd ? integer(random) : pick(random, [0, 1, 1, 2, 3]);
  };
  for (let i = 0; i < out.size; i++) {
    const item = value();
    const data = out.data as unknown as Record<number, unknown>;
    if (kind === 'bool') data[i] = Number(item) > 0 ? 1 : 0;
    else if (data instanceof BigInt64Array || data instanceof BigUint64Array)
      data[i] = BigInt(Math.trunc(Number(item) || 0));
    else data[i] = item;
  }
  // f16 and bf16 are raw bits: any pattern is one.
  return chance(random, 0.2) && of.length > 1 ? out.transpose() : out;
}

/** A branch that is its captured values, and one node on the first. */
function branch(inputs: readonly Facts[]): Graph {
  const b = new GraphBuilder('branch');
  const ids = inputs.map((facts, i) => b.input(`x${i}`, facts));
  b.output(b.node({ op: 'Identity', inputs: [ids[0] ?? b.constant('c', Tensor.of('f32', 1))] })[0]!);
  return b.build();
}

function attribute(random: Random, spec: AttributeSpec, inputs: readonly Facts[]): Attribute {
  const length = pick(random, [0, 1, 1, 2, 2, 3, 4, 6, 8]);
  const list = <T>(item: () => T): readonly T[] => Array.from({ length }, item);
  switch (spec.type) {
    case 'int':
      return integer(random);
    case 'float':
      return real(random);
    case 'string':
      return pick(random, WORDS);
    case 'ints':
      return list(() => integer(random));
    case 'floats':
      return list(() => real(random));
    case 'strings':
      return list(() => pick(random, WORDS));
    case 'tensor':
      return tensor(random, pick(random, DTYPE_NAMES), shape(random).slice(0, 2));
    case 'graph':
      return branch(inputs);
  }
}

interface Case {
  readonly node: Node;
  readonly tensors: readonly (Tensor | undefined)[];
}

/** A node of this version. Inputs often share dtype and shape, as most operators want it. */
function caseOf(random: Random, operator: Operator, version: OperatorVersion): Case {
  const [least, most] = version.inputs;
  const count = least + below(random, Math.min(most, least + 4) - least + 1);
  const common = { dtype: chance(random, 0.6) ? 'f32' : pick(random, DTYPE_NAMES), shape: shape(random) } as const;
  const alike = random();
  const tensors = Array.from({ length: count }, (_, i) => {
    if (i >= least && chance(random, 0.2)) return undefined;
    if (i > 0 && chance(random, 0.25))
      return tensor(random, pick(random, ['i64', 'i32'] as const), pick(random, [[], [1], [2], [3], [4], [300]]));
    const dtype = chance(random, 0.8) ? common.dtype : pick(random, DTYPE_NAMES);
    const of = i === 0 || random() < alike ? common.shape : shape(random);
    return tensor(
      random,
      operator.name === 'If' && i === 0 ? 'bool' : dtype,
      operator.name === 'If' && i === 0 ? [] : of,
    );
  });
  const captured = tensors.slice(1).filter(x => x !== undefined);
  const attributes: Record<string, Attribute> = {};
  for (const [name, spec] of Object.entries(version.attributes)) {
    if (spec.required ? chance(random, 0.98) : chance(random, 0.35))
      attributes[name] = attribute(random, spec, captured);
  }
  const [fewest, all] = version.outputs;
  const outputs = Math.max(1, fewest) + below(random, Math.min(all, fewest + 3) - fewest + 1);
  return {
    tensors,
    node: {
      name: 'it',
      domain: operator.domain,
      op: operator.name,
      opset: version.since,
      inputs: tensors.map((x, i) => x && i),
      outputs: Array.from({ length: Math.min(outputs, all) }, (_, i) => 100 + i),
      attributes,
    },
  };
}

/** What a case did wrong, or undefined. */
function verdict({ node, tensors }: Case, operators: ReadonlyMap<string, Operator> = OPERATORS): string | undefined {
  const before = tensors.map(print);
  const version = findVersion(operators, node)!;
  let failure: unknown;
  const made = countArrays(() => {
    try {
      within(() => {
        checkNode(node, version);
        const inferred = infer({ node, tensors }, operators, false);
        const exact = infer({ node, tensors }, operators, true);
        const results = runNode(node, tensors, { operators, memory: ROOM });
        for (const facts of [inferred, exact]) {
          if (!(facts instanceof CloisterError)) compare(node, facts, results);
        }
      });
    } catch (error) {
      failure = error;
    }
  }, 2 * SCRATCH_BYTES);
  if (made > SCRATCH_BYTES) return `made arrays of ${made} bytes`;
  if (tensors.some((x, i) => print(x) !== before[i])) return 'wrote to an input';
  if (failure === undefined) return undefined;
  if (failure instanceof Violation) return failure.message;
  if ((failure as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return `took more than ${LIMIT_MS} ms`;
  if (!(failure instanceof CloisterError))
    return `threw ${String(failure)} ${(failure as Error).stack?.split('\n')[1]}`;
  const told = failure.message + JSON.stringify(failure.detail);
  if (told.length > 20_000) return `told ${told.length} characters`;
  const secret = [...SECRETS, SECRET_TEXT].find(item => told.includes(String(item)));
  return secret === undefined ? undefined : `told of contents: ${failure.message}`;
}

class Violation extends Error {}

/** Room for results of so many bytes. */
const ROOM = {
  needs(facts: readonly Facts[]): void {
    const bytes = facts.reduce((sum, { dtype, shape: of }) => {
      const sizes = of.map(dim => (typeof dim === 'number' ? dim : 0));
      return sum + sizes.reduce((a, b) => a * b, 1) * DTYPES[dtype].bytes;
    }, 0);
    if (bytes > LIMIT_BYTES) throw new CloisterError('OUT_OF_MEMORY', 'no room');
  },
  holds(): void {},
};

/** The facts of the outputs by inference, from the shapes of the inputs or from their elements; or its refusal. */
function infer(
  { node, tensors }: Case,
  operators: ReadonlyMap<string, Operator>,
  known: boolean,
): readonly Facts[] | CloisterError {
  try {
    const b = new GraphBuilder('one', { operators });
    const ids = tensors.map((x, i) => {
      if (!x) return undefined;
      const large = x.size > 4096;
      return known && !large ? b.constant(`x${i}`, x) : b.input(`x${i}`, { dtype: x.dtype, shape: x.shape });
    });
    const { op, domain, opset, attributes } = node;
    const outputs = b.node({ op, domain, opset, attributes, inputs: ids, outputs: node.outputs.map(id => `y${id}`) });
    for (const id of outputs) b.output(id!);
    const graph = inferFacts(b.build(), { operators });
    return graph.outputs.map(id => graph.values[id]!.facts);
  } catch (error) {
    if (error instanceof CloisterError) return error;
    throw error;
  }
}

function compare(node: Node, facts: readonly Facts[], results: readonly Tensor[]): void {
  facts.forEach(({ dtype, shape: said }, i) => {
    const result = results[i];
    if (!(result instanceof Tensor)) throw new Violation(`has no output ${i}`);
    const fits =
      said.length === result.shape.length &&
      said.every((dim, axis) => typeof dim === 'string' || dim === result.shape[axis]);
    if (dtype !== result.dtype || !fits) {
      throw new Violation(`${node.op}: output ${i} is ${result.dtype}[${result.shape}], inferred ${dtype}[${said}]`);
    }
  });
}

/** The elements of a tensor as text, for those that are small. */
function print(x: Tensor | undefined): string {
  return x && x.size <= 4096 ? x.values().join() : '';
}

/** Runs `what`, and stops it after the limit. */
function within(what: () => void): void {
  const held = globalThis as { fuzzed?: () => void };
  held.fuzzed = what;
  CALL.runInThisContext({ timeout: LIMIT_MS });
}

const CALL = new Script('fuzzed()');

function explain({ node, tensors }: Case): string {
  const inputs = tensors
    .map(x => (x ? `${x.dtype}[${x.shape}]${x.size <= 16 ? `{${x.values().join()}}` : ''}` : '-'))
    .join(' ');
  const attributes = Object.entries(node.attributes).map(([name, value]) => {
    return `${name}=${value instanceof Tensor ? `${value.dtype}[${value.shape}]{${value.size <= 16 ? value.values().join() : ''}}` : JSON.stringify(value, (_, item) => (typeof item === 'bigint' || (typeof item === 'number' && !Number.isFinite(item)) ? String(item) : item))?.slice(0, 200)}`;
  });
  return `${node.domain}:${node.op}-${node.opset}(${inputs}) ${attributes.join(' ')} -> ${node.outputs.length}`;
}

function problems(operators: Iterable<Operator>, runs: number, table = OPERATORS): readonly string[] {
  const found: string[] = [];
  for (const operator of operators) {
    for (const version of operator.versions) {
      const seed = [...`${operator.domain}:${operator.name}-${version.since}`].reduce(
        (sum, c) => Math.imul(sum, 31) + c.charCodeAt(0),
        SEED,
      );
      const random = randomFrom(seed);
      let seen = 0;
      for (let i = 0; i < runs && seen < 2; i++) {
        const each = caseOf(random, operator, version);
        const problem = verdict(each, table);
        if (problem === undefined) continue;
        found.push(`${problem}: ${explain(each)}`);
        seen++;
      }
    }
  }
  return found;
}

test('every operator answers as inferred or refuses with a typed error, in bounded time and memory', () => {
  expect(problems(OPERATORS.values(), RUNS)).toEqual([]);
}, 3_600_000);

/** Operators that break one rule each. */
const BROKEN: readonly (readonly [rule: string, run: OperatorVersion['run'], told: RegExp])[] = [
  ['throws something else', () => [undefined as unknown as Tensor].map(x => x.contiguous()), /^threw TypeError/],
  [
    'never ends',
    c => {
      for (;;) c.operand(0);
    },
    /^took more than/,
  ],
  [
    'is not of the inferred dtype',
    c => [Tensor.zeros(c.input(0).dtype === 'f64' ? 'f32' : 'f64', c.shape())],
    /inferred/,
  ],
  ['is not of the inferred shape', c => [Tensor.zeros(c.input(0).dtype, [...c.shape(), 7])], /inferred/],
  ['takes memory', c => [1, 2, 3].map(() => new Float64Array(2 ** 22)) && [c.operand(0)], /made arrays of/],
  ['takes memory in lists', c => [1, 2, 3].map(() => new Array(2 ** 22)) && [c.operand(0)], /made arrays of/],
  [
    'makes a tensor that is not asked for',
    c => [1, 2].map(() => Tensor.zeros('f64', [2 ** 23])) && [c.operand(0)],
    /made arrays/,
  ],
  [
    'writes to its input',
    c => {
      const data = c.operand(0).data as Float32Array;
      for (let i = 0; i < data.length; i++) data[i] = 9;
      return [c.operand(0)];
    },
    /^wrote to an input/,
  ],
  ['tells of its input', c => c.fail(`cannot take ${c.operand(0).values().join()}`), /^told of contents/],
  ['tells too much', c => c.fail('much'.repeat(10_000)), /^told \d+ characters/],
];

test.each(BROKEN)('the fuzz finds an operator that %s', (_, run, told) => {
  const version: OperatorVersion = {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: {},
    infer: c => [c.input(0)],
    run,
  };
  const broken: Operator = { domain: 'com.example', name: 'Broken', kind: 'compute', versions: [version] };
  const found = problems([broken], 200, new Map([['com.example:Broken', broken]]));
  expect(found.join('\n')).toMatch(new RegExp(told, 'm'));
});
