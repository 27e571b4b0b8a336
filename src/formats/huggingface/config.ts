/**
 * Configuration that nobody vouches for: fields of JSON objects, read one by one, each checked, errors by path.
 * @module
 */
import { CloisterError } from '../../base/index.ts';
import { entriesOf } from '../json.ts';

/** Sizes above this belong to no model, and products of two of them are still exact. */
const MAX_SIZE = 2 ** 26;
const MAX_TEXT = 256;

/** The fields of one object. */
export class Fields {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #path: string;
  readonly #known = new Set<string>();

  /** @param path - What the object is called in errors: empty, or ends in a dot. */
  constructor(values: ReadonlyMap<string, unknown>, path = '') {
    this.#values = values;
    this.#path = path;
  }

  has(key: string): boolean {
    return this.#get(key) !== undefined;
  }

  /** An integer of at least `least` (1 where left out). A field that is not there is `absent`, or refused without one. */
  size(key: string, { least = 1, absent }: { readonly least?: number; readonly absent?: number } = {}): number {
    const value = this.#get(key) ?? absent;
    if (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= MAX_SIZE)
      return value as number;
    return this.fail(key, `an integer from ${least} to ${MAX_SIZE}`);
  }

  /** A number from 0 to 1. */
  fraction(key: string, absent: number): number {
    const value = this.#get(key) ?? absent;
    return typeof value === 'number' && value >= 0 && value <= 1 ? value : this.fail(key, 'a number from 0 to 1');
  }

  /** Text of some length. */
  text(key: string, absent?: string): string {
    const value = this.#get(key) ?? absent;
    return isText(value) ? value : this.fail(key, `text of 1 to ${MAX_TEXT} characters`);
  }

  flag(key: string, absent: boolean): boolean {
    const value = this.#get(key) ?? absent;
    return typeof value === 'boolean' ? value : this.fail(key, 'true or false');
  }

  /** One of `names`. */
  choice<T extends string>(key: string, names: readonly T[], absent?: T): T {
    const value = this.#get(key) ?? absent;
    return names.find(name => name === value) ?? this.fail(key, `one of ${names.join(', ')}`);
  }

  /** A list of at most `most` sizes; one size stands for `most` equal ones where `spread` is set. */
  sizes(
    key: string,
    {
      least = 1,
      most,
      spread = false,
      absent,
    }: {
      readonly least?: number;
      readonly most: number;
      readonly spread?: boolean;
      readonly absent?: number;
    },
  ): readonly number[] {
    const value = this.#get(key) ?? absent;
    const fits = (item: unknown): boolean =>
      Number.isSafeInteger(item) && (item as number) >= least && (item as number) <= MAX_SIZE;
    if (spread && fits(value)) return new Array<number>(most).fill(value as number);
    const exact = !spread || (Array.isArray(value) && value.length === most);
    if (Array.isArray(value) && exact && value.length > 0 && value.length <= most && value.every(fits))
      return value as number[];
    const count = spread ? `an integer or ${most} integers` : `1 to ${most} integers`;
    return this.fail(key, `${count} from ${least} to ${MAX_SIZE}`);
  }

  /** A list of texts; empty where it is not there. */
  texts(key: string): readonly string[] {
    const value = this.#get(key) ?? [];
    return Array.isArray(value) && value.every(isText) ? (value as string[]) : this.fail(key, 'a list of texts');
  }

  /** The object in a field. */
  object(key: string): Fields {
    return new Fields(entriesOf(this.#get(key)) ?? this.fail(key, 'an object'), `${this.#path}${key}.`);
  }

  /** The objects in a list of at most `most`. */
  objects(key: string, most: number): readonly Fields[] {
    const value = this.#get(key);
    if (!Array.isArray(value) || value.length === 0) return this.fail(key, 'a list of objects');
    if (value.length > most) {
      throw new CloisterError('MODEL_TOO_LARGE', `${this.pathOf(key)}: ${value.length} items, the limit is ${most}`);
    }
    return value.map((item, i) => {
      const path = `${this.#path}${key}[${i}].`;
      return new Fields(entriesOf(item) ?? this.fail(`${key}[${i}]`, 'an object', item), path);
    });
  }

  /** The texts of an object whose keys are 0, 1, and so on; undefined where there is none. */
  numbered(key: string): readonly string[] | undefined {
    const value = this.#get(key);
    if (value === undefined) return undefined;
    const entries = entriesOf(value);
    const texts = Array.from({ length: entries?.size ?? 0 }, (_, i) => entries!.get(String(i)));
    if (texts.length > 0 && texts.every(isText)) return texts as string[];
    return this.fail(key, 'an object with texts for "0", "1" and so on');
  }

  /** Fails when the object has fields that nobody asked for. */
  refuseOthers(): void {
    for (const key of this.#values.keys()) {
      if (!this.#known.has(key))
        fail(`${this.pathOf(key)}: no such field here; there are ${[...this.#known].join(', ')}`);
    }
  }

  /** The way to a field from the file on, for messages. */
  pathOf(key: string): string {
    return `config.json: ${this.#path}${key.slice(0, 80)}`;
  }

  fail(key: string, expected: string, came: unknown = this.#values.get(key)): never {
    return fail(`${this.pathOf(key)}: expected ${expected}, got ${shown(came)}`);
  }

  /** Null says nothing, as in the files that Python writes. */
  #get(key: string): unknown {
    this.#known.add(key);
    return this.#values.get(key) ?? undefined;
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length > 0 && value.length <= MAX_TEXT;
}

/** A value for people, short whatever it is. */
function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  return typeof value === 'object' && value !== null ? (Array.isArray(value) ? 'a list' : 'an object') : String(value);
}

function fail(message: string): never {
  throw new CloisterError('INVALID_MODEL', message);
}
