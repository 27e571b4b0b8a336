/**
 * What a plugin defines, seen from outside the walls: claims of a guest, every field checked.
 * @module
 */
import { count, isRecord, isSafeName, refuseGuest } from '../untrusted.ts';
import { type Bounds, isBounds } from './bounds.ts';
import type { PluginKind } from './kinds.ts';

const METHODS: ReadonlySet<unknown> = new Set(['before', 'after']);
const ATTRIBUTE_TYPES = ['int', 'float', 'string', 'ints', 'floats', 'strings'] as const;
/** As many as the guest lets through. */
const MAX_OPERATORS = 256;
const MAX_NAMES = 64;

/** One attribute of an operator. */
export interface PluginAttribute {
  readonly name: string;
  readonly type: (typeof ATTRIBUTE_TYPES)[number];
  readonly default?: number | string | readonly (number | string)[];
  readonly required: boolean;
}

/** One operator that a plugin defines. */
export interface PluginOperator {
  readonly domain: string;
  readonly name: string;
  /** The first opset of its domain that has it. */
  readonly since: number;
  /** How many inputs it takes: at least, and at most; `null` stands for any number. */
  readonly inputs: readonly [number, number | null];
  readonly outputs: number;
  readonly attributes: readonly PluginAttribute[];
}

/** What a plugin defines, by its kind. */
export type PluginDefinition =
  | { readonly kind: 'operator'; readonly operators: readonly PluginOperator[] }
  | { readonly kind: 'processor'; readonly methods: readonly ('before' | 'after')[] }
  | { readonly kind: 'policy' }
  | { readonly kind: 'statistic'; readonly bounds: Bounds };

/**
 * Returns `value` as what a plugin of this kind defines.
 *
 * @throws {CloisterError} `GUEST_FAILED` at the first field that is not of its form.
 */
export function parseDefinition(kind: PluginKind, value: unknown): PluginDefinition {
  if (!isRecord(value)) throw refuseGuest('definition', 'an object', value);
  switch (kind) {
    case 'operator':
      return Object.freeze({
        kind,
        operators: list(value['operators'], 'operators', MAX_OPERATORS).map(parseOperator),
      });
    case 'processor': {
      const methods = list(value['methods'], 'methods', 2);
      const known = methods.every(method => METHODS.has(method)) && new Set(methods).size === methods.length;
      if (!known || methods.length === 0) throw refuseGuest('methods', 'before, after or both', methods);
      return Object.freeze({ kind, methods: Object.freeze(methods as ('before' | 'after')[]) });
    }
    case 'policy':
      return Object.freeze({ kind });
    case 'statistic': {
      const said = value['bounds'];
      if (!isRecord(said)) throw refuseGuest('bounds', 'an object', said);
      const bounds = { length: said['length'], low: said['low'], high: said['high'] };
      if (!isBounds(bounds)) throw refuseGuest('bounds', 'bounds', said);
      return Object.freeze({ kind, bounds: Object.freeze(bounds) });
    }
    default:
      return kind satisfies never;
  }
}

function parseOperator(value: unknown): PluginOperator {
  if (!isRecord(value)) throw refuseGuest('operators', 'an operator', value);
  const [least, most] = list(value['inputs'], 'operators.inputs', 2);
  return Object.freeze({
    domain: text(value['domain'], 'operators.domain'),
    name: text(value['name'], 'operators.name'),
    since: count(value['since'], 'operators.since'),
    inputs: Object.freeze([
      count(least, 'operators.inputs'),
      most === null ? null : count(most, 'operators.inputs'),
    ] as const),
    outputs: count(value['outputs'], 'operators.outputs'),
    attributes: Object.freeze(list(value['attributes'], 'operators.attributes', MAX_NAMES).map(parseAttribute)),
  });
}

function parseAttribute(value: unknown): PluginAttribute {
  if (!isRecord(value)) throw refuseGuest('attributes', 'an attribute', value);
  const type = ATTRIBUTE_TYPES.find(known => known === value['type']);
  if (type === undefined) throw refuseGuest('attributes.type', 'a type', value['type']);
  const initial = value['default'];
  const plain = (item: unknown): boolean => typeof item === 'number' || typeof item === 'string';
  if (initial !== undefined && !(Array.isArray(initial) ? initial.every(plain) : plain(initial))) {
    throw refuseGuest('attributes.default', 'numbers or strings', initial);
  }
  return Object.freeze({
    name: text(value['name'], 'attributes.name'),
    type,
    ...(initial !== undefined && { default: initial as number }),
    required: value['required'] === true,
  });
}

function list(value: unknown, where: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw refuseGuest(where, `at most ${most} items`, value);
  return value;
}

function text(value: unknown, where: string): string {
  if (!isSafeName(value) || value === '') throw refuseGuest(where, 'a name', value);
  return value;
}
