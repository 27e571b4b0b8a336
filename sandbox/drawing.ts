/**
 * Drawing a model inside the walls. Pure; apart from what checks the drawing, so that a worker starts without the graph's code.
 * @module
 */
import { encodeUtf8, isCloisterError } from '../src/base/index.ts';
import { type Graph, printGraph, toDot, toSvg } from '../src/graph/index.ts';
import { limitError } from './limit-error.ts';
import type { ShownForm } from './shown.ts';

const MAKE: Readonly<Record<ShownForm, (graph: Graph, options: { readonly limitChars: number }) => string>> = {
  text: printGraph,
  svg: toSvg,
  dot: toDot,
};

/**
 * Returns `graph` in `form` as UTF-8.
 *
 * @throws {CloisterError} `LIMIT_EXCEEDED` with `detail.limit` `outputBytes` when it has more than `limitBytes` bytes.
 */
export function encodeShown(graph: Graph, form: ShownForm, limitBytes: number): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = encodeUtf8(MAKE[form](graph, { limitChars: limitBytes }));
  } catch (error) {
    if (isCloisterError(error, 'LIMIT_EXCEEDED')) throw limitError('outputBytes', limitBytes);
    throw error;
  }
  if (bytes.length > limitBytes) throw limitError('outputBytes', limitBytes, bytes.length);
  return bytes;
}
