/**
 * What the launcher says is read strictly; what workers of a dead supervisor left behind is found and removed.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CONFINED_LAYERS, parseReport } from '../../sandbox/confinement/confinement.ts';
import { findGroups, WorkerGroup } from '../../sandbox/confinement/groups.ts';
import { isCloisterError } from '../../src/base/index.ts';

describe('the report of the launcher', () => {
  it('is read layer by layer', () => {
    const layers = parseReport(
      'filesystem\tactive\tLandlock, ABI 7\nnamespaces\tunavailable\tOperation not permitted\n',
    );
    expect(layers.get('filesystem')).toEqual({ status: 'active', how: 'Landlock, ABI 7' });
    expect(layers.get('namespaces')).toMatchObject({ status: 'unavailable', why: 'Operation not permitted' });
    expect(layers.size).toBe(2);
  });

  it('is refused in any other form', () => {
    const line = fc.oneof(
      fc.string().filter(text => !text.includes('\n')),
      fc
        .tuple(fc.constantFrom(...CONFINED_LAYERS), fc.string({ unit: fc.constantFrom('a', ' ', 'b') }))
        .map(parts => parts.join('\t')),
      fc.constant('filesystem\tactive\tx\nfilesystem\tactive\tx'),
    );
    fc.assert(
      fc.property(line, text => {
        let error: unknown;
        try {
          parseReport(`${text}\n`);
        } catch (cause) {
          error = cause;
        }
        expect(isCloisterError(error, 'WORKER_CRASHED')).toBe(true);
      }),
    );
  });
});

const parent = findGroups().memoryCap?.folder;

describe.skipIf(parent === undefined)('control groups', () => {
  it('of a worker are gone when it is', () => {
    const group = WorkerGroup.open(findGroups(), 64);
    const folders = group.arguments().flatMap(word => (word === '--group' ? [] : [word.slice(word.indexOf('=') + 1)]));
    expect(folders.filter(folder => existsSync(folder))).toEqual(folders);
    group.remove();
    expect(folders.filter(folder => existsSync(folder))).toEqual([]);
  });

  it('of a supervisor that is gone are swept, those of a living one are not', () => {
    // No process starts at tick 1 and has this number.
    const left = join(parent!, `cloister-worker-${process.pid}-1-0`);
    mkdirSync(left);
    const own = WorkerGroup.open(findGroups(), 64);
    try {
      expect(readdirSync(parent!)).not.toContain(`cloister-worker-${process.pid}-1-0`);
      expect(readdirSync(parent!).some(name => name.startsWith(`cloister-worker-${process.pid}-`))).toBe(true);
    } finally {
      own.remove();
      if (existsSync(left)) rmdirSync(left);
    }
  });
});
