/**
 * RNN, GRU and LSTM: one product of all inputs with their weights, then a step that walks through time.
 * @module
 */
import { cellFunctions, type Facts, type Node, type ValueId } from '../../graph/index.ts';
import { type Draft, Unsupported, type View } from '../draft.ts';
import { BINARY_OPS, CELL_FUNCTIONS, CELLS, floatWord } from '../program.ts';
import { emitProduct } from './linear.ts';
import { attribute, emitCopy, type Lowerings, number, numbers } from './lowering.ts';

/** Lowerings of `src/graph/ops/recurrent`. */
export const RECURRENT: Lowerings = {
  RNN: { float: false, refuses: refuseFunctions, lower: lowerRecurrent },
  GRU: { float: false, refuses: refuseFunctions, lower: lowerRecurrent },
  LSTM: { float: false, refuses: refuseFunctions, lower: lowerRecurrent },
};

/** The functions of one direction when a node names none; as many gates has its weights. */
const FAMILIES: Readonly<Record<string, { readonly functions: readonly string[]; readonly gates: number }>> = {
  RNN: { functions: ['Tanh'], gates: 1 },
  GRU: { functions: ['Sigmoid', 'Tanh'], gates: 3 },
  LSTM: { functions: ['Sigmoid', 'Tanh', 'Tanh'], gates: 4 },
};

function directionsOf(node: Node): number {
  return attribute(node, 'direction') === 'bidirectional' ? 2 : 1;
}

/** Words for the three functions of direction `index`; undefined where the kernels have not got one. */
function functionWords(node: Node, index: number): readonly number[] | undefined {
  const { functions } = FAMILIES[node.op]!;
  const given = numbers(node, 'activations') as unknown as readonly string[] | undefined;
  const names = given?.length ? given : Array.from({ length: directionsOf(node) }, () => functions).flat();
  const all = cellFunctions(names, numbers(node, 'activation_alpha') ?? [], numbers(node, 'activation_beta') ?? []);
  const own = all.slice(index * functions.length, (index + 1) * functions.length);
  const padded = [0, 1, 2].map(i => own[i] ?? { name: 'sigmoid', alpha: 0, beta: 0 });
  if (own.includes(undefined) || !padded.every(({ name }) => Object.hasOwn(CELL_FUNCTIONS, name))) return undefined;
  return padded.flatMap(({ name, alpha, beta }) => [
    CELL_FUNCTIONS[name as keyof typeof CELL_FUNCTIONS],
    floatWord(alpha),
    floatWord(beta),
  ]);
}

function refuseFunctions(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const other = inputs.find((facts, i) => i !== 4 && facts !== undefined && facts.dtype !== 'f32');
  if (other !== undefined) return `native kernels compute in f32, not ${other.dtype}`;
  const lacking = [0, 1].slice(0, directionsOf(node)).some(index => functionWords(node, index) === undefined);
  return lacking ? 'one of its activations has no native kernel' : undefined;
}

interface Sizes {
  readonly sequence: number;
  readonly batch: number;
  readonly input: number;
  readonly hidden: number;
  readonly gates: number;
  readonly directions: number;
  readonly batchFirst: boolean;
}

function lowerRecurrent(d: Draft, node: Node): void {
  const [xId, , rId] = node.inputs as readonly [ValueId, ValueId, ValueId];
  const batchFirst = number(node, 'layout', 0) !== 0;
  const [first, second, input] = d.shape(xId) as readonly [number, number, number];
  const [sequence, batch] = batchFirst ? [second, first] : [first, second];
  const { gates } = FAMILIES[node.op]!;
  const hidden = d.shape(rId)[2]!;
  const directions = directionsOf(node);
  const sizes: Sizes = { sequence, batch, input, hidden, gates, directions, batchFirst };
  const [yId, hId, cId] = node.outputs;
  const state = 4 * batch * hidden;
  const lstm = node.op === 'LSTM';
  /** The bytes of an output, one for each direction, and those of the output itself. */
  const parts = (id: ValueId | undefined, bytes: number): { whole: View | undefined; each: readonly View[] } => {
    const whole = id === undefined ? undefined : d.write(id);
    if (directions === 1) return { whole, each: [whole ?? d.temporary(bytes)] };
    return { whole, each: [d.temporary(bytes), d.temporary(bytes)] };
  };
  const y = parts(yId, yId === undefined ? 0 : sequence * state);
  const h = parts(hId, state);
  const c = parts(cId, lstm ? state : 0);
  if (sequence * batch === 0 || input === 0) throw new Unsupported('its input is empty');
  if (!d.isConstant(rId) || d.inSetup) throw new Unsupported('the weights of its state are computed');
  for (let index = 0; index < directions; index++) {
    lowerDirection(d, node, sizes, index, { y: y.each[index]!, h: h.each[index]!, c: c.each[index]! });
  }
  if (directions === 1) return;
  if (y.whole) d.emit('concat', [y.whole, ...y.each], [batchFirst ? sequence * batch : sequence]);
  for (const { whole, each } of [h, c]) if (whole) d.emit('concat', [whole, ...each], [batchFirst ? batch : 1]);
}

