import { execFileSync, spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const biome = join(root, 'node_modules', '.bin', 'biome');
const folders: string[] = [];

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** Lints one file that stands in `room` for a moment; returns what Biome says. */
function lintIn(room: string, source: string): { status: number | null; said: string } {
  const folder = mkdtempSync(join(root, room, 'lint-'));
  folders.push(folder);
  const file = join(folder, 'probe.ts');
  writeFileSync(file, source);
  const { status, stdout, stderr } = spawnSync(biome, ['lint', '--vcs-enabled=false', file], {
    cwd: root,
    encoding: 'utf8',
  });
  rmSync(file);
  return { status, said: stdout + stderr };
}

const use = (from: string): string =>
  `import * as room from '${from}';\nexport const names: string[] = Object.keys(room);\n`;

describe('the rooms', () => {
  test.each([
    ['src/tensor', '../../graph/index.ts', 'room tensor may import only base'],
    ['src/graph', '../../engine/index.ts', 'room graph may import only base, tensor'],
    ['src/formats', '../../../native/index.ts', 'room formats may import only'],
    ['src/engine', '../../../sandbox/index.ts', 'room engine may import only'],
    ['src/store', '../../tensor/index.ts', 'room store may import only base'],
    ['sandbox/audit', '../../../src/engine/index.ts', 'room audit may import only base, store'],
    ['sandbox/guest', '../../../privacy/dp/index.ts', 'room sandbox may import only'],
    ['privacy/dp', '../../../sandbox/index.ts', 'room dp may import only'],
    ['privacy/budget', '../../../src/service/index.ts', 'room budget may import only'],
    ['privacy/he', '../../../privacy/dp/index.ts', 'room he may import only'],
    ['src/service', '../../cli/index.ts', 'room service may import only'],
    ['src/cli', '../../../privacy/dp/index.ts', 'room cli may import only base, service'],
    ['src/web', '../../engine/index.ts', 'room web may import only'],
    ['src/web/page', '../../../service/index.ts', 'page may import only base'],
    ['src/web/check', 'node:crypto', 'run in a browser'],
    ['src/base', 'node:fs', 'src/base is pure'],
    ['src/engine', 'node:crypto', 'src/engine is pure'],
    ['src/formats', 'node:fs/promises', 'src/formats is pure'],
  ])('in %s, an import of %s fails the lint', (room, from, message) => {
    const { status, said } = lintIn(room, use(from));
    expect(said.replace(/\s+/g, ' ')).toContain(message);
    expect(status).not.toBe(0);
  });

  test.each([
    ['src/engine', '../../tensor/index.ts'],
    ['src/cli', '../../service/index.ts'],
    ['src/service', '../../../privacy/budget/index.ts'],
  ])('in %s, an import of %s passes', (room, from) => {
    expect(lintIn(room, use(from))).toMatchObject({ status: 0 });
  });
});

describe('the package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string>
  >;

  test('asks for test tools and drivers only where they are used: no room imports them at once, and they are optional', () => {
    const peers = Object.keys(manifest['peerDependencies']!).sort();
    expect(peers).toEqual(expect.arrayContaining(['fast-check', 'pg', 'vitest']));
    expect(manifest['peerDependenciesMeta']).toEqual(Object.fromEntries(peers.map(name => [name, { optional: true }])));
    const sources = ['src', 'privacy', 'sandbox', 'native'].flatMap(room => globSync(`${room}/**/*.ts`, { cwd: root }));
    expect(sources.length).toBeGreaterThan(100);
    const loaded = new RegExp(`^(import|export) (?!type )[^;]*from '(${peers.join('|')}|[^']*/test/[^']*)'`, 'm');
    const users = sources.filter(file => loaded.test(readFileSync(join(root, file), 'utf8')));
    expect(users).toEqual([]);
  });

  test('carries Node for its own scripts only: no dependency of a consumer brings it', () => {
    const shipped = {
      ...manifest['dependencies'],
      ...manifest['optionalDependencies'],
      ...manifest['peerDependencies'],
    };
    expect(Object.keys(shipped).filter(name => name.startsWith('node-'))).toEqual(['node-gyp-build', 'node-seal']);
    expect(execFileSync(process.execPath, ['--version'], { encoding: 'utf8' })).toMatch(/^v(2[4-9]|[3-9]\d)\./);
  });

  test('asks no dependency to compile or fetch anything at install', () => {
    // npm forgets `gypfile: false` when it writes the lock, and then `npm ci` runs node-gyp for a package that brings its binary.
    const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { hasInstallScript?: boolean; gypfile?: boolean; resolved?: string }>;
    };
    expect(lock.packages['node_modules/better-sqlite3']).toMatchObject({ gypfile: false });
    const scripted = Object.entries(lock.packages).filter(([path, entry]) => path !== '' && entry.hasInstallScript);
    for (const [path] of scripted)
      expect(manifest['allowScripts']).toHaveProperty(path.replace('node_modules/', ''), false);
    expect(Object.values(lock.packages).filter(entry => entry.resolved?.startsWith('http'))).toEqual([]);
  });
});
