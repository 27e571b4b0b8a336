/**
 * What is shown, as it stands in the address behind `#`: it can be kept and sent on, and no server sees it.
 * @module
 */

/** What is shown. */
export interface Place {
  /** The filter as text. */
  readonly q: string;
  readonly view: 'records' | 'budgets';
  /** The record in the drawer. */
  readonly record?: number | undefined;
}

/** Reads a place from the part of an address behind `#`; what cannot be read is left out. */
export function readPlace(hash: string): Place {
  const asked = new URLSearchParams(hash.replace(/^#/, ''));
  const record = asked.get('record') ?? '';
  return {
    q: asked.get('q') ?? '',
    view: asked.get('view') === 'budgets' ? 'budgets' : 'records',
    record: /^\d{1,15}$/.test(record) ? Number(record) : undefined,
  };
}

/** The part of an address behind `#` for a place; empty for the first one. */
export function formatPlace({ q, view, record }: Place): string {
  const said = new URLSearchParams();
  if (q !== '') said.set('q', q);
  if (view !== 'records') said.set('view', view);
  if (record !== undefined) said.set('record', String(record));
  const text = said.toString();
  return text === '' ? '' : `#${text}`;
}
