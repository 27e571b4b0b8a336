/**
 * Plans that outlive the process: what a model was planned to when it was loaded, by everything that the plan depends on.
 *
 * The host alone reaches the store, and makes the keys: from the digest of the model and its files, the sizes that the caller fixed,
 * the kernels, and the guest's own code. So a guest can leave a plan to nobody but the same model. What comes back is as little trusted
 * as what a guest plans now: its form is checked, and its program verified, before it runs.
 *
 * Only the plan of a load is kept. Plans for the sizes that runs bring are not: those sizes may be private.
 * @module
 */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../src/base/index.ts';
import type { KernelInfo, PlanStore } from '../src/engine/index.ts';
import { guestDigest } from './isolate.ts';
import type { FixedDims } from './model-files.ts';
import { isRecord, isSafeName } from './untrusted.ts';

/** Bytes of one plan, at most; larger ones are made anew each time. */
export const MAX_PLAN_BYTES: number = 64 * 1_048_576;

/** What the plan of a load depends on, with the guest that makes it. */
export interface PlanOf {
  /** Of the model and its files. */
  readonly digest: string;
  readonly dims: FixedDims;
  readonly kernel: KernelInfo;
}

/** A store of plans that cannot fail a load: what it cannot read is not known, what it cannot write is made again. */
export class PlanNotes {
  readonly #store: PlanStore;

  constructor(store: PlanStore) {
    this.#store = store;
  }

  /** The plan, if it is known. */
  get(of: PlanOf): Uint8Array | undefined {
    try {
      const bytes = this.#store.get(keyOf(of));
      return bytes instanceof Uint8Array && bytes.length > 0 && bytes.length <= MAX_PLAN_BYTES ? bytes : undefined;
    } catch {
      return undefined;
    }
  }

  /** Keeps a plan. */
  set(of: PlanOf, bytes: Uint8Array): void {
    if (bytes.length === 0 || bytes.length > MAX_PLAN_BYTES) return;
    try {
      this.#store.set(keyOf(of), bytes);
    } catch {
      // Then the next load plans again.
    }
  }
}

function keyOf({ digest, dims, kernel }: PlanOf): string {
  const { isa, programVersion, gemmPanel } = kernel;
  const key = canonicalJson({
    what: 'cloister plan 1',
    model: digest,
    dims: { ...dims },
    kernel: { isa, programVersion, gemmPanel },
    guest: guestDigest(),
  });
  return createHash('sha256').update(key).digest('hex');
}

/** What a worker says of its kernels: undefined where it has none, or speaks another form. */
export function parseKernel(value: unknown): KernelInfo | undefined {
  if (!isRecord(value)) return undefined;
  const { isa, programVersion, gemmPanel } = value;
  const good = isSafeName(isa) && Number.isSafeInteger(programVersion) && Number.isSafeInteger(gemmPanel);
  return good ? { isa, programVersion: programVersion as number, gemmPanel: gemmPanel as number } : undefined;
}
