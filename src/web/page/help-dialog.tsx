/**
 * Keys and the language of filters.
 * @module
 */
import type { JSX } from 'preact';
import { Dialog } from './dialog.tsx';

const KEYS: readonly (readonly [string, string])[] = [
  ['/', 'search'],
  ['j k ↓ ↑', 'next, previous record'],
  ['Home End', 'first, last record'],
  ['Enter', 'open the record'],
  ['Esc', 'close'],
  ['v', 'verify all records'],
  ['t', 'what the log is worth: key, checkpoints'],
  ['r', 'show new records'],
  ['b', 'budgets and records'],
  ['e', 'export'],
];

const TERMS: readonly (readonly [string, string])[] = [
  ['actor:ward-3', 'of this actor'],
  ['-action:load', 'all but these'],
  ['decision:SCOPE_EXHAUSTED', 'outcome or reason'],
  ['scope:clinic-a', 'that charge this scope'],
  ['since:7d until:2026-11-21', 'a span of time, UTC'],
  ['"two words"', 'this text anywhere'],
];

/** The dialog. */
export function HelpDialog({ onClose }: { onClose(): void }): JSX.Element {
  return (
    <Dialog title="Keys and filters" onClose={onClose}>
      <dl class="help">
        {KEYS.map(([keys, what]) => (
          <div>
            <dt>
              {keys.split(' ').map(key => (
                <kbd>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <dl class="help">
        {TERMS.map(([term, what]) => (
          <div>
            <dt>
              <code>{term}</code>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="faint">Terms of one qualifier are alternatives; different ones must all hold.</p>
    </Dialog>
  );
}
