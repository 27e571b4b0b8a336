/**
 * A graph as text for reading: one line for each input, constant and node, aligned.
 * @module
 */
import { DTYPES, Tensor } from '../../tensor/index.ts';
import type { Graph, Node, ValueId } from '../graph.ts';
import {
  constantBytes,
  formatBytes,
  formatFacts,
  operatorLabel,
  Pieces,
  type PrintOptions,
  sortAttributes,
  visible,
} from './names.ts';

/** Elements of a list that are shown. */
const MAX_LIST = 16;
/** Subgraphs within subgraphs that are shown. */
const MAX_DEPTH = 8;
/** The widest columns; what is wider pushes its line to the right. */
const MAX_COLUMN = 40;

/**
 * Returns `graph` as text: stable, the same for equal graphs. Names are escaped; elements of constants are not shown, but for short
 * lists of integers, which are shapes and axes. It is for people: nothing reads it back.
 *
 * @throws {CloisterError} `LIMIT_EXCEEDED` when the text would be longer than `limitChars`.
 * @example
 * ```ts
 * const g = graphOf('affine');
 * g.output('y', g.input('x', 'f32', ['n', 2]).matmul([[1], [2]]));
 * printGraph(g.build()).split('\n')[2]; // '  input   %x        f32[n, 2]'
 * ```
 */
export function printGraph(graph: Graph, options: PrintOptions = {}): string {
  const out = new Pieces('the text', options);
  write(graph, out, '', 0);
  return out.toString();
}

function write(graph: Graph, out: Pieces, indent: string, depth: number): void {
  const inputs = graph.inputs.filter(id => !graph.constants.has(id));
  const defaults = new Set(graph.inputs);
  let bytes = 0;
  for (const [id, constant] of graph.constants) bytes += constantBytes(graph, id, constant);
  const name = (id: ValueId): string => valueName(graph.values[id]!.name);
  const facts = (id: ValueId): string => formatFacts(graph.values[id]!.facts);
  const results = graph.nodes.map(node => ({
    node,
    left: node.outputs.map(id => (id === undefined ? '_' : name(id))).join(', '),
    facts: node.outputs.map(id => (id === undefined ? '_' : facts(id))).join(', '),
  }));
  const shown = [...inputs, ...graph.constants.keys()];
  const nameWidth = widest([...shown.map(name), ...results.map(({ left }) => left)]);
  const factsWidth = widest([...shown.map(facts), ...results.map(row => row.facts)]);
  const row = (kind: string, left: string, right: string, rest: string): void => {
    out.line(`${indent}  ${kind.padEnd(8)}${left.padEnd(nameWidth)}  ${right.padEnd(factsWidth)}  ${rest}`.trimEnd());
  };

  const counts = [
    count(inputs.length, 'input'),
    count(graph.constants.size, 'constant'),
    count(graph.nodes.length, 'node'),
  ];
  out.line(`${indent}graph ${valueName(graph.name).slice(1)}`);
  out.line(`${indent}  ${counts.join(', ')}, ${formatBytes(bytes)} of constants`);
  for (const id of inputs) row('input', name(id), facts(id), '');
  for (const [id, constant] of graph.constants) {
    const values = constant.kind === 'inline' ? smallIntegers(constant.tensor) : undefined;
    const size = `${formatBytes(constantBytes(graph, id, constant))}${constant.kind === 'range' ? ' of the file' : ''}`;
    const default_ = defaults.has(id) ? ', the default of an input' : '';
    row('const', name(id), facts(id), values === undefined ? `${size}${default_}` : `= ${values}${default_}`);
  }
  for (const { node, left, facts: right } of results) {
    const { plain, graphs } = sortAttributes(node);
    const args = node.inputs.map(id => (id === undefined ? '_' : name(id)));
    const attributes = [
      ...plain.map(([key, value]) => `${visible(key, 40)}: ${attributeText(value)}`),
      ...graphs.map(([key]) => `${visible(key, 40)}: below`),
    ];
    const braces = attributes.length > 0 ? ` {${attributes.join(', ')}}` : '';
    row('', left, right, `= ${operatorLabel(node)}-${node.opset}(${args.join(', ')})${braces}${ownName(node)}`);
    for (const [key, subgraph] of graphs) {
      out.line(`${indent}            ${visible(key, 40)}:`);
      if (depth < MAX_DEPTH) write(subgraph, out, `${indent}              `, depth + 1);
      else out.line(`${indent}              … ${count(subgraph.nodes.length, 'node')}`);
    }
  }
  for (const id of graph.outputs) {
    const labels = graph.maps.get(id)?.labels.length;
    row('output', name(id), facts(id), labels === undefined ? '' : `read as a map with ${count(labels, 'label')}`);
  }
}

/** `%x`, in quotes where it holds more than letters, digits and the usual marks. */
function valueName(name: string): string {
  const shown = visible(name);
  return /^[\w./:#@-]+$/.test(shown) ? `%${shown}` : `%"${shown.replaceAll('"', '\\"')}"`;
}

/** The name of a node where it says more than its outputs do. */
function ownName(node: Node): string {
  return node.name === '' || node.name.startsWith(`${node.op}#`) ? '' : `  # ${visible(node.name)}`;
}

function attributeText(value: Exclude<Node['attributes'][string], Graph>): string {
  if (typeof value === 'number') return numberText(value);
  if (typeof value === 'string') return `"${visible(value, 60).replaceAll('"', '\\"')}"`;
  if (value instanceof Tensor) return smallIntegers(value) ?? formatFacts(value);
  const items = (value as readonly (number | string)[])
    .slice(0, MAX_LIST)
    .map(item => (typeof item === 'number' ? numberText(item) : attributeText(item)));
  if (value.length > MAX_LIST) items.push(`… ${value.length} in all`);
  return `[${items.join(', ')}]`;
}

/** Floats of a file are f32: seven digits say them. */
function numberText(value: number): string {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(7)));
}

function smallIntegers(tensor: Tensor): string | undefined {
  if (DTYPES[tensor.dtype].kind !== 'int' || tensor.shape.length > 1 || tensor.size > MAX_LIST) return undefined;
  const values = tensor.values().map(String).join(', ');
  return tensor.shape.length === 0 ? values : `[${values}]`;
}

function widest(cells: readonly string[]): number {
  return cells.reduce((width, cell) => Math.max(width, Math.min(cell.length, MAX_COLUMN)), 0);
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
