import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SourceManifest } from '../../../sandbox/index.ts';
import { compareVersions } from '../../../sandbox/plugins/manifest.ts';
import { type PluginPolicyInput, pluginPolicySchema } from '../../../sandbox/plugins/policy.ts';
import { openPluginRegistry, type PluginEvent, type PluginRegistry } from '../../../sandbox/plugins/registry.ts';
import { CloisterError, encodeUtf8 } from '../../../src/base/index.ts';
import { freshFolder, freshKey, packed, signed } from './packages.ts';

interface World {
  readonly folder: string;
  readonly registry: PluginRegistry;
  readonly events: PluginEvent[];
}

function world(policy: PluginPolicyInput = { unsigned: true, capabilities: { log: {}, kv: {} } }, at?: string): World {
  const folder = at ?? join(freshFolder(), 'plugins');
  const events: PluginEvent[] = [];
  const registry = openPluginRegistry(folder, {
    policy: pluginPolicySchema.parse(policy),
    record: async event => void events.push(event),
  });
  return { folder, registry, events };
}

const version = (text: string, change: Partial<SourceManifest> = {}) => packed({ version: text, ...change });
const shown = (registry: PluginRegistry) =>
  registry.list().map(plugin => `${plugin.name}@${plugin.version}${plugin.active ? ' active' : ''}`);
const said = (events: readonly PluginEvent[]) =>
  events.map(({ action, object, decision }) => `${action} ${object.id} ${decision.reason ?? decision.outcome}`);
const packages = (folder: string) => readdirSync(folder).filter(name => name.endsWith('.cloister-plugin'));

