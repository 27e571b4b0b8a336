/**
 * Text that somebody else wrote, shown so that it cannot mislead: control characters and marks that turn the direction of writing are
 * spelt out, and its direction does not reach beyond it.
 * @module
 */
import type { JSX } from 'preact';
import { markedParts, speltOut } from './spelt-out.ts';

/** A text of a record. */
export function Visible({ text }: { readonly text: string }): JSX.Element {
  const parts = markedParts(text);
  if (parts.length === 1) return <bdi>{text}</bdi>;
  return <bdi>{parts.map((part, i) => (i % 2 === 0 ? part : <span class="spelt">{speltOut(part)}</span>))}</bdi>;
}
