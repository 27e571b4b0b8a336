/**
 * The capability `clock`: time since the call began, in coarse steps.
 * @module
 */
import type { Capability } from './capability.ts';

/** Monotonic time. A guest that may look at a fine clock can tell what else runs on its processor; this one goes in steps. */
export const CLOCK: Capability<'stepMs'> = {
  name: 'clock',
  sees: '() => number',
  does: 'Returns the milliseconds since the call began, as a multiple of `stepMs`; never goes back.',
  records: 'nothing more',
  options: {
    calls: { default: 100_000, least: 0, most: 100_000_000 },
    bytes: { default: 16_777_216, least: 0, most: 4_294_967_296 },
    stepMs: { default: 1, least: 1, most: 60_000 },
  },
  guest: `use => () => Number(use('now'))`,
  open({ stepMs }, { elapsedMs }, spend) {
    let last = 0;
    return {
      now() {
        last = Math.max(last, Math.floor(elapsedMs() / stepMs) * stepMs);
        const text = String(last);
        spend(text.length);
        return text;
      },
    };
  },
};
