/**
 * One record whole: what it says, the bytes that were hashed, and the path of hashes that leads from it to the signed root.
 * @module
 */
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { formatTerm } from '../../../sandbox/audit/filter.ts';
import type { AuditRecord } from '../../../sandbox/audit/record.ts';
import { fromHex, toBase64 } from '../../base/bytes.ts';
import type { LogHead } from '../check/log-check.ts';
import { amountText, count, time } from './format.ts';
import { useLoaded } from './hooks.ts';
import type { Model } from './model.ts';
import { ProofDrawing } from './proof-drawing.tsx';
import { StateMark } from './state-mark.tsx';
import { Visible } from './visible-text.tsx';

interface Props {
  readonly model: Model;
  readonly seq: number;
  /** Adds a term to the filter. */
  onAdd(term: string): void;
  onClose(): void;
}

type Key = Parameters<typeof formatTerm>[0]['key'];
/** A line of the drawer; with a key it can be asked for. */
type Line = readonly [name: string, value: string, key?: Key];

/** The drawer. */
export function RecordDrawer({ model, seq, onAdd, onClose }: Props): JSX.Element {
  const panel = useRef<HTMLDivElement>(null);
  const size = model.head?.size ?? 0;
  useEffect(() => {
    if (model.row(seq) === undefined) model.want([seq]);
  }, [seq, model.opened]);
  const row = model.row(seq);
  const proof = useLoaded(
    async () => (row?.state === 'verified' ? await model.proof(seq) : undefined),
    [seq, row?.state, model.head?.root],
  );
  const path = proof.kind === 'there' ? proof.value : undefined;
  return (
    <div ref={panel} class="drawer" role="dialog" aria-label={`Record ${seq}`} tabIndex={-1}>
      <header class="drawer-top">
        <h2>Record {count(seq)}</h2>
        {row && (
          <span class={`verdict ${row.state}`}>
            <StateMark state={row.state} reason={row.reason} />
            {row.state === 'verified' ? 'under the signed root' : row.state === 'failed' ? 'failed' : 'not checked'}
          </span>
        )}
        <button type="button" class="icon" aria-label="Close" title="Close (Esc)" onClick={onClose}>
          ×
        </button>
      </header>
      {row === undefined ? (
        <p class="faint">{seq < size ? 'Reading …' : 'There is no such record under the checkpoint.'}</p>
      ) : (
        <div class="drawer-body">
          {row.reason !== undefined && (
            <p class="alert" role="alert">
              <Visible text={row.reason} />
            </p>
          )}
          {row.record && <Lines record={row.record} onAdd={onAdd} />}
          <section>
            <h3>Canonical record</h3>
            <pre class="canonical">
              <Visible text={row.text} />
            </pre>
            <p class="faint">
              The {count(new TextEncoder().encode(row.text).length)} bytes that are hashed, control characters spelt
              out.
            </p>
          </section>
          {row.leafHash !== '' && (
            <section>
              <h3>Proof</h3>
              <p class="hash-line">
                <span class="faint">leaf</span> <code>{row.leafHash}</code>
              </p>
              {path !== undefined && model.head !== undefined && (
                <>
                  <ProofDrawing index={seq} size={size} leafHash={row.leafHash} path={path} root={model.head.root} />
                  {row.record && (
                    <TakeProof head={model.head} record={row.record} leafHash={row.leafHash} path={path} />
                  )}
                </>
              )}
              {proof.kind === 'failed' && <p class="error">{proof.message}</p>}
            </section>
          )}
        </div>
      )}
    </div>
  );
}

function Lines({ record, onAdd }: { readonly record: AuditRecord; onAdd(term: string): void }): JSX.Element {
  return (
    <dl class="lines">
      {linesOf(record).map(([name, value, key]) => (
        <div>
          <dt>{name}</dt>
          <dd>
            <Visible text={value} />
            {key !== undefined && (
              <span class="line-acts">
                {([false, true] as const).map(exclude => (
                  <button
                    type="button"
                    class="small"
                    aria-label={`${exclude ? 'Leave out' : 'Only'} ${key}:${value}`}
                    title={exclude ? 'Leave these out' : 'Only these'}
                    onClick={() => onAdd(formatTerm({ key, value, exclude }))}
                  >
                    {exclude ? '−' : '+'}
                  </button>
                ))}
              </span>
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Everything that a record says, the parts that people ask for first. What a later version adds comes last, as it is. */
function linesOf(record: AuditRecord): readonly Line[] {
  const { v, seq: _, time: at, actor, action, object, decision, purpose, request, budget, model, ...rest } = record;
  const lines: (Line | undefined)[] = [
    ['time', `${time(at)} UTC`],
    ['actor', actor, 'actor'],
    ['action', action, 'action'],
    [object.kind, object.id, 'object'],
    ['decision', decision.outcome, 'decision'],
    decision.reason === undefined ? undefined : ['reason', decision.reason, 'decision'],
    purpose === undefined ? undefined : ['purpose', purpose, 'text'],
    request === undefined ? undefined : ['request', request, 'request'],
    budget && ['scope', budget.scope, 'scope'],
    budget && ['spent', spentOf(budget)],
    model === undefined ? undefined : ['model', model, 'model'],
    ...Object.entries(rest).flatMap(([name, value]) => flat(name, value)),
    ['version', String(v)],
  ];
  return lines.filter(line => line !== undefined);
}

function spentOf({ before, after, limit, measure }: NonNullable<AuditRecord['budget']>): string {
  const spent = `${amountText(before, measure)} → ${amountText(after, measure)}`;
  return limit === undefined ? spent : `${spent} of ${amountText(limit, measure)}`;
}

function flat(name: string, value: unknown): Line[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every(item => typeof item !== 'object')) return [[name, value.join(', ')]];
  if (typeof value !== 'object' || value === null) return [[name, String(value)]];
  return Object.entries(value).flatMap(([inner, one]) => flat(`${name}.${inner}`, one));
}

interface TakeProofProps {
  readonly head: LogHead;
  readonly record: AuditRecord;
  readonly leafHash: string;
  readonly path: readonly string[];
}

/** The proof as a file for `cloister audit verify`, made here from hashes that were checked here. */
function TakeProof({ head, record, leafHash, path }: TakeProofProps): JSX.Element {
  const [copied, setCopied] = useState(false);
  const bundle = (): string => {
    const { origin, signer: vkey, note } = head;
    const receipt = {
      v: 1,
      origin,
      index: record.seq,
      leafHash: toBase64(fromHex(leafHash)),
      record,
      proof: path,
      checkpoint: note,
    };
    return JSON.stringify({ v: 1, vkey, receipt });
  };
  const save = (): void => {
    const address = URL.createObjectURL(new Blob([`${bundle()}\n`], { type: 'application/json' }));
    const link = document.createElement('a');
    link.href = address;
    link.download = `record-${record.seq}.proof.json`;
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <p class="acts">
      <button type="button" class="button" onClick={save}>
        Save proof
      </button>
      <button
        type="button"
        class="button"
        onClick={() =>
          navigator.clipboard.writeText(bundle()).then(
            () => setCopied(true),
            () => setCopied(false),
          )
        }
      >
        {copied ? 'Copied' : 'Copy'}
      </button>
      <span class="faint">
        for <code>cloister audit verify FILE</code>
      </span>
    </p>
  );
}
