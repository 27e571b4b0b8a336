/**
 * The plan of the native backend: a graph at concrete sizes, made into a program.
 * @module
 */
import { CloisterError, isCloisterError } from '../base/index.ts';
import {
  type ConstantReader,
  foldConstants,
  type Graph,
  type Node,
  optimise,
  type Supports,
  type ValueId,
} from '../graph/index.ts';
import { type DType, elementCount } from '../tensor/index.ts';
import { Draft, type DraftOperand, type DraftStep, Unsupported } from './draft.ts';
import type { KernelInfo } from './kernel-host.ts';
import { dataInputs, findLowering, parameterInputs, refusal } from './lowering/index.ts';
import { alignUp, planMemory } from './memory-planner.ts';
import {
  encodeProgram,
  PROGRAM_LIMITS,
  PROGRAM_VERSION,
  type ProgramOperand,
  type ProgramStep,
  STEP_WRITES,
} from './program.ts';

/** What {@link planProgram} may be told. */
export interface PlanOptions {
  /** The native side that the program is for. */
  readonly kernel: KernelInfo;
  /** Where the bytes of `range` constants are: a few small ones are read while planning, weights never. */
  readonly constants: ConstantReader;
  /** Length of the model file that the `range` constants lie in. */
  readonly modelBytes: number;
  /** Sizes of the graph's symbolic dimensions, by name. */
  readonly dims?: Readonly<Record<string, number>>;
}

