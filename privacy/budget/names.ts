/**
 * Names that callers give, checked before anything depends on them.
 * @module
 */

/** Whether `value` is a well-formed string of 1 to `most` characters without U+0000. */
export function isName(value: unknown, most: number): value is string {
  if (typeof value !== 'string' || value.length < 1 || value.length > most) return false;
  return value.isWellFormed() && !value.includes('\0');
}

/** What came, for a message. */
export function show(value: unknown): string {
  return typeof value === 'string' ? `'${value.slice(0, 200)}'` : typeof value;
}
