/**
 * Canonical JSON: RFC 8785 (JSON Canonicalization Scheme). One value has one spelling, so a digest of it means something.
 * @module
 */
import { CloisterError } from './errors.ts';

/** What JSON can say. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/**
 * Returns the canonical spelling of `value`: no white space, keys sorted by UTF-16 code units (RFC 8785 §3.2.3), numbers as
 * ECMAScript prints them (§3.2.2.3). Keys whose value is `undefined` are left out.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a non-finite number, a lone surrogate, or anything that JSON cannot say.
 * @example
 * ```ts
 * canonicalJson({ b: 1, a: [true, null] }); // '{"a":[true,null],"b":1}'
 * ```
 */
export function canonicalJson(value: Json): string {
  const sorted = ordered(value);
  return sorted === UNFIT ? write(value, '$') : JSON.stringify(sorted);
}

/**
 * A copy of `value` that `JSON.stringify` spells canonically; {@link UNFIT} where there is none, or where an object would not keep the
 * order of such keys. Twice as fast as {@link write}, which knows the path of what it refuses.
 */
function ordered(value: unknown): unknown {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? value : UNFIT;
    case 'number':
      return Number.isFinite(value) ? value : UNFIT;
    case 'boolean':
      return value;
    case 'object':
      break;
    default:
      return UNFIT;
  }
  if (value === null) return null;
  if (Array.isArray(value)) {
    const items: unknown[] = [];
    for (let i = 0; i < value.length; i++) {
      const item = ordered(value[i]);
      if (item === UNFIT) return UNFIT;
      items.push(item);
    }
    return items;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return UNFIT;
  const record = value as Record<string, unknown>;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(record).sort()) {
    const member = record[key];
    if (member === undefined) continue;
    // Objects put keys that are numbers first, and one key is none.
    const item = /^[0-9]/.test(key) || key === '__proto__' || !key.isWellFormed() ? UNFIT : ordered(member);
    if (item === UNFIT) return UNFIT;
    copy[key] = item;
  }
  return copy;
}

const UNFIT = Symbol('unfit');

function write(value: unknown, path: string): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) refuse(path, String(value));
    return JSON.stringify(value);
  }
  if (typeof value === 'string') {
    if (!value.isWellFormed()) refuse(path, 'a string with a lone surrogate');
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((item, i) => write(item, `${path}[${i}]`)).join(',')}]`;
  if (typeof value === 'object') {
    const prototype = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) refuse(path, 'an object that is not a plain record');
    const record = value as Record<string, unknown>;
    const keys = Object.keys(record)
      .filter(key => record[key] !== undefined)
      .sort(); // the default order of sort() is by UTF-16 code units
    return `{${keys.map(key => `${write(key, path)}:${write(record[key], `${path}.${key}`)}`).join(',')}}`;
  }
  return refuse(path, typeof value);
}

function refuse(path: string, came: string): never {
  throw new CloisterError('INVALID_ARGUMENT', `canonical JSON cannot hold ${came}, at ${path}`, { path });
}
