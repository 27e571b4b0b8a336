/**
 * The gradient of Einsum: for each operand, an Einsum of the output's gradient with the other operands.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { type GradientContext, type GradientRule, range } from './rule.ts';

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';

/** The labels of each operand's axes and of the result's, one letter each; the axes under an ellipsis get letters that are free. */
function readLabels(g: GradientContext): { readonly operands: readonly string[]; readonly result: string } {
  const [left = '', right] = g.string('equation').replaceAll(' ', '').split('->');
  const terms = left.split(',');
  const free = [...LETTERS].filter(letter => !g.string('equation').includes(letter));
  const covered = terms.map((term, i) =>
    term.includes('...') ? g.rankOf(g.node.inputs[i]!) - (term.length - '...'.length) : 0,
  );
  const widest = Math.max(0, ...covered);
  if (widest > free.length) g.unsupported('more labels than there are letters');
  // An ellipsis is aligned at its end, as broadcasting is.
  const spell = (term: string, axes: number): string => term.replace('...', free.slice(widest - axes, widest).join(''));
  const letters = terms.join('').replaceAll('.', '');
  const once = [...letters].filter(letter => letters.indexOf(letter) === letters.lastIndexOf(letter)).sort();
  return {
    operands: terms.map((term, i) => spell(term, covered[i]!)),
    result: spell(right ?? `...${once.join('')}`, widest),
  };
}

/**
 * The gradient of one operand. A label that stands nowhere else was summed over, so its gradient repeats along that axis; one
 * that stands twice picked a diagonal, so its gradient lies on the diagonal.
 */
function operandGradient(g: GradientContext, index: number, operands: readonly string[], result: string): ValueId {
  const operand = g.input(index);
  const own = [...operands[index]!];
  const others = operands.filter((_, i) => i !== index);
  const elsewhere = new Set([result, ...others].join(''));
  const there = [...new Set(own)].filter(label => elsewhere.has(label));
  const inputs = [g.dy, ...g.node.inputs.filter((_, i) => i !== index)];
  let part = g.op('Einsum', inputs, { equation: `${[result, ...others].join()}->${there.join('')}` });
  const first = (axis: number): number => own.indexOf(own[axis]!);
  const placed = own.flatMap((label, axis) => (first(axis) === axis && elsewhere.has(label) ? [axis] : []));
  // The labels are in the order of the operand's axes, so what is missing is put in between.
  part = g.unsqueeze(
    part,
    range(own.length).filter(axis => !placed.includes(axis)),
  );
  for (const axis of range(own.length).filter(at => first(at) !== at)) {
    const [a, b] = [g.shape(operand)[first(axis)]!, g.shape(operand)[axis]!];
    if (typeof a === 'number' && typeof b === 'number' && a !== b)
      g.unsupported('a diagonal of an axis that stretches');
    const along = (at: number): ValueId => g.unsqueeze(counter(g, operand, at), range(own.length - 1 - at, 1));
    part = g.mask(g.op('Equal', [along(first(axis)), along(axis)]), part);
  }
  return g.reduceTo(g.expandLike(part, operand), operand);
}

/** The places along an axis of a value: 0, 1, 2 and so on. */
export function counter(g: GradientContext, id: ValueId, axis: number): ValueId {
  const scalar = (list: ValueId): ValueId => g.op('Squeeze', [list, g.list([0])]);
  return g.op('Range', [scalar(g.list([0])), scalar(g.sizeOf(id, axis)), scalar(g.list([1]))]);
}

/** The rules of this file. */
export const EINSUM: Readonly<Record<string, GradientRule>> = {
  Einsum: g => {
    const { operands, result } = readLabels(g);
    return operands.map((_, i) => (g.needs(i) ? operandGradient(g, i, operands, result) : undefined));
  },
};
