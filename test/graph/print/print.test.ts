import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError } from '../../../src/base/index.ts';
import { bytesSource, parseOnnx } from '../../../src/formats/index.ts';
import { type Graph, GraphBuilder, graphOf } from '../../../src/graph/index.ts';
import { FAMILIES } from '../../../src/graph/print/families.ts';
import { printGraph, toDot, toSvg } from '../../../src/graph/print/index.ts';
import { type Layout, layoutGraph } from '../../../src/graph/print/layout.ts';
import { Tensor } from '../../../src/tensor/index.ts';

const corpus = process.env['CLOISTER_CORPUS'];
const models = corpus ? join(corpus, 'models') : undefined;

/** A graph whose names are given. */
function named(names: readonly string[]): Graph {
  const [graph, x, w, y, node, dim] = names as [string, string, string, string, string, string];
  const b = new GraphBuilder(graph);
  const input = b.input(`x${x}`, { dtype: 'f32', shape: [`d${dim}`, 2] });
  const weight = b.constant(`w${w}`, Tensor.of('f32', [[1], [2]]));
  b.output(b.node({ op: 'MatMul', name: `n${node}`, inputs: [input, weight], outputs: [`y${y}`] })[0]!);
  return b.build();
}

/** A graph of random joins. */
const randomGraph = fc
  .array(fc.tuple(fc.nat(), fc.nat(), fc.integer({ min: 0, max: 3 })), { minLength: 1, maxLength: 60 })
  .map(picks => {
    const b = new GraphBuilder('random');
    const shape = ['a dimension with a rather long name', 4] as const;
    const values = [b.input('x', { dtype: 'f32', shape }), b.input('u', { dtype: 'f32', shape })];
    const w = b.constant('w', Tensor.of('f32', [1, 2, 3, 4]));
    for (const [i, j, kind] of picks) {
      const first = values[i % values.length]!;
      const second = kind === 0 ? w : values[j % values.length]!;
      const op = ['Add', 'Mul', 'Max', 'Relu'][kind]!;
      values.push(b.node({ op, inputs: op === 'Relu' ? [first] : [first, second] })[0]!);
    }
    b.output(values.at(-1)!);
    if (picks[0]![0] % 2 === 0) b.output(values[0]!);
    return b.build();
  });

const measure = (_: string, index: number): { width: number; height: number } => ({
  width: 40 + ((index * 37) % 160),
  height: 26 + ((index * 13) % 40),
});

function checkLayout({ boxes, wires, width, height }: Layout): void {
  // By rows, so that a large graph takes no square of time.
  const rows = new Map<number, (typeof boxes)[number][]>();
  for (const box of boxes) {
    expect(box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height).toBe(true);
    const row = rows.get(box.y);
    if (row) row.push(box);
    else rows.set(box.y, [box]);
  }
  const tops = [...rows.keys()].sort((a, b) => a - b);
  tops.forEach((top, i) => {
    const row = rows.get(top)!.sort((a, b) => a.x - b.x);
    const overlap = row.some((box, k) => k > 0 && row[k - 1]!.x + row[k - 1]!.width > box.x);
    const below = tops[i + 1] ?? Number.POSITIVE_INFINITY;
    if (overlap || row.some(box => box.y + box.height > below)) throw new Error('two boxes overlap');
  });
  for (const { from, lane, ends } of wires) {
    const maker = boxes[from]!;
    const [x, y] = lane[0]!;
    if (y !== maker.y + maker.height || x < maker.x || x > maker.x + maker.width) {
      throw new Error('a line does not start at its box');
    }
    for (const { to, start, end } of ends) {
      const reader = boxes[to]!;
      const touches = end[1] === reader.y && end[0] >= reader.x && end[0] <= reader.x + reader.width;
      const joined = lane.some(point => point === start);
      if (!touches || !joined || start[1] > end[1]) throw new Error('a line does not end at its box');
    }
  }
}

