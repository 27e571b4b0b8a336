import { spawnSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { readPackage, type SourceManifest } from '../../sandbox/index.ts';
import {
  listPlugins,
  makePublisherKey,
  openCloister,
  packPluginFolder,
  parsePolicy,
  readAudit,
  readPlugin,
  signPluginFile,
  verifyPlugins,
} from '../../src/service/index.ts';
import { freshFolder, MAIN, packed, SOURCE, TABLE } from '../sandbox/plugins/packages.ts';

let folder: string;
let outside: string;

beforeEach(() => {
  outside = freshFolder();
  writeFileSync(join(outside, 'secret.js'), 'a secret');
  folder = join(outside, 'plugin');
  mkdirSync(join(folder, 'tables'), { recursive: true });
  writeFileSync(join(folder, 'main.js'), MAIN);
  writeFileSync(join(folder, 'tables', 'lower.bin'), TABLE);
  writeFileSync(join(folder, 'notes.txt'), 'not named, so not packed');
  manifest({});
});

function manifest(change: Partial<SourceManifest>): void {
  writeFileSync(join(folder, 'plugin.json'), JSON.stringify({ ...SOURCE, ...change }));
}

const invalid = (reason: RegExp) => ({ code: 'INVALID_PLUGIN', message: expect.stringMatching(reason) });

describe('the folder of a plugin', () => {
  test('is packed: what its manifest names, and nothing else', async () => {
    const { bytes } = await packPluginFolder(folder);
    expect(Buffer.from(bytes).equals(packed())).toBe(true);
    expect(Buffer.from(await readPlugin(folder)).equals(packed())).toBe(true);
    writeFileSync(join(outside, 'a.cloister-plugin'), bytes);
    expect(Buffer.from(await readPlugin(join(outside, 'a.cloister-plugin'))).equals(packed())).toBe(true);
  });

  test('may be reached by a link, but holds none', async () => {
    symlinkSync(folder, join(outside, 'link'));
    expect(Object.keys((await packPluginFolder(join(outside, 'link'))).manifest.files)).toHaveLength(2);
    const named = async (name: string) => {
      manifest({ files: ['main.js', 'tables/lower.bin', name] });
      return (await packPluginFolder(folder)).bytes;
    };
    symlinkSync('../secret.js', join(folder, 'file-link.js'));
    await expect(named('file-link.js')).rejects.toMatchObject(invalid(/link/));
    symlinkSync('..', join(folder, 'up'));
    await expect(named('up/secret.js')).rejects.toMatchObject(invalid(/outside of the folder/));
    symlinkSync('/nowhere', join(folder, 'dangling.js'));
    await expect(named('dangling.js')).rejects.toMatchObject(invalid(/link/));
    spawnSync('mkfifo', [join(folder, 'pipe.js')]);
    await expect(named('pipe.js')).rejects.toMatchObject(invalid(/not a regular file/));
    mkdirSync(join(folder, 'folder'));
    await expect(named('folder')).rejects.toMatchObject(invalid(/not a regular file/));
    await expect(named('missing.js')).rejects.toMatchObject(invalid(/no such file/));
    // The control: a file of its own, and a second name of one, are packed.
    linkSync(join(folder, 'notes.txt'), join(folder, 'again.txt'));
    expect(readPackage(await named('again.txt')).files.size).toBe(3);
  });

  test('is not read beyond what a package may hold', async () => {
    manifest({ files: ['main.js', 'tables/lower.bin', 'a.bin', 'b.bin'] });
    for (const name of ['a.bin', 'b.bin']) {
      writeFileSync(join(folder, name), '');
      truncateSync(join(folder, name), 9 * 2 ** 20);
    }
    await expect(packPluginFolder(folder)).rejects.toMatchObject(
      invalid(/b\.bin: it has 9437184 bytes, and there is room/),
    );
    truncateSync(join(folder, 'plugin.json'), 2 ** 30);
    await expect(packPluginFolder(folder)).rejects.toMatchObject(invalid(/plugin\.json: it has 1073741824 bytes/));
  });

  test('cannot be signed in place: a package can', async () => {
    await makePublisherKey(join(outside, 'keys'), 'acme');
    const file = join(outside, 'a.cloister-plugin');
    writeFileSync(file, packed());
    await expect(signPluginFile(folder, join(outside, 'keys'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const { publisher } = await signPluginFile(file, join(outside, 'keys'));
    expect(readPackage(readFileSync(file)).manifest.publisher).toBe(publisher);
    await expect(signPluginFile(file, outside)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

describe('a cloister', () => {
  test('installs what its policy admits, records it, and shows it to those beside it', async () => {
    const dir = join(outside, 'data');
    const policy = { isolation: 'isolate', plugins: { unsigned: true } } as const;
    {
      await using cloister = await openCloister({ dir, policy });
      const { digest } = await cloister.plugins('admin').install(packed());
      await expect(cloister.plugins().install(packed({ capabilities: { kv: {} } }))).rejects.toMatchObject({
        code: 'POLICY_REFUSED',
      });
      expect(await listPlugins(dir)).toMatchObject([{ name: '@acme/lower', digest, active: true }]);
      expect(await verifyPlugins(dir, policy)).toMatchObject([{ ok: true }]);
      expect(await verifyPlugins(dir, {})).toMatchObject([{ ok: false, code: 'POLICY_REFUSED' }]);
      expect(() => cloister.plugins('')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
    const records: string[] = [];
    for await (const { actor, action, object, decision, plugin, policy: digest } of readAudit(dir)) {
      if (object.kind !== 'plugin') continue;
      expect(plugin).toMatch(/^sha256:/);
      expect(digest).toMatch(/^sha256:/);
      records.push(`${actor} ${action} ${object.id} ${decision.reason ?? decision.outcome}`);
    }
    expect(records).toEqual([
      'admin install @acme/lower@1.0.0 allow',
      'service refuse @acme/lower@1.0.0 POLICY_REFUSED',
    ]);
  });

  test('that is closed changes no plugins', async () => {
    const dir = join(outside, 'data');
    const cloister = await openCloister({ dir, policy: { isolation: 'isolate', plugins: { unsigned: true } } });
    const registry = cloister.plugins();
    await cloister.close();
    await expect(registry.install(packed())).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => cloister.plugins()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(await listPlugins(dir)).toEqual([]);
  });
});

describe('the policy', () => {
  test('is refused before anything is made, where it names a key that is none or a capability that is not there', async () => {
    const dir = join(outside, 'data');
    const { vkey } = await makePublisherKey(join(outside, 'keys'), 'acme');
    const misspelt = vkey.replace('acme', 'acne');
    for (const plugins of [
      { publishers: [misspelt] },
      { capabilities: { logs: {} } },
      { capabilities: { log: { call: 1 } } },
    ]) {
      const refused = { code: 'INVALID_POLICY', message: expect.stringContaining('plugins.') };
      await expect(openCloister({ dir, policy: { plugins } })).rejects.toMatchObject(refused);
      await expect(verifyPlugins(dir, { plugins })).rejects.toMatchObject(refused);
    }
    expect(existsSync(dir)).toBe(false);
  });

  test('holds what it says of plugins, and refuses what it does not know', () => {
    expect(parsePolicy({}).plugins).toMatchObject({ publishers: [], unsigned: false, capabilities: {} });
    for (const plugins of [{ publisher: [] }, { publishers: ['acme'] }, { unsigned: 'yes' }, { limits: { wallMs: 0 } }])
      expect(() => parsePolicy({ plugins })).toThrow(/plugins/);
  });
});
