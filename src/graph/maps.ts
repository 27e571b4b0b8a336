/**
 * Outputs that stand for maps: from columns of a tensor to JavaScript Maps.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { formatShape, type Tensor } from '../tensor/index.ts';
import type { LabelledColumns } from './graph.ts';

/** What one row says of each label. Integers of 64 bits are `bigint`. */
export type LabelledRow = ReadonlyMap<string | number, number | bigint | string>;

/**
 * Returns `tensor`, whose columns have labels (`graph.maps`), as one map for each row; a tensor of one dimension is one row. Where a
 * label stands twice, its last column counts.
 *
 * @throws {CloisterError} `SHAPE_MISMATCH` when it has not one column for each label.
 * @example
 * ```ts
 * const scores = Tensor.of('f32', [[0.25, 0.75], [1, 0]]);
 * const [first] = toMaps(scores, { labels: ['no', 'yes'] });
 * first?.get('yes'); // 0.75
 * ```
 */
export function toMaps(tensor: Tensor, { labels }: LabelledColumns): readonly LabelledRow[] {
  const width = tensor.shape.at(-1);
  if (tensor.shape.length < 1 || tensor.shape.length > 2 || width !== labels.length) {
    const message = `expected rows of ${labels.length} columns, one for each label, got ${formatShape(tensor.shape)}`;
    throw new CloisterError('SHAPE_MISMATCH', message, { labels: labels.length, came: [...tensor.shape] });
  }
  const rows = tensor.shape.length === 1 ? 1 : tensor.shape[0]!;
  const values = tensor.values();
  return Array.from(
    { length: rows },
    (_, row) => new Map(labels.map((label, column) => [label, values[row * width + column]!])),
  );
}
