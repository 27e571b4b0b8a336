/**
 * Which rows of a long table are in view. Browsers lay out no element of a million rows in full height, so the height is bounded, and
 * where it is, one pixel of the scroll bar is more than one pixel of the table.
 * @module
 */

/** A table of rows of one height behind a window. */
export interface ScrollWindow {
  /** Height of the scrolled element. */
  readonly heightPx: number;
  /** Pixels of the table for one pixel of scrolling: 1 unless the height had to be bounded. */
  readonly ratio: number;
  /** Largest offset into the table, in its own pixels. */
  readonly maxOffsetPx: number;
  /** First and last row, exclusive, to be drawn at an offset. */
  rowsAt(offsetPx: number): { readonly from: number; readonly to: number };
  /** The nearest offset from which a row is wholly in view. */
  offsetFor(row: number, offsetPx: number): number;
}

/** Height that every browser can lay out. */
export const HEIGHT_LIMIT_PX = 8_000_000;
/** Rows that are drawn beyond each edge. */
const MARGIN = 8;

/** Lays `rows` rows of `rowPx` out behind a window of `viewPx`. */
export function scrollWindow(rows: number, rowPx: number, viewPx: number): ScrollWindow {
  const fullPx = rows * rowPx;
  const heightPx = Math.min(fullPx, Math.max(HEIGHT_LIMIT_PX, viewPx));
  const maxOffsetPx = Math.max(0, fullPx - viewPx);
  const ratio = heightPx > viewPx ? maxOffsetPx / (heightPx - viewPx) : 1;
  return {
    heightPx,
    ratio,
    maxOffsetPx,
    rowsAt: offsetPx => ({
      from: Math.max(0, Math.floor(offsetPx / rowPx) - MARGIN),
      to: Math.min(rows, Math.ceil((offsetPx + viewPx) / rowPx) + MARGIN),
    }),
    offsetFor(row, offsetPx) {
      const top = row * rowPx;
      const nearest = Math.max(Math.min(offsetPx, top), top + rowPx - viewPx);
      return Math.min(Math.max(0, nearest), maxOffsetPx);
    },
  };
}
