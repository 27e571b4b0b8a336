/**
 * The three states of whatever can be checked: verified, failed, not checked. Told by form as well as by colour.
 * @module
 */
import type { JSX } from 'preact';
import type { CheckedRecord } from '../check/log-check.ts';

const MARKS = { verified: '✓', failed: '✗', unchecked: '·' } as const;
const WORDS = { verified: 'verified', failed: 'failed', unchecked: 'not checked' } as const;

/** A mark with its meaning for those who do not see it. */
export function StateMark({ state, reason }: Pick<CheckedRecord, 'state' | 'reason'>): JSX.Element {
  const words = reason === undefined ? WORDS[state] : `${WORDS[state]}: ${reason}`;
  return (
    <span class={`mark ${state}`} title={words}>
      <span aria-hidden="true">{MARKS[state]}</span>
      <span class="sr">{words}</span>
    </span>
  );
}
