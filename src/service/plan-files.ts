/**
 * Plans as files in one folder, bounded: what outlives the process of the plan cache.
 * @module
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CloisterError } from '../base/index.ts';
import type { PlanStore } from '../engine/index.ts';

/** What {@link openPlanFiles} may be told. */
export interface PlanFilesOptions {
  /** The most bytes of all files; the longest unused go first. Default 256 MiB. */
  readonly limitBytes?: number;
}

const SUFFIX = '.plan';

/** Bytes of all plans, at most, unless told otherwise. */
export const PLAN_FILES_BYTES: number = 256 * 2 ** 20;

/** How many plans lie in `folder`, and their bytes in all; none where there is no such folder. */
export function measurePlanFiles(folder: string): { readonly plans: number; readonly bytes: number } {
  try {
    const names = readdirSync(folder).filter(name => name.endsWith(SUFFIX));
    const sizes = names.map(name => statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0);
    return { plans: names.length, bytes: sizes.reduce((sum, size) => sum + size, 0) };
  } catch {
    return { plans: 0, bytes: 0 };
  }
}

/**
 * Returns a store of plans in `folder`, which is made if it is not there. Several processes may share it. Nothing in it is needed:
 * a file that cannot be read or written is a plan that is not known, and the folder may be emptied at any time.
 *
 * @throws {CloisterError} `STORE_FAILED` when the folder cannot be made.
 * @example
 * ```ts
 * const plans = new PlanCache({ store: openPlanFiles('./plans') });
 * plans.bytes; // 0
 * ```
 */
export function openPlanFiles(folder: string, options: PlanFilesOptions = {}): PlanStore {
  const limitBytes = options.limitBytes ?? PLAN_FILES_BYTES;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new CloisterError('STORE_FAILED', `the folder of plans ${folder} cannot be made`, { folder }, { cause });
  }
  const pathOf = (key: string): string => {
    if (!/^[0-9a-f]{64}$/.test(key)) throw new CloisterError('INVALID_ARGUMENT', 'a key is 64 hexadecimal digits');
    return join(folder, key + SUFFIX);
  };
  return {
    get(key) {
      const path = pathOf(key);
      try {
        if (statSync(path).size > limitBytes) return undefined;
        const bytes = new Uint8Array(readFileSync(path));
        const now = new Date();
        utimesSync(path, now, now); // the order in which files go
        return bytes;
      } catch {
        return undefined;
      }
    },
    set(key, bytes) {
      const path = pathOf(key);
      if (bytes.length > limitBytes) return;
      const draft = `${path}.${process.pid}.tmp`;
      try {
        makeRoom(folder, limitBytes - bytes.length);
        writeFileSync(draft, bytes, { mode: 0o600, flag: 'wx' });
        renameSync(draft, path); // a reader sees a whole plan or none
      } catch {
        rmSync(draft, { force: true });
      }
    },
    delete(key) {
      rmSync(pathOf(key), { force: true });
    },
  };
}

/** Removes the longest unused files until at most `limitBytes` are left, and drafts that nobody finished. */
function makeRoom(folder: string, limitBytes: number): void {
  const files = readdirSync(folder).flatMap(name => {
    try {
      const { size, mtimeMs } = statSync(join(folder, name));
      return [{ name, size, mtimeMs }];
    } catch {
      return []; // another process was faster
    }
  });
  const hourAgo = Date.now() - 3_600_000;
  for (const { name, mtimeMs } of files) {
    if (name.endsWith('.tmp') && mtimeMs < hourAgo) rmSync(join(folder, name), { force: true });
  }
  const plans = files.filter(({ name }) => name.endsWith(SUFFIX)).sort((a, b) => a.mtimeMs - b.mtimeMs);
  let total = plans.reduce((sum, { size }) => sum + size, 0);
  for (const { name, size } of plans) {
    if (total <= limitBytes) return;
    rmSync(join(folder, name), { force: true });
    total -= size;
  }
}