describe('a registry', () => {
  test('is empty at first, and makes nothing to say so', () => {
    const { registry, folder } = world();
    expect(registry.list()).toEqual([]);
    expect(registry.verify()).toEqual([]);
    expect(() => readdirSync(folder)).toThrow('ENOENT');
  });

  test('keeps versions side by side, the last that was installed active; a downgrade is said', async () => {
    const { registry, events } = world();
    expect(await registry.install(version('1.0.0'))).toMatchObject({ version: '1.0.0', downgrade: false });
    expect(await registry.install(version('1.10.0'))).toMatchObject({ replaced: '1.0.0', downgrade: false });
    expect(await registry.install(version('1.9.0'))).toMatchObject({ replaced: '1.10.0', downgrade: true });
    await registry.install(packed({ name: 'another' }));
    expect(shown(registry)).toEqual([
      '@acme/lower@1.10.0',
      '@acme/lower@1.9.0 active',
      '@acme/lower@1.0.0',
      'another@1.0.0 active',
    ]);
    expect(registry.open('@acme/lower').manifest.version).toBe('1.9.0');
    expect(registry.open('@acme/lower', '1.0.0').files.size).toBe(2);
    expect(await registry.install(version('1.10.0'))).toMatchObject({ replaced: '1.9.0', downgrade: false });
    const again = await registry.install(version('1.10.0'));
    expect(again.replaced).toBeUndefined();
    expect(said(events)).toEqual([
      'install @acme/lower@1.0.0 allow',
      'install @acme/lower@1.10.0 allow',
      'install @acme/lower@1.9.0 allow',
      'install another@1.0.0 allow',
      'install @acme/lower@1.10.0 allow',
      'install @acme/lower@1.10.0 allow',
    ]);
    expect(events.every(event => /^sha256:[0-9a-f]{64}$/.test(event.plugin ?? ''))).toBe(true);
  });

  test('removes a version, or all; the latest that is left takes over', async () => {
    const { registry, folder, events } = world();
    for (const text of ['1.0.0', '2.0.0', '1.5.0']) await registry.install(version(text));
    expect(await registry.remove('@acme/lower', '1.5.0')).toEqual({
      name: '@acme/lower',
      removed: ['1.5.0'],
      active: '2.0.0',
    });
    expect(await registry.remove('@acme/lower', '1.0.0')).toMatchObject({ active: '2.0.0' });
    expect(packages(folder)).toHaveLength(1);
    expect(await registry.remove('@acme/lower')).toEqual({ name: '@acme/lower', removed: ['2.0.0'] });
    expect(packages(folder)).toEqual([]);
    expect(said(events).slice(3)).toEqual([
      'remove @acme/lower@1.5.0 allow',
      'remove @acme/lower@1.0.0 allow',
      'remove @acme/lower allow',
    ]);
  });

  test('says what is not there', async () => {
    const { registry, events } = world();
    await registry.install(version('1.0.0'));
    for (const [name, which] of [
      ['@acme/lower', '2.0.0'],
      ['other'],
      ['__proto__'],
      ['constructor', '1.0.0'],
    ] as const) {
      await expect(registry.remove(name, which)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      expect(() => registry.open(name, which)).toThrow(/is not installed/);
    }
    expect(said(events)[1]).toBe('fail @acme/lower@2.0.0 INVALID_ARGUMENT');
  });

  test('behaves as a map of names to versions, whatever is done in whatever order', async () => {
    const step = fc.record({
      install: fc.boolean(),
      name: fc.constantFrom('a', 'b'),
      version: fc.constantFrom('1.0.0', '1.2.0', '2.0.0-beta', '2.0.0'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async steps => {
        const { registry, folder } = world();
        const model = new Map<string, { active: string; versions: Set<string> }>();
        for (const { install, name, version: text } of steps) {
          const entry = model.get(name) ?? { active: '', versions: new Set<string>() };
          if (install) {
            await registry.install(packed({ name, version: text }));
            model.set(name, { active: text, versions: entry.versions.add(text) });
          } else if (entry.versions.delete(text)) {
            await registry.remove(name, text);
            if (entry.active === text) entry.active = [...entry.versions].sort(compareVersions).at(-1) ?? '';
            if (entry.versions.size === 0) model.delete(name);
          } else await expect(registry.remove(name, text)).rejects.toThrow();
        }
        const expected = [...model].flatMap(([name, { active, versions }]) =>
          [...versions].map(text => `${name}@${text}${active === text ? ' active' : ''}`),
        );
        expect(shown(registry).sort()).toEqual(expected.sort());
        expect(registry.verify().every(check => check.ok)).toBe(true);
        if (steps.length > 0) expect(packages(folder)).toHaveLength(expected.length);
      }),
      { numRuns: 30 },
    );
  });
});

describe('an upgrade', () => {
  const acme = freshKey('acme');
  const other = freshKey('other');

  test('that asks for more than the active version is refused, unless told; each is recorded', async () => {
    const { registry, events } = world();
    await registry.install(version('1.0.0', { capabilities: { log: { calls: 5 } } }));
    for (const change of [
      { capabilities: { log: { calls: 6 } } },
      { capabilities: { log: { calls: 5 }, kv: {} } },
      { capabilities: {}, limits: { memoryMb: 512, wallMs: 30_000, messages: 1001 } },
    ]) {
      const wants = world({ unsigned: true, capabilities: { log: {}, kv: {} }, limits: { messages: 2000 } });
      await wants.registry.install(version('1.0.0', { capabilities: { log: { calls: 5 } } }));
      const bytes = version('1.1.0', change);
      await expect(wants.registry.install(bytes)).rejects.toMatchObject({
        code: 'POLICY_REFUSED',
        message: expect.stringContaining('asks for more than 1.0.0'),
      });
      expect(shown(wants.registry)).toEqual(['@acme/lower@1.0.0 active']);
      expect(said(wants.events).at(-1)).toBe('refuse @acme/lower@1.1.0 POLICY_REFUSED');
      await wants.registry.install(bytes, { allowEscalation: true });
      expect(registry.list()).toHaveLength(1);
      expect(shown(wants.registry)[0]).toBe('@acme/lower@1.1.0 active');
    }
    await registry.install(version('1.1.0', { capabilities: { log: { calls: 4 } } }));
    expect(said(events)).toHaveLength(2);
  });

  test('that the policy does not admit is refused, also when told', async () => {
    const { registry } = world({ unsigned: true });
    await registry.install(version('1.0.0'));
    await expect(
      registry.install(version('1.1.0', { capabilities: { kv: {} } }), { allowEscalation: true }),
    ).rejects.toMatchObject({ code: 'POLICY_REFUSED', message: expect.stringContaining('plugins.capabilities') });
  });

  test('by another publisher, or by nobody, is refused: a name stays with who had it', async () => {
    const { registry } = world({ publishers: [acme.vkey, other.vkey], unsigned: true });
    await registry.install(signed(acme));
    for (const bytes of [signed(other, { version: '1.1.0' }), version('1.1.0')]) {
      await expect(registry.install(bytes, { allowEscalation: true })).rejects.toMatchObject({
        code: 'POLICY_REFUSED',
        message: expect.stringContaining('signed by'),
      });
    }
    await registry.install(signed(acme, { version: '1.1.0' }));
    await registry.remove('@acme/lower');
    await registry.install(signed(other, { version: '1.1.0' }));
  });

  test('to other content under the same version is refused', async () => {
    const { registry } = world();
    await registry.install(version('1.0.0'));
    await expect(registry.install(packed({}, encodeUtf8('define({});')))).rejects.toMatchObject({
      code: 'INVALID_PLUGIN',
      message: expect.stringContaining('other content'),
    });
  });
});

describe('what is installed', () => {
  test('is what was passed, whatever becomes of it meanwhile', async () => {
    const { registry } = world();
    const bytes = version('1.0.0');
    const installing = registry.install(bytes);
    bytes.fill(0);
    const { digest } = await installing;
    expect(registry.open('@acme/lower').digest).toBe(digest);
    await expect(registry.install('a path' as unknown as Uint8Array)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });
});

describe('what lies in the folder', () => {
  test('is verified again: a package that was changed, cut, replaced or lost is told, and not opened', async () => {
    const { registry, folder } = world();
    await registry.install(version('1.0.0'));
    const [file] = packages(folder);
    const path = join(folder, file!);
    const bytes = readFileSync(path);
    expect(registry.verify()).toEqual([{ name: '@acme/lower', version: '1.0.0', active: true, ok: true }]);
    for (const [content, code] of [
      [Buffer.from(bytes).fill(1, 600, 601), 'INVALID_PLUGIN'],
      [bytes.subarray(0, -1), 'INVALID_PLUGIN'],
      [version('1.0.1'), 'INVALID_PLUGIN'],
      [undefined, 'STORE_FAILED'],
    ] as const) {
      if (content) writeFileSync(path, content);
      else rmSync(path);
      expect(registry.verify()).toMatchObject([{ ok: false, code }]);
      expect(() => registry.open('@acme/lower')).toThrow(expect.objectContaining({ code }));
    }
    await registry.install(version('1.0.0'));
    expect(registry.verify()).toMatchObject([{ ok: true }]);
  });

  test('is held against the policy of now, not that of then', async () => {
    const acme = freshKey();
    const before = world({ publishers: [acme.vkey] });
    await before.registry.install(signed(acme));
    const { registry } = world({ publishers: [] }, before.folder);
    expect(registry.verify()).toMatchObject([{ ok: false, code: 'POLICY_REFUSED' }]);
    expect(() => registry.open('@acme/lower')).toThrow(expect.objectContaining({ code: 'POLICY_REFUSED' }));
  });

  test('says what it is: an index that was changed or is none is refused', async () => {
    const { registry, folder } = world();
    await registry.install(version('1.0.0', { capabilities: { log: {} } }));
    const path = join(folder, 'installed.json');
    const text = readFileSync(path, 'utf8');
    writeFileSync(path, text.replace('"log":{}', '"kv":{}'));
    expect(registry.verify()).toMatchObject([{ ok: false, reason: expect.stringContaining('installed.json') }]);
    for (const other of ['', '{}', text.slice(1), text.replace('"active":"1.0.0"', '"active":"9.9.9"')]) {
      writeFileSync(path, other);
      expect(() => registry.list()).toThrow(expect.objectContaining({ code: 'STORE_FAILED' }));
      await expect(registry.install(version('1.1.0'))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    }
  });
});

describe('a record', () => {
  test('comes before the change: where there can be none, nothing changes', async () => {
    const { registry, folder } = world();
    await registry.install(version('1.0.0'));
    const full = openPluginRegistry(folder, {
      policy: pluginPolicySchema.parse({ unsigned: true }),
      record: () => Promise.reject(new CloisterError('STORE_FAILED', 'the disk is full')),
    });
    for (const change of [() => full.install(version('1.1.0')), () => full.remove('@acme/lower')]) {
      await expect(change()).rejects.toMatchObject({ code: 'STORE_FAILED', message: 'the disk is full' });
    }
    expect(shown(registry)).toEqual(['@acme/lower@1.0.0 active']);
  });

  test('is made of everything that is refused, also of what is no package', async () => {
    const { registry, events } = world({});
    for (const bytes of [encodeUtf8('no package'), packed(), packed({ api: '^9.0.0' })])
      await expect(registry.install(bytes)).rejects.toThrow();
    expect(said(events)).toEqual([
      expect.stringMatching(/^fail sha256:[0-9a-f]{64} INVALID_PLUGIN$/),
      'refuse @acme/lower@1.0.0 POLICY_REFUSED',
      'fail @acme/lower@1.0.0 INVALID_PLUGIN',
    ]);
  });
});

const IMPORTS = `
  import fs, { readFileSync } from 'node:fs';
  import { syncBuiltinESMExports } from 'node:module';
  import { openPluginRegistry } from ${JSON.stringify(join(import.meta.dirname, '../../../sandbox/plugins/registry.ts'))};
  import { pluginPolicySchema } from ${JSON.stringify(join(import.meta.dirname, '../../../sandbox/plugins/policy.ts'))};
  const policy = pluginPolicySchema.parse({ unsigned: true });
  const open = folder => openPluginRegistry(folder, { policy, record: async () => {} });
`;

/** Installs packages in turn. */
const INSTALLER = `${IMPORTS}
  const [folder, rounds, ...files] = process.argv.slice(2);
  const registry = open(folder);
  const packages = files.map(file => readFileSync(file));
  process.stdout.write('ready\\n');
  for (let i = 0; i < Number(rounds); i++) await registry.install(packages[i % packages.length]);
`;

/** Installs or removes one version, and kills itself before the call number `last` to the file system that changes something. */
const DOOMED = `${IMPORTS}
  const [folder, last, change] = process.argv.slice(2);
  let calls = 0;
  for (const name of ['openSync', 'writeFileSync', 'fchmodSync', 'fsyncSync', 'closeSync', 'renameSync', 'unlinkSync', 'rmSync', 'mkdirSync']) {
    const call = fs[name];
    fs[name] = (...given) => {
      if (++calls === Number(last)) process.kill(process.pid, 'SIGKILL');
      return call(...given);
    };
  }
  syncBuiltinESMExports();
  if (change === 'remove') await open(folder).remove('@acme/lower', '1.1.0');
  else await open(folder).install(readFileSync(change));
`;

/** Starts a process that installs `files` in turn. */
async function installer(folder: string, rounds: number, files: readonly string[]) {
  const script = join(freshFolder(), 'install.mjs');
  writeFileSync(script, INSTALLER);
  const child = spawn(process.execPath, [script, folder, String(rounds), ...files], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Listened for from the start: one may have ended before the last of several has begun.
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  return { child, exited };
}

function filesOf(packed: readonly Uint8Array[]): readonly string[] {
  const folder = freshFolder();
  return packed.map((bytes, i) => {
    const file = join(folder, `${i}.cloister-plugin`);
    writeFileSync(file, bytes);
    return file;
  });
}

describe('processes', () => {
  test('that die before any call to the file system leave what was before or what is after', {
    timeout: 240_000,
  }, async () => {
    const script = join(freshFolder(), 'doomed.mjs');
    writeFileSync(script, DOOMED);
    const [older, newer] = [version('1.0.0'), version('1.1.0')];
    const [file] = filesOf([newer]);
    const [one, two] = ['@acme/lower@1.0.0 active', '@acme/lower@1.1.0 active,@acme/lower@1.0.0'];
    for (const change of ['install', 'remove'] as const) {
      const states: string[] = [];
      for (let last = 1, alive = false; !alive; last++) {
        const { registry, folder } = world();
        await registry.install(older);
        if (change === 'remove') await registry.install(newer);
        const what = change === 'remove' ? change : file!;
        const { signal } = spawnSync(process.execPath, [script, folder, String(last), what], { stdio: 'inherit' });
        alive = signal !== 'SIGKILL';
        states.push(shown(registry).join());
        expect(registry.verify().filter(check => !check.ok)).toEqual([]);
        // What is left by the dead stands in nobody's way, and is gone after the next change.
        await registry.install(newer);
        expect(shown(registry).join()).toBe(two);
        expect(readdirSync(folder).sort()).toEqual([...packages(folder), 'installed.json', 'lock'].sort());
        expect(packages(folder)).toHaveLength(2);
      }
      // One moment at which it changes, neither the first nor the last.
      const [before, after] = change === 'install' ? [one, two] : [two, one];
      const at = states.indexOf(after);
      expect(at).toBeGreaterThan(3);
      expect(states).toEqual([...Array(at).fill(before), ...Array(states.length - at).fill(after)]);
    }
  });

  test('killed at any moment leave what was before or what is after', { timeout: 120_000 }, async () => {
    const { registry, folder } = world();
    const versions = ['1.0.0', '1.1.0', '1.2.0', '1.3.0'];
    const files = filesOf(versions.map(text => version(text)));
    let seen = 0;
    for (let round = 0; round < 6; round++) {
      const { child, exited } = await installer(folder, 1_000_000, files);
      await sleep(5 + 17 * round);
      child.kill('SIGKILL');
      await exited;
      const list = registry.list();
      expect(list.filter(plugin => plugin.active)).toHaveLength(list.length > 0 ? 1 : 0);
      expect(registry.verify().filter(check => !check.ok)).toEqual([]);
      seen = Math.max(seen, list.length);
    }
    expect(seen).toBeGreaterThan(0);
    // The lock of the dead is nobody's, and what they left is swept away.
    const [code] = await (await installer(folder, versions.length, files)).exited;
    expect(code).toBe(0);
    expect(packages(folder)).toHaveLength(versions.length);
    expect(readdirSync(folder).filter(name => name.endsWith('.tmp'))).toEqual([]);
  });

  test('that install at once wait for one another: nothing that was installed is lost', {
    timeout: 120_000,
  }, async () => {
    const { registry, folder } = world();
    const children = await Promise.all(
      ['a', 'b', 'c'].map(name => {
        const files = filesOf(Array.from({ length: 8 }, (_, i) => packed({ name, version: `1.${i}.0` })));
        return installer(folder, files.length, files);
      }),
    );
    const codes = await Promise.all(children.map(async ({ exited }) => (await exited)[0]));
    expect(codes).toEqual([0, 0, 0]);
    expect(registry.list()).toHaveLength(24);
    expect(registry.verify().every(check => check.ok)).toBe(true);
  });

  test('or callers of one process, likewise', async () => {
    const { registry } = world();
    await Promise.all(['1.0.0', '2.0.0', '3.0.0'].map(text => registry.install(version(text))));
    expect(registry.list()).toHaveLength(3);
  });
});