/** Throws unless `text` is well-formed XML of the kind that is written here: elements, attributes in quotes, five entities. */
function assertWellFormed(text: string): readonly string[] {
  const open: string[] = [];
  const texts: string[] = [];
  const token = /<(\/?)([a-zA-Z]+)((?: [\w:-]+="[^"<&]*(?:&(?:amp|lt|gt|quot|#39);[^"<&]*)*")*)(\/?)>|([^<]+)/y;
  while (token.lastIndex < text.length) {
    const at = token.lastIndex;
    const match = token.exec(text);
    if (!match) throw new Error(`not well formed at ${JSON.stringify(text.slice(at, at + 60))}`);
    const [, end, name, , empty, words] = match;
    if (words !== undefined) {
      if (/&(?!(amp|lt|gt|quot|#39);)/.test(words) || (open.length === 0 && words.trim() !== '')) {
        throw new Error(`bad text ${JSON.stringify(words.slice(0, 60))}`);
      }
      texts.push(words);
    } else if (end) {
      if (open.pop() !== name) throw new Error(`</${name}> does not close what is open`);
    } else if (!empty) open.push(name!);
    if (open.length === 0 && name !== undefined && token.lastIndex < text.trimEnd().length)
      throw new Error('two roots');
  }
  if (open.length > 0) throw new Error(`${open.join()} is not closed`);
  // XML 1.0 §2.2: what a document may hold.
  if (/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/u.test(text))
    throw new Error('a character that XML refuses');
  return texts;
}

const hostile = fc.array(
  fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom(
      '"/><script>alert(1)</script>',
      ']]>',
      '<!--',
      '&lt;',
      '\\"; a -> b; "',
      '\u202eevil',
      '\u0000',
      '\ud800',
      '\uffff',
      '\\',
      '\n',
      '%x = y',
      '\x1b[31m',
      'x'.repeat(5000),
    ),
  ),
  { minLength: 6, maxLength: 6 },
);

describe('the text', () => {
  test('has a line for each input, constant, node and output', () => {
    const g = graphOf('digits');
    const x = g.input('x', 'f32', ['batch', 3]);
    const w = g.constant('w', [
      [1, 2],
      [3, 4],
      [5, 6],
    ]);
    g.output('y', x.gemm(w, [1, 2], { transB: 0, alpha: 0.1 }).reshape([-1, 2]));
    expect(printGraph(g.build())).toBe(
      [
        'graph digits',
        '  1 input, 3 constants, 2 nodes, 48 B of constants',
        '  input   %x         f32[batch, 3]',
        '  const   %w         f32[3, 2]      24 B',
        '  const   %const#0   f32[2]         8 B',
        '  const   %const#1   i64[2]         = [-1, 2]',
        '          %Gemm#0:0  f32[batch, 2]  = Gemm-28(%x, %w, %const#0) {transB: 0, alpha: 0.1}',
        '          %y         f32[batch, 2]  = Reshape-28(%Gemm#0:0, %const#1)',
        '  output  %y         f32[batch, 2]',
        '',
      ].join('\n'),
    );
  });

  test('shows subgraphs below their node', () => {
    const branch = (op: string): Graph => {
      const b = new GraphBuilder(op);
      b.output(b.node({ op, inputs: [b.input('x', { dtype: 'f32', shape: [2] })], outputs: ['y'] })[0]!);
      return b.build();
    };
    const b = new GraphBuilder('choice');
    const c = b.input('c', { dtype: 'bool', shape: [] });
    const x = b.input('x', { dtype: 'f32', shape: [2] });
    const attributes = { then_branch: branch('Relu'), else_branch: branch('Neg') };
    b.output(b.node({ op: 'If', inputs: [c, x], outputs: ['y'], attributes })[0]!);
    const lines = printGraph(b.build())
      .split('\n')
      .map(line => line.trim());
    expect(lines).toContain('then_branch:');
    expect(lines).toContain('graph Neg');
    expect(lines.some(line => line.includes('= Relu-28(%x)'))).toBe(true);
    expect(toSvg(b.build())).toContain('then_branch: 1 nodes');
  });

  test('shows nothing that a terminal or a reader takes for something else', () => {
    fc.assert(
      fc.property(hostile, names => {
        const text = printGraph(named(names));
        expect(text.replaceAll('\n', '')).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        expect(text.split('\n')).toHaveLength(8 - 1);
      }),
    );
  });

  test('holds no weights', () => {
    const g = graphOf('secret');
    g.output('y', g.input('x', 'f32', [2]).mul([31_337.5, 271_828]));
    for (const made of [printGraph(g.build()), toSvg(g.build()), toDot(g.build())]) {
      expect(made).not.toContain('31337');
      expect(made).not.toContain('271828');
    }
  });

  test.each([printGraph, toDot, toSvg])('%o refuses to be longer than it may', make => {
    const graph = named(['', '', '', '', '', '']);
    const { length } = make(graph);
    expect(make(graph, { limitChars: length })).toHaveLength(length);
    expect(() => make(graph, { limitChars: length - 1 })).toThrow(CloisterError);
  });
});

describe('the layout', () => {
  test('puts no box over another, and every line to its boxes', () => {
    fc.assert(
      fc.property(randomGraph, fc.constantFrom(0, 20, 90), fc.constantFrom(0, 5, 40_000), (graph, label, maxLanes) => {
        const layout = layoutGraph(graph, { measure, labelWidth: () => label, maxLanes });
        checkLayout(layout);
        const read = new Set(graph.nodes.flatMap(({ inputs }, i) => inputs.map(id => `${id} ${i}`)));
        const drawn = layout.wires.flatMap(({ value, ends, stubs }) =>
          [...ends.map(({ to }) => to), ...stubs].flatMap(to => {
            const box = layout.boxes[to]!;
            return box.kind === 'node' ? [`${value} ${box.index}`] : [];
          }),
        );
        expect(new Set(drawn)).toEqual(
          new Set([...read].filter(key => !graph.constants.has(Number(key.split(' ')[0])))),
        );
        if (maxLanes === 40_000) expect(layout.wires.flatMap(({ stubs }) => stubs)).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  test('makes a chain one straight column', () => {
    const g = graphOf('chain');
    let x = g.input('x', 'f32', [4]);
    for (let i = 0; i < 50; i++) x = x.relu();
    g.output('y', x);
    const layout = layoutGraph(g.build(), { measure: () => ({ width: 60, height: 26 }), labelWidth: () => 0 });
    expect(new Set(layout.boxes.map(box => box.x)).size).toBe(1);
    expect(layout.height / 52).toBeLessThan(46);
  });

  test('draws what would take too many lanes as stubs, and stays quick', () => {
    // Every node reads the first value: lanes of all lengths.
    const g = graphOf('far');
    const far = Array.from({ length: 300 }, (_, i) => g.input(`x${i}`, 'f32', [4]).relu());
    let x = far[0]!;
    for (let i = 0; i < 1_500; i++) x = x.relu();
    for (const value of far) x = x.add(value);
    for (const value of far) x = x.add(value);
    g.output('y', x);
    const graph = g.build();
    const start = performance.now();
    const layout = layoutGraph(graph, { measure, labelWidth: () => 0 });
    checkLayout(layout);
    expect(layout.wires.some(({ stubs }) => stubs.length > 0)).toBe(true);
    assertWellFormed(toSvg(graph));
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

describe('a node without measure', () => {
  test('of 30,000 outputs and as many inputs is shown in time', () => {
    const b = new GraphBuilder('wide');
    const x = b.input('x', { dtype: 'f32', shape: [30_000] });
    const names = Array.from({ length: 30_000 }, (_, i) => `part ${i}`);
    const parts = b.node({ op: 'Split', inputs: [x], outputs: names, attributes: { num_outputs: names.length } });
    b.output(b.node({ op: 'Sum', inputs: parts, outputs: ['y'] })[0]!);
    const graph = b.build();
    const start = performance.now();
    checkLayout(layoutGraph(graph, { measure, labelWidth: () => 0 }));
    assertWellFormed(toSvg(graph));
    expect(printGraph(graph).split('\n')).toHaveLength(7);
    toDot(graph);
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});

describe('the picture', () => {
  test('is well formed and holds nothing active, whatever the names are', () => {
    fc.assert(
      fc.property(hostile, names => {
        const svg = toSvg(named(names));
        assertWellFormed(svg);
        expect(svg).not.toMatch(/<(script|foreignObject|image|use|a)\b|\son\w+=|href|url\(|@import/);
      }),
    );
  });

  test('names operator, shape and constants', () => {
    const texts = assertWellFormed(toSvg(named(['g', '', '', '', '', ''])));
    for (const words of ['MatMul', 'w f32[2, 1]', 'f32[d, 1]', 'linear algebra', 'g']) expect(texts).toContain(words);
  });

  test.each(Object.entries(FAMILIES))('%s can be read on light and on dark pages', (_, { light, dark }) => {
    for (const { fill, text, stroke } of [light, dark]) {
      expect(contrast(text, fill)).toBeGreaterThan(7);
      expect(contrast(stroke, fill)).toBeGreaterThan(3);
    }
  });
});

describe('the text for Graphviz', () => {
  test('lets no name out of its quotes', () => {
    fc.assert(
      fc.property(hostile, names => {
        const dot = toDot(named(names));
        // What is left when strings are taken out is what we wrote.
        const bare = dot.replace(/"(?:[^"\\\n]|\\.)*"/g, 'S');
        expect(bare).toMatch(/^digraph S \{\n(?: {2}[\w ]*(?:S(?: -> S)? )?\[[\w=S,. ]*\];\n)+\}\n$/);
        expect(dot.replaceAll('\n', '')).not.toMatch(/[\p{C}]/u);
      }),
    );
  });
});

describe.skipIf(!models || !existsSync(models))('models of the corpus', () => {
  const names = models && existsSync(models) ? readdirSync(models).filter(name => !name.includes('.')) : [];
  test.each(names)('%s is laid out within 5 s, and its picture is well formed', name => {
    let graph: Graph;
    try {
      graph = parseOnnx(bytesSource(readFileSync(join(models!, name, 'model.onnx'))));
    } catch (error) {
      // What cannot be read cannot be drawn; the conformance of readers is tested elsewhere.
      expect(error).toBeInstanceOf(CloisterError);
      return;
    }
    const start = performance.now();
    const svg = toSvg(graph);
    expect(performance.now() - start).toBeLessThan(5_000);
    assertWellFormed(svg);
    checkLayout(layoutGraph(graph, { measure, labelWidth: () => 30 }));
    expect(printGraph(graph).split('\n').length).toBeGreaterThan(graph.nodes.length);
  });
});

/** WCAG 2.2: contrast of two colours. */
function contrast(a: string, b: string): number {
  const light = (colour: string): number => {
    const [red, green, blue] = [1, 3, 5].map(at => {
      const c = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [high, low] = [light(a), light(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}