function lowerDirection(
  d: Draft,
  node: Node,
  { sequence, batch, input, hidden, gates, directions, batchFirst }: Sizes,
  index: number,
  { y, h, c }: { readonly y: View; readonly h: View; readonly c: View },
): void {
  const [xId, wId, rId, bId, lengthsId, h0Id, c0Id, pId] = node.inputs;
  const rows = gates * hidden;
  const none = (): View => d.temporary(0);
  /** What direction `index` has of `id`, of `count` elements. */
  const part = (id: ValueId, count: number): View => ({ ...d.read(id), offset: 4 * index * count, length: 4 * count });
  const late = node.op === 'GRU' && number(node, 'linear_before_reset', 0) !== 0;
  const cell = late ? 'gruLate' : (node.op.toLowerCase() as keyof typeof CELLS);

  const biases = bId === undefined ? undefined : part(bId, 2 * rows);
  const bias = biases && lowerBias(d, bId!, biases, rows, late ? 2 * hidden : rows);
  const weights = part(wId!, rows * input);
  const packed = d.isConstant(wId!)
    ? { packed: d.pack(weights, { layout: 'gemm', words: [input, rows, 1] }) }
    : weights;
  const gate = d.temporary(4 * sequence * batch * rows);
  emitProduct(d, { m: sequence * batch, n: rows, k: input, bTransposed: true }, d.read(xId!), packed, gate, bias);

  const initial = (id: ValueId | undefined): View => {
    if (id === undefined) return none();
    if (directions === 1 || !batchFirst) return part(id, batch * hidden);
    const view = d.temporary(4 * batch * hidden);
    const from = { ...d.read(id), offset: 4 * index * hidden, length: 4 * ((batch - 1) * directions + 1) * hidden };
    emitCopy(d, from, 4, [batch, hidden], [directions * hidden, 1], view);
    return view;
  };
  const stateBias = (): View => {
    if (biases !== undefined) return { ...biases, offset: biases.offset + 4 * (rows + 2 * hidden), length: 4 * hidden };
    return d.inline(new Uint8Array(4 * hidden));
  };
  const r = d.pack(part(rId!, rows * hidden), { layout: 'recurrent', words: [CELLS[cell], hidden] });
  const reverse = index === 1 || attribute(node, 'direction') === 'reverse';
  d.emit(
    'recurrent',
    [
      ...[gate, { packed: r }, y, h, c, initial(h0Id), initial(node.op === 'LSTM' ? c0Id : undefined)],
      late ? stateBias() : none(),
      node.op === 'LSTM' && pId !== undefined ? part(pId, 3 * hidden) : none(),
      lengthsId === undefined ? none() : d.read(lengthsId),
    ],
    [
      ...[CELLS[cell], Number(reverse), Number(number(node, 'input_forget', 0) !== 0), Number(batchFirst)],
      ...[sequence, batch, hidden],
      ...functionWords(node, index)!,
      floatWord(number(node, 'clip', Number.POSITIVE_INFINITY)),
    ],
  );
}

/** The sum of both biases in the first `both` rows; in the others, that of the inputs alone. */
function lowerBias(d: Draft, id: ValueId, biases: View, rows: number, both: number): View {
  const lower = (): View => {
    const sum = d.temporary(4 * rows);
    const at = (view: View, from: number, count: number): View => ({
      ...view,
      offset: view.offset + 4 * from,
      length: 4 * count,
    });
    const own = at(biases, 0, both);
    d.emit('binary', [own, at(biases, rows, both), at(sum, 0, both)], [BINARY_OPS.add, 1, both, 1, 1]);
    if (both < rows) d.emit('concat', [at(sum, both, rows - both), at(biases, both, rows - both)], [1]);
    return sum;
  };
  return d.isConstant(id) ? d.atSetup(lower) : lower();
}
