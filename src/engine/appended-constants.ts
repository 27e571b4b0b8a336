/**
 * Large inline constants, read as if they stood in the model file, behind its end: a program holds few bytes itself.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { Constant, ConstantReader, Graph, ValueId } from '../graph/index.ts';
import { DTYPES, type Tensor } from '../tensor/index.ts';
import type { ModelReader } from './kernel-host.ts';

/** Constants up to here stay inline: what planning may compute on. */
const INLINE_BYTES = 65_536;

/** A graph whose large constants are all ranges, and what they are ranges of. */
export interface AppendedConstants {
  readonly graph: Graph;
  /** The model file as far as constants reach into it, then the large inline constants one behind another. */
  readonly model: ModelReader;
}

/** Returns `graph` with every inline constant of more than 64 KiB as a range of a model that goes on with their bytes; those that are dense are not copied. */
export function appendConstants(graph: Graph, file: ConstantReader): AppendedConstants {
  let fileBytes = 0;
  for (const constant of graph.constants.values()) {
    if (constant.kind === 'range') fileBytes = Math.max(fileBytes, constant.offset + constant.length);
  }
  const appended: { readonly offset: number; readonly length: number; readonly dense: Tensor }[] = [];
  const constants = new Map<ValueId, Constant>();
  let size = fileBytes;
  for (const [id, constant] of graph.constants) {
    const length = constant.kind === 'inline' ? constant.tensor.size * DTYPES[constant.tensor.dtype].bytes : 0;
    if (constant.kind === 'range' || constant.tensor.dtype === 'string' || length <= INLINE_BYTES) {
      constants.set(id, constant);
      continue;
    }
    appended.push({ offset: size, length, dense: constant.tensor.contiguous() });
    constants.set(id, Object.freeze({ kind: 'range', offset: size, length }));
    size += length;
  }
  const behind = (offset: number, length: number): Uint8Array => {
    const part = appended.find(each => offset >= each.offset && offset + length <= each.offset + each.length);
    if (part === undefined) {
      const message = `a constant of ${length} bytes at ${offset} lies in no one constant of the graph; the file ends at ${fileBytes}`;
      throw new CloisterError('INVALID_PROGRAM', message, { offset, length, fileBytes });
    }
    const start = offset - part.offset;
    return part.dense.bytes().slice(start, start + length);
  };
  const isInFile = (offset: number, length: number): boolean => offset + length <= fileBytes;
  return {
    graph: { ...graph, constants },
    model: {
      size,
      read: (offset, length) => (isInFile(offset, length) ? file.read(offset, length) : behind(offset, length)),
      ...(file.readInto && {
        readInto(offset: number, target: Uint8Array) {
          if (isInFile(offset, target.length)) file.readInto!(offset, target);
          else target.set(behind(offset, target.length));
        },
      }),
    },
  };
}
