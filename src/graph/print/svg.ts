/**
 * A graph as a picture: SVG that stands alone, on light and on dark pages.
 * @module
 */
import type { Graph, ValueId } from '../graph.ts';
import { type Colours, FAMILIES, type FamilyName, familyOf } from './families.ts';
import { type Box, layoutGraph, type Point } from './layout.ts';
import { formatFacts, operatorLabel, Pieces, type PrintOptions, sortAttributes, visible } from './names.ts';

/** Sizes in pixels; text is measured generously, since the reader's font is not known. */
const CHAR = 7.4;
const SMALL_CHAR = 5.9;
const HEAD = 26;
const LINE = 13;
const MAX_CHARS = 26;
const MAX_SMALL = 34;
const MAX_LINES = 3;
const TOP = 64;

/**
 * Returns `graph` as an SVG document. Every operator is a box, coloured by family, with its constants in small print; the shape of a
 * value stands on its line where it is not that of the line before. What is cut off is in the tooltips. Names are escaped: the
 * result is well formed, has no script and refers to nothing outside, whatever the model says.
 *
 * Work and size are bounded by those of the graph; lines beyond 40,000 places of layout are drawn as stubs that name the value.
 *
 * @throws {CloisterError} `LIMIT_EXCEEDED` when the document would be longer than `limitChars`.
 * @example
 * ```ts
 * const g = graphOf('g');
 * g.output('y', g.input('x', 'f32', ['n']).relu());
 * toSvg(g.build()).startsWith('<svg xmlns="http://www.w3.org/2000/svg"'); // true
 * ```
 */
