/**
 * What follows a product or a convolution and is computed with it.
 * @module
 */
import type { Node, ValueId } from '../../graph/index.ts';
import { formatShape, type Shape } from '../../tensor/index.ts';
import { type Draft, epilogueWords, Unsupported } from '../draft.ts';
import { clipBounds } from './lowering.ts';

/** What follows a product and is computed with it: a bias per channel, a tensor of its own size, then an activation. */
export interface Tail {
  readonly out: ValueId;
  readonly bias: ValueId | undefined;
  readonly addend: ValueId | undefined;
  readonly words: readonly number[];
}

/**
 * Follows the only consumers of `out`: an Add of a constant of shape `biasShape` (where one is given; leading ones
 * aside), an Add of a tensor of the size of `out` (where `residual` is set and it is there already), then a Relu or a
 * Clip. What it takes along is absorbed.
 */
export function followTail(d: Draft, out: ValueId, biasShape: Shape | undefined, residual = false): Tail {
  let bias: ValueId | undefined;
  let addend: ValueId | undefined;
  let next = d.soleConsumer(out);
  if (biasShape !== undefined && next?.op === 'Add' && next.domain === '' && next.opset >= 7) {
    const other = next.inputs.find(id => id !== out);
    const sum = next.outputs[0]!;
    if (
      other !== undefined &&
      d.isConstant(other) &&
      isChannelwise(d.shape(other), biasShape) &&
      sameSize(d, sum, out)
    ) {
      bias = other;
      d.absorb(next);
      out = sum;
      next = d.soleConsumer(out);
    }
  }
  if (residual && next?.op === 'Add' && next.domain === '' && next.opset >= 7) {
    const other = next.inputs.find(id => id !== out);
    const sum = next.outputs[0]!;
    if (other !== undefined && d.isReady(other) && sameSize(d, other, out) && sameSize(d, sum, out)) {
      addend = other;
      d.absorb(next);
      out = sum;
      next = d.soleConsumer(out);
    }
  }
  let words = epilogueWords('none');
  if (next?.domain === '' && next.inputs[0] === out && (next.op === 'Relu' || next.op === 'Clip')) {
    const bounds = next.op === 'Clip' ? tryBounds(d, next) : undefined;
    if (next.op === 'Relu') words = epilogueWords('relu');
    else if (bounds !== undefined) words = epilogueWords('clip', bounds.lo, bounds.hi);
    if (next.op === 'Relu' || bounds !== undefined) {
      d.absorb(next);
      out = next.outputs[0]!;
    }
  }
  return { out, bias, addend, words };
}

function tryBounds(d: Draft, node: Node): { lo: number; hi: number } | undefined {
  try {
    return clipBounds(d, node);
  } catch (error) {
    if (error instanceof Unsupported) return undefined;
    throw error;
  }
}

function sameSize(d: Draft, a: ValueId, b: ValueId): boolean {
  return formatShape(d.shape(a)) === formatShape(d.shape(b));
}

/** Whether a tensor of `shape` adds one element per channel: it is `expected`, up to leading ones. */
export function isChannelwise(shape: Shape, expected: Shape): boolean {
  const lead = shape.length - expected.length;
  return lead >= 0 && shape.every((size, i) => size === (i < lead ? 1 : expected[i - lead]));
}
