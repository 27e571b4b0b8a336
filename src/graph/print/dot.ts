/**
 * A graph for Graphviz.
 * @module
 */
import type { Graph, ValueId } from '../graph.ts';
import { FAMILIES, familyOf } from './families.ts';
import { formatFacts, operatorLabel, Pieces, type PrintOptions, visible } from './names.ts';

/**
 * Returns `graph` in the DOT language: `dot -Tsvg` draws it. Constants stand in the box of the node that reads them. Names are
 * escaped: no name can end a string or start an attribute.
 *
 * @throws {CloisterError} `LIMIT_EXCEEDED` when the text would be longer than `limitChars`.
 * @example
 * ```ts
 * const g = graphOf('g');
 * g.output('y', g.input('x', 'f32', ['n']).relu());
 * toDot(g.build()).includes('"n0" -> "out0" [label="f32[n]"]'); // true
 * ```
 */
export function toDot(graph: Graph, options: PrintOptions = {}): string {
  const out = new Pieces('the DOT text', options);
  out.line(`digraph ${quote(visible(graph.name))} {`);
  out.line('  graph [rankdir=TB, fontname="sans-serif"];');
  out.line('  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=11];');
  out.line('  edge [fontname="sans-serif", fontsize=9, color="#6b7280"];');
  const source = new Map<ValueId, string>();
  graph.inputs.forEach((id, i) => {
    if (graph.constants.has(id)) return;
    source.set(id, `in${i}`);
    out.line(`  "in${i}" [shape=ellipse, fillcolor="#ffffff", label=${quote(visible(graph.values[id]!.name, 60))}];`);
  });
  graph.nodes.forEach((node, i) => {
    const { fill, stroke, text } = FAMILIES[familyOf(node)].light;
    const constants = node.inputs.flatMap(id =>
      id !== undefined && graph.constants.has(id) ? [graph.values[id]!] : [],
    );
    const lines = constants.slice(0, 4).map(({ name, facts }) => `${visible(name, 30)} ${formatFacts(facts)}`);
    if (constants.length > 4) lines.push(`and ${constants.length - 4} more`);
    const label = quote([operatorLabel(node), ...lines].join('\n'));
    out.line(
      `  "n${i}" [label=${label}, tooltip=${quote(visible(node.name))}, fillcolor="${fill}", color="${stroke}", fontcolor="${text}"];`,
    );
    for (const id of new Set(node.inputs)) {
      const from = id === undefined ? undefined : source.get(id);
      if (from) out.line(`  "${from}" -> "n${i}" [label=${quote(formatFacts(graph.values[id!]!.facts))}];`);
    }
    for (const id of node.outputs) if (id !== undefined) source.set(id, `n${i}`);
  });
  graph.outputs.forEach((id, i) => {
    const { name, facts } = graph.values[id]!;
    out.line(`  "out${i}" [shape=ellipse, fillcolor="#ffffff", label=${quote(visible(name, 60))}];`);
    const from = source.get(id);
    if (from) out.line(`  "${from}" -> "out${i}" [label=${quote(formatFacts(facts))}];`);
  });
  out.line('}');
  return out.toString();
}

/** A string of the DOT language. Line ends become `\n`, which centres the lines. */
function quote(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;
}