export function toSvg(graph: Graph, options: PrintOptions = {}): string {
  const out = new Pieces('the picture', options);
  const texts = new Map<string, BoxText>();
  const textOf = (kind: Box['kind'], index: number): BoxText => {
    const key = `${kind}${index}`;
    let text = texts.get(key);
    if (!text) {
      text = describeBox(graph, kind, index);
      texts.set(key, text);
    }
    return text;
  };
  const measure = (kind: Box['kind'], index: number): { width: number; height: number } => {
    const { title, lines } = textOf(kind, index);
    const width = Math.max(title.length * CHAR, ...lines.map(line => line.length * SMALL_CHAR));
    return { width: Math.round(width) + 22, height: HEAD + lines.length * LINE };
  };
  const labels = shapeLabels(graph);
  const labelWidth = (box: number): number => (labels[box] ? labels[box].length * SMALL_CHAR + 8 : 0);
  const { boxes, wires, ...size } = layoutGraph(graph, { measure, labelWidth });
  const families = new Set(graph.nodes.map(familyOf));
  const legend = legendOf(families);
  const width = Math.max(size.width, legend.width, 320);
  const height = size.height + TOP;
  const shift = Math.round((width - size.width) / 2);

  const name = escapeXml(visible(graph.name) || 'graph');
  const summary = `${graph.nodes.length} nodes, ${graph.constants.size} constants`;
  out.line(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-labelledby="title desc">`,
  );
  out.line(`<title id="title">${name}</title><desc id="desc">Graph of a model: ${summary}</desc>`);
  out.line(`<style>${styleOf(families)}</style>`);
  out.line(`<rect class="page" width="${width}" height="${height}"/>`);
  out.line(`<text class="head" x="24" y="26">${escapeXml(cut(visible(graph.name), 60))}</text>`);
  out.line(`<text class="small" x="24" y="42">${summary}</text>`);
  out.line(legend.svg);
  out.line(`<g transform="translate(${shift} ${TOP})">`);

  for (const { value, lane, ends } of wires) {
    const { name: label, facts } = graph.values[value]!;
    const trunk = lane.length > 1 ? curve(lane) : '';
    const taps = ends.map(({ start, end }) => `${curve([start, end])}${arrow(end)}`).join('');
    const title = `${visible(label)} ${formatFacts(facts)}`;
    out.line(`<path class="wire" d="${trunk}${taps}"><title>${escapeXml(title)}</title></path>`);
  }
  for (const box of boxes) {
    const { title, lines, tip } = textOf(box.kind, box.index);
    const family = box.kind === 'node' ? familyOf(graph.nodes[box.index]!) : 'end';
    const centre = round(box.x + box.width / 2);
    const radius = box.kind === 'node' ? 5 : box.height / 2;
    const small = lines.map(
      (line, row) =>
        `<text class="small" x="${centre}" y="${round(box.y + HEAD + 3 + row * LINE)}">${escapeXml(line)}</text>`,
    );
    out.line(
      `<g class="box ${family}"><title>${escapeXml(tip)}</title><rect x="${box.x}" y="${box.y}" width="${box.width}" height="${box.height}" rx="${radius}"/>` +
        `<text x="${centre}" y="${round(box.y + 17)}">${escapeXml(title)}</text>${small.join('')}</g>`,
    );
  }
  boxes.forEach((box, i) => {
    if (!labels[i]) return;
    const x = round(box.x + box.width / 2 + 5);
    out.line(`<text class="shape" x="${x}" y="${round(box.y + box.height + 12)}">${escapeXml(labels[i])}</text>`);
  });
  for (const { value, stubs } of wires) {
    for (const to of stubs) {
      const box = boxes[to]!;
      const name = escapeXml(cut(visible(graph.values[value]!.name), MAX_SMALL));
      out.line(`<text class="shape" x="${round(box.x + box.width + 3)}" y="${round(box.y + 12)}">← ${name}</text>`);
    }
  }
  out.line('</g>');
  out.line('</svg>');
  return out.toString();
}

/** `text` as it may stand in XML, in an element and between quotes. What XML cannot hold is made visible before. */
function escapeXml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/**
 * What stands below each box, in the order of the layout: inputs, nodes, outputs. The shape of a node's results, where it is not that
 * of its first input; several results of one shape are counted, others listed.
 */
function shapeLabels(graph: Graph): readonly string[] {
  const read = new Set<ValueId | undefined>([...graph.outputs, ...graph.nodes.flatMap(node => node.inputs)]);
  const factsOf = (id: ValueId): string => formatFacts(graph.values[id]!.facts);
  const inputs = graph.inputs.filter(id => !graph.constants.has(id));
  const nodes = graph.nodes.map(({ inputs: [first], outputs }) => {
    const shapes = outputs.flatMap(id => (id !== undefined && read.has(id) ? [factsOf(id)] : []));
    const distinct = [...new Set(shapes)];
    if (distinct.length === 1 && first !== undefined && distinct[0] === factsOf(first)) return '';
    const label =
      distinct.length === 1 && shapes.length > 1
        ? `${shapes.length} × ${distinct[0]}`
        : distinct.slice(0, 4).join(', ');
    return cut(label, 40);
  });
  return [...inputs.map(id => cut(factsOf(id), 40)), ...nodes, ...graph.outputs.map(() => '')];
}

interface BoxText {
  readonly title: string;
  readonly lines: readonly string[];
  readonly tip: string;
}

function describeBox(graph: Graph, kind: Box['kind'], index: number): BoxText {
  if (kind !== 'node') {
    const { name, facts } = graph.values[index]!;
    const lines = kind === 'output' && graph.constants.has(index) ? [`constant ${formatFacts(facts)}`] : [];
    return { title: cut(visible(name), MAX_CHARS), lines, tip: `${kind} ${visible(name)} ${formatFacts(facts)}` };
  }
  const node = graph.nodes[index]!;
  const constants = node.inputs.flatMap(id => (id !== undefined && graph.constants.has(id) ? [graph.values[id]!] : []));
  const { graphs } = sortAttributes(node);
  const notes = [
    ...constants.map(({ name, facts }) => `${shortName(name)} ${formatFacts(facts)}`),
    ...graphs.map(([key, subgraph]) => `${visible(key, 20)}: ${subgraph.nodes.length} nodes`),
  ].map(line => cut(line, MAX_SMALL));
  const lines =
    notes.length > MAX_LINES ? [...notes.slice(0, MAX_LINES - 1), `and ${notes.length - MAX_LINES + 1} more`] : notes;
  const outputs = node.outputs.flatMap(id => (id === undefined ? [] : [graph.values[id]!]));
  const gives = outputs.slice(0, 8).map(({ name, facts }) => `${visible(name)} ${formatFacts(facts)}`);
  const tip = [`${operatorLabel(node)}-${node.opset} ${visible(node.name)}`, ...gives].join('\n');
  return { title: cut(operatorLabel(node), MAX_CHARS), lines, tip };
}

/** The end of a name says more than its path. */
function shortName(name: string): string {
  const shown = visible(name);
  return shown.length <= 16 ? shown : `…${shown.slice(-15).replace(/^[\udc00-\udfff]/, '')}`;
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** A line through points that leaves and reaches each from above. */
function curve(points: readonly Point[]): string {
  const [first, ...rest] = points as [Point, ...Point[]];
  let at = first;
  let path = `M${first[0]} ${first[1]}`;
  for (const [x, y] of rest) {
    if (x === at[0]) path += `V${y}`;
    else {
      const middle = round((at[1] + y) / 2);
      path += `C${at[0]} ${middle} ${x} ${middle} ${x} ${y}`;
    }
    at = [x, y];
  }
  return path;
}

function arrow([x, y]: Point): string {
  return `M${round(x - 3)} ${round(y - 5)}L${x} ${y}L${round(x + 3)} ${round(y - 5)}`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function legendOf(families: ReadonlySet<FamilyName>): { readonly svg: string; readonly width: number } {
  let x = 24;
  const items: string[] = [];
  for (const name of Object.keys(FAMILIES) as FamilyName[]) {
    if (!families.has(name)) continue;
    const { label } = FAMILIES[name];
    items.push(
      `<g class="box ${name}"><rect x="${x}" y="50" width="12" height="12" rx="3"/></g><text class="small" x="${x + 17}" y="60">${label}</text>`,
    );
    x += Math.round(label.length * SMALL_CHAR) + 34;
  }
  return { svg: items.join(''), width: x };
}

function styleOf(families: ReadonlySet<FamilyName>): string {
  const rules = (of: (name: FamilyName) => Colours): string =>
    [...families]
      .map(name => {
        const { fill, stroke, text } = of(name);
        return `.${name} rect{fill:${fill};stroke:${stroke}}.${name} text{fill:${text}}`;
      })
      .join('');
  const page = (back: string, text: string, dim: string, line: string, end: string): string =>
    `.page{fill:${back}}.head{fill:${text}}.small,.shape{fill:${dim}}.shape{stroke:${back}}.wire{stroke:${line}}.end rect{fill:${back};stroke:${end}}.end text{fill:${text}}`;
  return (
    'text{font:11px ui-sans-serif,system-ui,"Segoe UI",Helvetica,Arial,sans-serif}.head{font-size:16px;font-weight:600}' +
    '.small,.shape{font-size:9.5px}.shape{paint-order:stroke;stroke-width:3px}.box text{text-anchor:middle;font-weight:600;font-size:12px}' +
    '.box .small{font-weight:400;font-size:9.5px}.wire{fill:none;stroke-width:1.2}' +
    page('#ffffff', '#1f2328', '#57606a', '#8b949e', '#57606a') +
    rules(name => FAMILIES[name].light) +
    `@media (prefers-color-scheme:dark){${page('#0d1117', '#e6edf3', '#9aa4af', '#6e7681', '#9aa4af')}${rules(name => FAMILIES[name].dark)}}`
  );
}
