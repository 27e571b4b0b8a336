/**
 * What the log as a whole is worth: its key, its checkpoint, what was seen of it before, and the check of all records.
 * @module
 */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { Dialog } from './dialog.tsx';
import { count, minute, records } from './format.ts';
import { useModel } from './hooks.ts';
import type { Model } from './model.ts';
import { StateMark } from './state-mark.tsx';
import { Visible } from './visible-text.tsx';

/** The state of the whole log in a word. */
export function logState(model: Model): { readonly state: 'verified' | 'failed' | 'unchecked'; readonly text: string } {
  const { failure, head, whole } = model;
  if (failure !== undefined) {
    const where = failure.index === 0 && failure.through > 0 ? '' : ` at record ${count(failure.index)}`;
    return { state: 'failed', text: `Failed: ${failure.kind}${where}` };
  }
  if (whole.kind === 'done' && !whole.verdict.ok)
    return { state: 'failed', text: `Failed at record ${count(whole.verdict.index)}` };
  if (whole.kind === 'running') {
    const share = head === undefined || head.size === 0 ? 0 : Math.floor((100 * whole.done) / head.size);
    return { state: 'unchecked', text: `Verifying ${share} %` };
  }
  if (whole.kind === 'done') return { state: 'verified', text: 'Verified' };
  return { state: 'unchecked', text: 'Not checked' };
}

/** The state of the log, always in view. */
export function TrustBadge({ model, onOpen }: { readonly model: Model; onOpen(): void }): JSX.Element {
  const { state, text } = logState(model);
  const { whole, head } = model;
  const share = whole.kind === 'running' && head !== undefined && head.size > 0 ? whole.done / head.size : undefined;
  return (
    <>
      <button type="button" class={`badge ${state}`} onClick={onOpen} aria-haspopup="dialog">
        <StateMark state={state} />
        <span role="status">{text}</span>
        {share !== undefined && <progress value={share} aria-label="Verified so far" />}
      </button>
      {whole.kind === 'not-checked' && model.opened?.checkable === true && model.failure === undefined && (
        <button type="button" class="button" title="Verify (v)" onClick={() => void model.checkAll()}>
          Verify all
        </button>
      )}
    </>
  );
}

interface Props {
  readonly model: Model;
  onClose(): void;
  /** Shows a record. */
  onShow(seq: number): void;
}

/** Key, checkpoints and verdict. */
export function TrustPanel({ model, onClose, onShow }: Props): JSX.Element {
  useModel(model);
  const [given, setGiven] = useState('');
  const [said, setSaid] = useState<{ readonly ok: boolean; readonly text: string } | undefined>();
  const { head, failure, whole } = model;
  const bad = failure ?? (whole.kind === 'done' && !whole.verdict.ok ? whole.verdict : undefined);
  const take = async (): Promise<void> => {
    try {
      const taken = await model.give(given);
      setSaid({ ok: model.failure === undefined, text: model.failure?.message ?? `The log agrees with the ${taken}.` });
      setGiven('');
    } catch (error) {
      setSaid({ ok: false, text: error instanceof Error ? error.message : String(error) });
    }
  };
  return (
    <Dialog title="What this log is worth" onClose={onClose}>
      <ul class="findings">
        <Finding
          state={bad !== undefined ? 'failed' : whole.kind === 'done' ? 'verified' : 'unchecked'}
          title="Every record"
        >
          {bad !== undefined ? (
            <>
              <strong>{bad.kind}</strong>: <Visible text={bad.message} />
              {bad.through > bad.index &&
                ` (the first bad record is from ${count(bad.index)} to ${count(bad.through)})`}{' '}
              <button type="button" class="link" onClick={() => onShow(bad.index)}>
                Show record {count(bad.index)}
              </button>
            </>
          ) : whole.kind === 'done' ? (
            `${records(head?.size ?? 0)} read and hashed here in ${(whole.ms / 1000).toFixed(1)} s; they lead to the signed root.`
          ) : whole.kind === 'running' ? (
            <>
              {count(whole.done)} of {count(head?.size ?? 0)} …
            </>
          ) : (
            <>
              Rows in view are checked as they come.{' '}
              <button type="button" class="link" onClick={() => void model.checkAll()}>
                Verify all {count(head?.size ?? 0)}
              </button>
            </>
          )}
        </Finding>
        <Finding
          state={head === undefined ? 'unchecked' : failure?.kind === 'resealed' ? 'failed' : 'verified'}
          title="Checkpoint"
        >
          {head === undefined
            ? 'There is none.'
            : failure?.kind === 'resealed'
              ? 'It is not signed by the key of this log.'
              : `Signed, over ${records(head.size)}.`}
        </Finding>
        <Finding
          state={
            failure?.kind === 'forked' || failure?.kind === 'rolled-back'
              ? 'failed'
              : head?.extends
                ? 'verified'
                : 'unchecked'
          }
          title="History"
        >
          {head?.extends
            ? `It extends the ${records(head.extends.size)} that were seen ${minute(head.extends.seen)} UTC.`
            : failure?.kind === 'forked' || failure?.kind === 'rolled-back'
              ? 'It does not extend what was seen before.'
              : 'This browser has not seen this log before, so there is nothing to compare with.'}
        </Finding>
        <Finding state={head?.keyKnown ? 'verified' : 'unchecked'} title="Key">
          {head?.keyKnown
            ? 'The one that is known here.'
            : 'As served, seen for the first time: compare it with the one that you were given.'}
          {head !== undefined && <code class="key-text">{head.vkey}</code>}
        </Finding>
      </ul>
      <label class="give">
        A public key or a signed checkpoint that you kept elsewhere
        <textarea
          rows={4}
          spellcheck={false}
          placeholder={'NAME+0123abcd+…\nor a checkpoint, with all its lines'}
          value={given}
          onInput={event => setGiven(event.currentTarget.value)}
        />
      </label>
      <p class="acts">
        <button type="button" class="button primary" disabled={given.trim() === ''} onClick={() => void take()}>
          Check against it
        </button>
        <button type="button" class="button" onClick={() => void model.forget()}>
          Forget this log
        </button>
      </p>
      {said !== undefined && (
        <p class={said.ok ? 'good' : 'error'} role="status">
          <Visible text={said.text} />
        </p>
      )}
      {head !== undefined && (
        <details>
          <summary>Checkpoint as it is signed</summary>
          <pre class="canonical">
            {head.note.split('\n').map(line => (
              <>
                <Visible text={line} />
                {'\n'}
              </>
            ))}
          </pre>
        </details>
      )}
      <p class="faint">
        All of this is found out in this browser, from the files of the log. Keys and heads are kept in it alone.
      </p>
    </Dialog>
  );
}

interface FindingProps {
  readonly state: 'verified' | 'failed' | 'unchecked';
  readonly title: string;
  readonly children: JSX.Element | string | (JSX.Element | string | false)[];
}

function Finding({ state, title, children }: FindingProps): JSX.Element {
  return (
    <li>
      <StateMark state={state} />
      <div>
        <h3>{title}</h3>
        <div>{children}</div>
      </div>
    </li>
  );
}
