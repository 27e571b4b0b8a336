/**
 * The capability `log`: lines of text to the caller.
 * @module
 */
import { printable } from '../untrusted.ts';
import { type Capability, Refusal, textOf } from './capability.ts';

/** Lines to whoever called: printable, bounded, in order. */
export const LOG: Capability<'lineBytes'> = {
  name: 'log',
  sees: '(text: string) => void',
  does: 'Gives a line of text to the caller; a line feed ends a line, and what is not printable becomes U+FFFD.',
  records: 'the lines, in the messages of the evaluation',
  options: {
    calls: { default: 1_000, least: 0, most: 1_000_000 },
    bytes: { default: 262_144, least: 0, most: 268_435_456 },
    // A line has to fit a frame between worker and supervisor, where quotes are escaped.
    lineBytes: { default: 4_096, least: 1, most: 30_000 },
  },
  guest: "use => text => { use('line', text); }",
  open({ lineBytes }, { log }) {
    return {
      line(given) {
        const lines = printable(textOf(given, 'the line')).split('\n');
        const longest = lines.reduce((most, line) => Math.max(most, Buffer.byteLength(line)), 0);
        if (longest > lineBytes)
          throw new Refusal('limit', `a line of ${longest} bytes is over lineBytes (${lineBytes})`);
        for (const line of lines) log(line);
        return '';
      },
    };
  },
};
