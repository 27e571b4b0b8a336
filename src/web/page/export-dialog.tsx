/**
 * Export of the records that the filter asks for, with proofs that hold without the log.
 * @module
 */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { Dialog } from './dialog.tsx';
import { records } from './format.ts';
import { Visible } from './visible-text.tsx';

interface Props {
  readonly filter: string;
  readonly now: number;
  readonly total: number;
  onClose(): void;
}

const FORMATS = [
  ['jsonl', 'JSON Lines', 'records as they are, canonical JSON'],
  ['csv', 'CSV', 'for spreadsheets; no cell becomes a formula'],
  ['ocsf', 'OCSF', 'API Activity events (6003) for security tools'],
] as const;

/** The dialog. */
export function ExportDialog({ filter, now, total, onClose }: Props): JSX.Element {
  const [format, setFormat] = useState<(typeof FORMATS)[number][0]>('jsonl');
  const address = (wanted: string): string =>
    `api/export?${new URLSearchParams({ filter, now: String(now), format: wanted })}`;
  return (
    <Dialog title={`Export ${records(total)}`} onClose={onClose}>
      {filter !== '' && (
        <p class="mono quoted">
          <Visible text={filter} />
        </p>
      )}
      <fieldset>
        <legend class="sr">Format</legend>
        {FORMATS.map(([name, title, note]) => (
          <label class="choice">
            <input type="radio" name="format" value={name} checked={format === name} onChange={() => setFormat(name)} />
            <span>
              {title} <span class="faint">{note}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <p class="acts">
        <a class="button primary" href={address(format)} download>
          Save records
        </a>
        <a class="button" href={address('bundles')} download>
          Save proofs
        </a>
      </p>
      <p class="faint">
        The proofs are a file of their own. It holds each record with its path to the signed root, and is checked
        without the log: <code>cloister audit verify audit-proofs.jsonl --key VKEY</code>
      </p>
    </Dialog>
  );
}
