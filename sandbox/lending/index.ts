/**
 * Lending: what a guest may use of its host, by name, within limits, each use counted.
 * @module
 */
export type { Bound, Capability } from './capability.ts';
export { type KvChanges, type KvStore, memoryKv } from './kv-store.ts';
export type { Use, Uses } from './lending.ts';
export { lentSchema, parseLent } from './options.ts';
export { CAPABILITIES, type CapabilityName, type CapabilityOptions, type Lent, type LentInput } from './table.ts';