/** An input or an output of a program: dense, row-major, in its dtype's little-endian bytes. */
export interface PlannedPort {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** What the plan knows of memory. The executor adds packed weights and workspace, whose sizes depend on the machine. */
export interface PlannedMemory {
  /** Constants that run steps read as they are. */
  readonly permanentBytes: number;
  /** Activations at planned offsets. */
  readonly temporaryBytes: number;
  /** What no plan of these steps could go below. */
  readonly temporaryLowerBoundBytes: number;
  /** Needed while the program is loaded, and given back. */
  readonly stagingBytes: number;
}

/** A program and how to call it. */
export interface PlannedProgram {
  readonly program: Uint8Array;
  readonly inputs: readonly PlannedPort[];
  readonly outputs: readonly PlannedPort[];
  readonly memory: PlannedMemory;
  /** The run steps in order: what each does, and for which node of the graph. */
  readonly steps: readonly { readonly kind: string; readonly node: string }[];
}

/**
 * Returns the program that computes `graph` at the sizes `dims`. The same arguments give the same bytes. Reads no
 * weights and computes on none: what depends on constants alone becomes setup steps, so a guest can plan a model it has
 * never seen whole.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` listing every node that has no native form, with the reason;
 *   `SHAPE_MISMATCH` when a dimension is left unbound; `INVALID_GRAPH`; `MODEL_TOO_LARGE` over a limit of the format;
 *   `INVALID_ARGUMENT` when `kernel` verifies another version of the format.
 * @example
 * ```ts
 * const source = bytesSource(await readFile('digits.onnx'));
 * const kernel = { isa: 'scalar', programVersion: PROGRAM_VERSION, gemmPanel: 16 };
 * const options = { kernel, constants: source, modelBytes: source.size, dims: { batch: 1 } };
 * const { outputs } = planProgram(parseOnnx(source), options);
 * outputs; // [{ name: 'logits', dtype: 'f32', shape: [1, 10] }]
 * ```
 */
export function planProgram(graph: Graph, options: PlanOptions): PlannedProgram {
  if (options.kernel.programVersion !== PROGRAM_VERSION) {
    const theirs = options.kernel.programVersion;
    const message = `programs of version ${PROGRAM_VERSION} are planned here, the native side runs ${theirs}`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  const bound = nativeForm(graph, options.constants, options.dims);
  const { inputs } = bound;
  refuseUnbound(bound, inputs);
  const { nodes, constant } = analyse(bound);
  refuseUnsupported(bound, nodes);
  const draft = new Draft(bound, options.constants, nodes, constant);
  inputs.forEach((id, i) => {
    draft.input(id, i);
  });
  lower(draft, nodes, constant);
  bound.outputs.forEach((id, i) => {
    draft.output(id, i);
  });
  const layout = layOut(draft);
  const port = (id: ValueId): PlannedPort => {
    const { name, facts } = bound.values[id]!;
    return Object.freeze({ name, dtype: facts.dtype, shape: facts.shape as readonly number[] });
  };
  const place = (id: ValueId) => ({ dtype: bound.values[id]!.facts.dtype, length: draft.bytes(id) });
  const encode = ({ kind, words, operands }: DraftStep): ProgramStep => ({
    kind,
    words,
    operands: operands.map(layout.operand),
  });
  const program = encodeProgram({
    modelBytes: options.modelBytes,
    permanentBytes: layout.memory.permanentBytes,
    temporaryBytes: layout.memory.temporaryBytes,
    stagingBytes: layout.memory.stagingBytes,
    constants: draft.constants,
    packed: draft.packed,
    inputs: inputs.map(place),
    outputs: bound.outputs.map(place),
    setup: draft.setup.map(encode),
    run: draft.run.map(encode),
  });
  return Object.freeze({
    program,
    inputs: Object.freeze(inputs.map(port)),
    outputs: Object.freeze(bound.outputs.map(port)),
    memory: Object.freeze(layout.memory),
    steps: Object.freeze(draft.run.map(({ kind, node }) => Object.freeze({ kind, node }))),
  });
}

/** The graph with what the passes for any target find, and everything folded that is small and known at these sizes. */
export function tidy(
  graph: Graph,
  constants: ConstantReader | undefined,
  dims: Readonly<Record<string, number>> = {},
): Graph {
  const reader = constants === undefined ? {} : { constants };
  return foldConstants(optimise(graph, { dims, ...reader, groups: ['declutter'] }).graph, reader);
}

/** {@link tidy}, with every larger operator recovered that native kernels have. */
export function nativeForm(
  graph: Graph,
  constants: ConstantReader | undefined,
  dims: Readonly<Record<string, number>> = {},
): Graph {
  const reader = constants === undefined ? {} : { constants };
  const supports: Supports = (node, inputs, outputs) => refusal(node, inputs, outputs) === undefined;
  return foldConstants(optimise(graph, { dims, ...reader, supports }).graph, reader);
}

/** Which nodes the outputs need, in order, and which values are the same in every run. */
export interface Analysis {
  readonly nodes: readonly Node[];
  readonly constant: ReadonlySet<ValueId>;
}

/**
 * Finds the nodes whose results reach an output through data, not only through a shape, an axis or another parameter
 * that is known while planning.
 */
export function analyse(graph: Graph): Analysis {
  const needed = new Set<ValueId>(graph.outputs);
  const nodes: Node[] = [];
  for (const node of graph.nodes.toReversed()) {
    if (!node.outputs.some(id => id !== undefined && needed.has(id))) continue;
    nodes.push(node);
    for (const id of dataInputs(node)) needed.add(id);
  }
  nodes.reverse();
  const constant = new Set<ValueId>(graph.constants.keys());
  for (const node of nodes) {
    if (!dataInputs(node).every(id => constant.has(id))) continue;
    for (const id of node.outputs) if (id !== undefined) constant.add(id);
  }
  return { nodes, constant };
}

/** One line for each port and each of `nodes` that the native backend does not run: the node and the reason. */
export function refusals(graph: Graph, nodes: readonly Node[]): readonly string[] {
  const ports = new Set([...graph.inputs, ...graph.outputs]);
  const text = [...ports].filter(id => graph.values[id]!.facts.dtype === 'string');
  return [
    ...text.map(id => `${JSON.stringify(graph.values[id]!.name)}: kernels have no text`),
    ...nodeRefusals(graph, nodes).values(),
  ];
}

/** Why the native backend does not run a node, for each of `nodes` that it does not: a line that names the node. */
export function nodeRefusals(graph: Graph, nodes: readonly Node[]): ReadonlyMap<Node, string> {
  const facts = (id: ValueId | undefined) => (id === undefined ? undefined : graph.values[id]!.facts);
  const data = dataDependent(graph);
  const lines = new Map<Node, string>();
  for (const node of nodes) {
    const parameter = parameterInputs(node).find(id => data.has(id));
    const reason =
      refusal(node, node.inputs.map(facts), node.outputs.map(facts)) ??
      (parameter === undefined ? undefined : `${JSON.stringify(graph.values[parameter]!.name)} depends on data`);
    if (reason !== undefined) lines.set(node, `${node.op} ${JSON.stringify(node.name)}: ${reason}`);
  }
  return lines;
}

/** Values that depend on the elements of an input, not on its shape alone. */
function dataDependent(graph: Graph): ReadonlySet<ValueId> {
  const data = new Set<ValueId>(graph.inputs);
  for (const node of graph.nodes) {
    if (node.op === 'Shape' || node.op === 'Size') continue;
    if (!node.inputs.some(id => id !== undefined && data.has(id))) continue;
    for (const id of node.outputs) if (id !== undefined) data.add(id);
  }
  return data;
}

/** Throws the one error that names every node. `how`: in which way they are not run. */
export function throwUnsupported(lines: readonly string[], how = 'natively'): never {
  const rest = lines.length > 8 ? `; and ${lines.length - 8} more` : '';
  throw new CloisterError('UNSUPPORTED_MODEL', `not run ${how}: ${lines.slice(0, 8).join('; ')}${rest}`, {
    nodes: lines.slice(0, 256),
  });
}

function refuseUnbound(graph: Graph, inputs: readonly ValueId[]): void {
  for (const id of inputs) {
    const { name, facts } = graph.values[id]!;
    const free = facts.shape.find(dim => typeof dim === 'string');
    if (free !== undefined) {
      const message = `input ${JSON.stringify(name)}: the size of dimension ${JSON.stringify(free)} is not given`;
      throw new CloisterError('SHAPE_MISMATCH', message, { input: name, dimension: free });
    }
  }
}

function refuseUnsupported(graph: Graph, nodes: readonly Node[]): void {
  const lines = [...refusals(graph, nodes)];
  for (const node of nodes) {
    for (const id of [...node.inputs, ...node.outputs]) {
      if (id === undefined) continue;
      const { name, facts } = graph.values[id]!;
      const label = `${node.op} ${JSON.stringify(node.name)}: ${JSON.stringify(name)}`;
      if (facts.shape.some(dim => typeof dim === 'string'))
        lines.push(`${label} has a size that is known only at run time`);
      else if (elementCount(facts.shape as readonly number[]) > PROGRAM_LIMITS.dim) lines.push(`${label} is too large`);
    }
  }
  if (lines.length > 0) throwUnsupported(lines);
}

/** Lowers what is constant, then the rest: a step may then take in any constant that a later node needs. */
function lower(draft: Draft, nodes: readonly Node[], constant: ReadonlySet<ValueId>): void {
  const isConstant = (node: Node): boolean => node.outputs.every(id => id === undefined || constant.has(id));
  const lines: string[] = [];
  for (const node of [...nodes.filter(isConstant), ...nodes.filter(node => !isConstant(node))]) {
    if (!draft.begin(node)) continue;
    try {
      findLowering(node)!.lower(draft, node);
    } catch (error) {
      if (!(error instanceof Unsupported) && !isCloisterError(error, 'UNSUPPORTED_MODEL')) throw error;
      lines.push(`${node.op} ${JSON.stringify(node.name)}: ${error.message}`);
      for (const id of node.outputs) if (id !== undefined) draft.write(id);
    }
  }
  if (lines.length > 0) throwUnsupported(lines);
}

interface Layout {
  readonly operand: (operand: DraftOperand) => ProgramOperand;
  readonly memory: PlannedMemory;
}

/** Gives every buffer its place. Step i is time i. Inputs and outputs lie with the caller. */
function layOut(draft: Draft): Layout {
  const { buffers, setup, run } = draft;
  const root = shareBytes(draft);
  const temporary = lifetimes(run, buffer => {
    const { phase, port } = buffers[root[buffer]!]!;
    return phase === 'run' && port === undefined ? root[buffer]! : undefined;
  });
  const staging = lifetimes(setup, buffer => (buffers[buffer]!.kept ? undefined : buffer));

  const offsets = new Array<number>(buffers.length).fill(0);
  let permanentBytes = 0;
  buffers.forEach(({ kept, bytes }, buffer) => {
    if (!kept) return;
    offsets[buffer] = permanentBytes;
    permanentBytes += alignUp(bytes);
  });
  const planArena = (lives: Lives): { peakBytes: number; lowerBoundBytes: number } => {
    const list = [...lives.spans].map(([buffer, span]) => ({ buffer, ...span, bytes: buffers[buffer]!.bytes }));
    const plan = planMemory(list);
    list.forEach(({ buffer }, i) => {
      offsets[buffer] = plan.offsets[i]!;
    });
    return plan;
  };
  const temporaryPlan = planArena(temporary);
  const stagingPlan = planArena(staging);
  return {
    operand(operand) {
      if ('packed' in operand) return { space: 'packed', packed: operand.packed };
      const { phase, kept } = buffers[operand.buffer]!;
      const place = root[operand.buffer]!;
      const { port } = buffers[place]!;
      const { length } = operand;
      if (port !== undefined) return { space: port.kind, port: port.index, offset: operand.offset, length };
      const space = phase === 'run' ? 'temporary' : kept ? 'permanent' : 'staging';
      return { space, offset: offsets[place]! + operand.offset, length };
    },
    memory: {
      permanentBytes,
      temporaryBytes: temporaryPlan.peakBytes,
      temporaryLowerBoundBytes: temporaryPlan.lowerBoundBytes,
      stagingBytes: stagingPlan.peakBytes,
    },
  };
}

/**
 * Lets the result of an elementwise step take over the bytes of an operand that nobody needs afterwards, unless they are an input's.
 * Returns, for each buffer, the one whose bytes it uses; where one of them is an output, that is the output's.
 */
function shareBytes({ buffers, run }: Draft): readonly number[] {
  const root = buffers.map((_, i) => i);
  const last = new Array<number>(buffers.length).fill(-1);
  run.forEach((step, i) => {
    for (const operand of step.operands) if ('buffer' in operand) last[operand.buffer] = i;
  });
  buffers.forEach(({ port }, buffer) => {
    if (port?.kind === 'output') last[buffer] = run.length;
  });
  run.forEach((step, i) => {
    const [written] = STEP_WRITES[step.kind];
    const target = written === undefined ? undefined : step.operands[written];
    if (target === undefined || !('buffer' in target)) return;
    const rootOf = (index: number): number | undefined => {
      const operand = step.operands[index]!;
      return 'buffer' in operand ? root[operand.buffer] : undefined;
    };
    const taken = step.inPlace.find(index => {
      const operand = step.operands[index]!;
      if (!('buffer' in operand) || operand.offset !== 0 || operand.length !== target.length) return false;
      const from = root[operand.buffer]!;
      const { phase, bytes, port } = buffers[from]!;
      const alone = step.operands.every((_, j) => j === written || step.inPlace.includes(j) || rootOf(j) !== from);
      return alone && phase === 'run' && port === undefined && bytes === target.length && last[from] === i;
    });
    if (taken === undefined) return;
    const from = rootOf(taken)!;
    root[target.buffer] = from;
    last[from] = last[target.buffer]!;
  });
  // An output that took over the bytes of others gives all of them its own.
  const home = new Map<number, number>();
  buffers.forEach(({ port }, buffer) => {
    if (port?.kind === 'output') home.set(root[buffer]!, buffer);
  });
  return root.map(each => home.get(each) ?? each);
}

interface Lives {
  readonly spans: ReadonlyMap<number, { readonly first: number; readonly last: number }>;
}

/** When each buffer that `which` lets through is first and last touched. */
function lifetimes(steps: readonly DraftStep[], which: (buffer: number) => number | undefined): Lives {
  const spans = new Map<number, { first: number; last: number }>();
  const touch = (buffer: number, time: number): void => {
    const span = spans.get(buffer);
    if (span === undefined) spans.set(buffer, { first: time, last: time });
    else {
      span.first = Math.min(span.first, time);
      span.last = Math.max(span.last, time);
    }
  };
  steps.forEach((step, i) => {
    for (const operand of step.operands) {
      const buffer = 'buffer' in operand ? which(operand.buffer) : undefined;
      if (buffer !== undefined) touch(buffer, i);
    }
  });
  return { spans };
}
