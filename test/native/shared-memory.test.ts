/**
 * Memory that two processes share: what it is, and what nobody can do to it.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createSharedMemory, mapSharedMemory, nativeStatus } from '../../native/index.ts';
import { isCloisterError } from '../../src/base/index.ts';

const BYTES = 65_536;
const HERE = new URL('../../native/index.ts', import.meta.url).href;

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'it did not fail';
  } catch (error) {
    return isCloisterError(error) ? error.code : String((error as NodeJS.ErrnoException).code);
  }
}

describe.skipIf(nativeStatus().kind !== 'loaded' || process.platform === 'win32')('shared memory', () => {
  it('is zeros at first, and one for the process that made it and the one that inherits it', () => {
    const shared = createSharedMemory(BYTES)!;
    expect(shared.bytes.length).toBe(BYTES);
    expect(shared.bytes.every(byte => byte === 0)).toBe(true);
    shared.bytes.set([1, 2, 3]);
    const script = `
      import { mapSharedMemory } from ${JSON.stringify(HERE)};
      const bytes = mapSharedMemory(3, ${BYTES});
      console.log([...bytes.subarray(0, 3)].join());
      bytes[3] = 4;`;
    const args = ['--no-warnings', '--input-type=module', '-e', script];
    const stdio = ['ignore', 'pipe', 'inherit', shared.descriptor] as const;
    const child = spawnSync(process.execPath, args, { stdio: [...stdio], encoding: 'utf8' });
    expect(child.stdout.trim()).toBe('1,2,3');
    expect([...shared.bytes.subarray(0, 5)]).toEqual([1, 2, 3, 4, 0]);
    shared.close();
  });

  it.skipIf(process.platform !== 'linux')('cannot be cut short or made longer, so no access to it can kill', () => {
    const shared = createSharedMemory(BYTES)!;
    for (const length of [0, BYTES - 1, BYTES + 1, 2 * BYTES]) {
      expect(codeOf(() => ftruncateSync(shared.descriptor, length))).toBe('EPERM');
    }
    shared.bytes[BYTES - 1] = 7;
    expect(shared.bytes[BYTES - 1]).toBe(7);
    shared.close();
  });

  it('is not mapped from what is none: another size, a file, a descriptor that is closed', () => {
    const shared = createSharedMemory(BYTES)!;
    const path = join(tmpdir(), `no-shared-memory-${process.pid}`);
    writeFileSync(path, new Uint8Array(BYTES));
    const file = openSync(path, 'r+');
    expect(codeOf(() => mapSharedMemory(shared.descriptor, BYTES * 2))).toBe('INVALID_ARGUMENT');
    if (process.platform === 'linux') expect(codeOf(() => mapSharedMemory(file, BYTES))).toBe('INVALID_ARGUMENT');
    for (const [descriptor, bytes] of [
      [shared.descriptor, 0],
      [-1, BYTES],
      [1_000_000, BYTES],
      [Number.NaN, BYTES],
    ] as const) {
      expect(codeOf(() => mapSharedMemory(descriptor, bytes))).toBe('INVALID_ARGUMENT');
    }
    expect(mapSharedMemory(shared.descriptor, BYTES).length, 'the control').toBe(BYTES);
    closeSync(file);
    rmSync(path);
    shared.close();
  });

  it('is refused in sizes that are none', () => {
    for (const bytes of [0, -1, 1.5, Number.NaN, 2 ** 31])
      expect(codeOf(() => createSharedMemory(bytes))).toBe('INVALID_ARGUMENT');
  });

  it('goes back when it is closed, and shows nothing from then on', () => {
    const shared = createSharedMemory(BYTES)!;
    const other = mapSharedMemory(shared.descriptor, BYTES);
    shared.close();
    shared.close();
    expect(shared.bytes.length).toBe(0);
    other[0] = 9;
    expect(other[0], 'whoever else has it mapped keeps it').toBe(9);
  });

  it.skipIf(process.platform !== 'linux')('leaves neither mappings nor descriptors behind', async () => {
    const mapped = (): number => readFileSync('/proc/self/maps', 'utf8').split('memfd:cloister').length - 1;
    const before = mapped();
    for (let i = 0; i < 100; i++) createSharedMemory(BYTES)!.close();
    await expect.poll(mapped, { timeout: 5_000 }).toBeLessThanOrEqual(before);
  });
});
