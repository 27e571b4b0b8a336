import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { openProgramHost } from '../../native/program-host.ts';
import { nativeBackend, planProgram, referenceBackend } from '../../src/engine/index.ts';
import type { Graph, ValueId } from '../../src/graph/index.ts';
import { filled, noFile, Sketch } from '../native/program-seeds.ts';

const UNARY = ['Relu', 'Tanh', 'Sigmoid', 'Abs', 'Neg', 'Identity', 'Erf'];
const BINARY = ['Add', 'Sub', 'Mul', 'Min', 'Max', 'Sum', 'Mean'];

/** A graph of `choices.length` nodes, each over values that were made before it. Sizes stay small. */
function randomGraph(shape: readonly number[], choices: readonly number[]): Graph {
  const g = new Sketch('random');
  const values: ValueId[] = [
    g.input('x', shape),
    g.input(
      'y',
      shape.map((size, i) => (i === 0 ? 1 : size)),
    ),
  ];
  const sizes = (id: ValueId): number[] => [...g.builder.facts(id).shape] as number[];
  for (const choice of choices) {
    const pick = (salt: number): ValueId => values[Math.floor(choice / salt) % values.length]!;
    const a = pick(7);
    const b = pick(101);
    const aShape = sizes(a);
    const kind = choice % 12;
    const compatible =
      aShape.length === sizes(b).length &&
      aShape.every((size, i) => size === sizes(b)[i]! || size === 1 || sizes(b)[i] === 1);
    let made: ValueId | undefined;
    if (kind <= 2) made = g.op(UNARY[choice % UNARY.length]!, [a]);
    else if (kind <= 4 && compatible) made = g.op(BINARY[choice % BINARY.length]!, [a, b]);
    else if (kind === 5 && aShape.length === 3) made = g.op('Transpose', [a], { perm: [2, 0, 1] });
    else if (kind === 6) made = g.op('MatMul', [a, g.weight(aShape.at(-1)!, 3)]);
    else if (kind === 7) made = g.op('Add', [g.op('MatMul', [a, g.weight(aShape.at(-1)!, 4)]), g.weight(4)]);
    else if (kind === 8) made = g.op('Softmax', [a], { axis: choice % aShape.length });
    else if (kind === 9) made = g.op('ReduceMean', [a], { axes: [choice % aShape.length] });
    else if (kind === 10 && aShape.at(-1)! < 40) made = g.op('Concat', [a, a], { axis: -1 });
    else if (kind === 11)
      made = g.op('Slice', [a, g.ints(-1), g.ints(-100), g.ints(choice % aShape.length), g.ints(-1 - (choice % 2))]);
    if (made !== undefined) values.push(made);
  }
  return g.build(...new Set(values.slice(2).length > 0 ? values.slice(-2) : values));
}

test.skipIf(nativeStatus().kind !== 'loaded')(
  'random graphs: native equals reference, whatever the arenas held before',
  () => {
    const binding = loadBinding()!;
    const hosts = [0x00, 0xff].map(fill => nativeBackend(openProgramHost(binding, { fill })));
    const info = openProgramHost(binding).info;
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 3, maxLength: 3 }),
        fc.array(fc.nat(1_000_000), { minLength: 1, maxLength: 12 }),
        (shape, choices) => {
          const graph = randomGraph(shape, choices);
          const inputs = Object.fromEntries(
            graph.inputs.map((id, i) => [
              graph.values[id]!.name,
              filled(graph.values[id]!.facts.shape as readonly number[], i + 1),
            ]),
          );
          const expected = referenceBackend.prepare(graph, { constants: noFile }).runSync(inputs);
          const [zeros, ones] = hosts.map(backend => {
            const executable = backend.prepare(graph, { constants: noFile });
            const outputs = executable.runSync(inputs);
            executable.close();
            return outputs;
          });
          for (const [name, tensor] of Object.entries(expected)) {
            expect(ones![name]!.toBytes()).toEqual(zeros![name]!.toBytes());
            expect(zeros![name]!.shape).toEqual(tensor.shape);
            const want = tensor.values() as number[];
            const got = zeros![name]!.values() as number[];
            const off = want.findIndex((value, i) => !(Math.abs(got[i]! - value) <= 1e-5 * (1 + Math.abs(value))));
            expect({ name, off, want: want[off], got: got[off] }).toEqual({
              name,
              off: -1,
              want: undefined,
              got: undefined,
            });
          }
          const plan = () => planProgram(graph, { kernel: info, constants: noFile, modelBytes: 0 });
          expect(plan().program).toEqual(plan().program);
          expect(plan().memory.temporaryBytes).toBeGreaterThanOrEqual(plan().memory.temporaryLowerBoundBytes);
        },
      ),
      { numRuns: 300 },
    );
  },
);
