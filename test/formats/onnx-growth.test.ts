/** Small files that would become large models: what takes the place of a call or a branch counts as if the file held it. */
import { expect, test } from 'vitest';
import { CloisterError, concatBytes } from '../../src/base/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { field, message, model, node } from './onnx-bytes.ts';

const call = (name: string, output: string, ...more: readonly Uint8Array[]): Uint8Array =>
  field(1, node(name, ['x'], [output], field(7, 'f'), ...more));
const list = (name: string, items: number): Uint8Array =>
  field(5, message(field(1, name), field(8, new Uint8Array(items)), field(20, 7)));
const inDomain = field(8, message(field(1, 'f'), field(2, 1)));

/** A function of one input and one output, with these parts. */
const functionOf = (...parts: readonly Uint8Array[]): Uint8Array =>
  field(25, message(field(1, 'F'), field(4, 'a'), field(5, 'o'), field(9, field(2, 13)), field(10, 'f'), ...parts));
const identity = field(7, node('Identity', ['a'], ['o']));
const range = (count: number, each: (i: number) => Uint8Array): Uint8Array =>
  concatBytes(...Array.from({ length: count }, (_, i) => each(i)));

/** A model that calls the function so often. */
const calls = (count: number, made: Uint8Array, ...more: readonly Uint8Array[]): Uint8Array =>
  model([range(count, i => call('F', `v${i}`, ...more)), field(1, node('Identity', ['x'], ['y']))], inDomain, made);

const ROWS: readonly (readonly [what: string, limit: string, bytes: () => Uint8Array])[] = [
  [
    'inputs of its own',
    'edges',
    () =>
      calls(
        1000,
        functionOf(
          identity,
          range(20_000, i => field(4, `i${i}`)),
        ),
      ),
  ],
  [
    'defaults',
    'attributes',
    () =>
      calls(
        1000,
        functionOf(
          identity,
          range(20_000, i => field(11, message(field(1, `d${i}`), field(3, 1), field(20, 2)))),
        ),
      ),
  ],
  [
    'inputs of its nodes',
    'edges',
    () => calls(1000, functionOf(field(7, node('Sum', new Array(20_000).fill('a') as string[], ['o'])))),
  ],
  [
    'items of lists',
    'listItems',
    () => calls(1000, functionOf(identity, field(7, node('Constant', [], ['c'], list('value_ints', 200_000))))),
  ],
  [
    'items of lists that it is given',
    'listItems',
    () => {
      const given = field(5, message(field(1, 'value_ints'), field(21, 'long'), field(20, 7)));
      const body = range(1000, i => field(7, node('Constant', [], [`c${i}`], given)));
      return calls(1, functionOf(identity, field(6, 'long'), body), list('long', 200_000));
    },
  ],
  [
    'names behind long names',
    'inlineBytes',
    () => {
      const body = range(2, i => field(7, node('Identity', ['a'], [`${'z'.repeat(4000)}${i}`])));
      return calls(20_000, functionOf(identity, body));
    },
  ],
];

function refusalOf(bytes: Uint8Array): unknown {
  try {
    parseOnnx(bytesSource(bytes));
  } catch (error) {
    if (error instanceof CloisterError) return [error.code, error.detail['limit']];
    throw error;
  }
  return 'nothing was refused';
}

test.each(ROWS)('a function called a thousand times brings its %s a thousand times', (_, limit, bytes) => {
  const start = performance.now();
  expect(refusalOf(bytes())).toEqual(['MODEL_TOO_LARGE', limit]);
  expect(performance.now() - start).toBeLessThan(10_000);
});

test('a function of as many outputs as inputs takes time in proportion to them', () => {
  const inputs = range(50_000, i => field(4, `i${i}`));
  const outputs = range(50_000, i => field(5, `p${i}`));
  const start = performance.now();
  expect(
    parseOnnx(bytesSource(model([call('F', 'y')], inDomain, functionOf(identity, inputs, outputs)))).nodes.length,
  ).toBe(1);
  expect(performance.now() - start).toBeLessThan(5000);
});

test('names do not grow with each branch in a branch', () => {
  const branch = (name: string, ...graph: readonly Uint8Array[]): Uint8Array =>
    field(5, message(field(1, name), field(6, message(...graph, field(12, message(field(1, 'o'))))), field(20, 5)));
  const plain = branch('else_branch', field(1, node('Identity', ['x'], ['o'])));
  let inside = concatBytes(
    range(20_000, i => field(1, node('Identity', ['x'], [`v${i}`]))),
    field(1, node('Identity', ['x'], ['o'])),
  );
  const conditional = (output: string): Uint8Array =>
    field(1, node('If', ['c'], [output], field(3, 'k'.repeat(4000)), branch('then_branch', inside), plain));
  for (let depth = 0; depth < 6; depth++) inside = conditional('o');
  const truth = field(5, message(field(2, 9), field(8, 'c'), field(9, Uint8Array.of(1))));
  expect(refusalOf(model([truth, conditional('y')]))).toEqual(['MODEL_TOO_LARGE', 'inlineBytes']);
});
