/**
 * The time axis of charts: days and hours as filters spell them, in UTC.
 * @module
 */
import uPlot from 'uplot';
import { isoTime } from '../../base/clock.ts';
import { colourOf } from './theme.ts';

/** Font of all axes. */
export const AXIS_FONT = '11px system-ui, sans-serif';

const DAY_MS = 86_400_000;

/** The axis; times are milliseconds since 1970. */
export function timeAxis(): uPlot.Axis {
  return {
    stroke: colourOf('--faint'),
    grid: { show: false },
    ticks: { stroke: colourOf('--line'), width: 1, size: 4 },
    size: 22,
    space: 64,
    font: AXIS_FONT,
    values: (_, ticks, __, ___, step) =>
      ticks.map(tick =>
        step >= DAY_MS
          ? isoTime(tick).slice(0, 10)
          : isoTime(tick)
              .slice(5, step < 60_000 ? 19 : 16)
              .replace('T', ' '),
      ),
  };
}

/** Charts are in UTC, wherever the browser is. */
export function utcDate(ms: number): Date {
  return uPlot.tzDate(new Date(ms), 'Etc/UTC');
}
