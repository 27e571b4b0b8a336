import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { PLUGIN_KINDS, readPackage } from '../../sandbox/index.ts';
import { pluginTemplate } from '../../src/cli/plugin-templates.ts';
import { openCloister } from '../../src/service/index.ts';
import { freshFolder, packed } from '../sandbox/plugins/packages.ts';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.ts');
const folders: string[] = [];
let folder: string;

beforeEach(() => {
  folder = freshFolder();
  folders.push(folder);
});
afterAll(() => {
  for (const each of folders) rmSync(each, { recursive: true, force: true });
});

function plugin(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, NO_COLOR: '1', CLOISTER_DIR: join(folder, 'data') };
  const command = ['--no-node-snapshot', MAIN, 'plugin', ...args];
  return spawnSync(process.execPath, command, { cwd: folder, env, encoding: 'utf8' });
}

const json = <T>(result: { stdout: string }): T => JSON.parse(result.stdout) as T;
const at = (name: string): string => join(folder, name);

/** A package of a new plugin, with changes to its manifest, in `file`. */
function pack(file: string, change: object = {}): void {
  rmSync(at('source'), { recursive: true, force: true });
  expect(plugin('new', 'source', '--kind', 'processor', '--name', '@acme/scale').status).toBe(0);
  const manifest = { ...(JSON.parse(readFileSync(at('source/plugin.json'), 'utf8')) as object), ...change };
  writeFileSync(at('source/plugin.json'), JSON.stringify(manifest));
  expect(plugin('pack', 'source', '-o', file).status).toBe(0);
}

function policy(plugins: object): void {
  writeFileSync(at('policy.json'), JSON.stringify({ isolation: 'isolate', plugins }));
}

describe('cloister plugin', () => {
  test('new, keygen, pack, sign, install, list, verify, remove', { timeout: 120_000 }, () => {
    const made = plugin('new', 'scale', '--kind', 'processor', '--name', '@acme/scale', '--json');
    expect(json(made)).toMatchObject({ name: '@acme/scale', kind: 'processor' });
    const key = plugin('keygen', 'keys', '--name', 'acme');
    expect(key).toMatchObject({ status: 0, stdout: expect.stringMatching(/^acme\+[0-9a-f]{8}\+/) });
    expect(statSync(at('keys/key')).mode & 0o777).toBe(0o600);
    expect(readFileSync(at('keys/vkey'), 'utf8')).toBe(key.stdout);

    expect(plugin('pack', 'scale').stderr).toContain('acme-scale-0.1.0.cloister-plugin');
    const file = 'acme-scale-0.1.0.cloister-plugin';
    policy({ publishers: [key.stdout.trim()] });
    const unsigned = plugin('install', file, '--policy', 'policy.json');
    expect(unsigned).toMatchObject({ status: 2, stderr: expect.stringContaining('nobody signed it') });
    const { digest, publisher } = json<{ digest: string; publisher: string }>(
      plugin('sign', file, '--key', 'keys', '--json'),
    );
    expect(readPackage(readFileSync(at(file))).digest).toBe(digest);

    const installed = plugin('install', file, '--policy', 'policy.json', '--actor', 'admin', '--json');
    expect(installed.status).toBe(0);
    expect(json(installed)).toMatchObject({ name: '@acme/scale', version: '0.1.0', digest, publisher });
    expect(plugin('list').stdout).toMatch(/@acme\/scale +0\.1\.0 +active +processor +acme\+/);
    expect(json(plugin('list', '--json'))).toMatchObject([{ name: '@acme/scale', active: true, digest }]);
    expect(plugin('verify', '--policy', 'policy.json')).toMatchObject({ status: 0, stdout: '✓ @acme/scale@0.1.0\n' });
    const unknown = plugin('verify', '--json');
    expect(unknown.status).toBe(3);
    expect(json(unknown)).toMatchObject({ ok: false, plugins: [{ code: 'POLICY_REFUSED' }] });

    const removed = plugin('remove', '@acme/scale@0.1.0');
    expect(removed).toMatchObject({ status: 0, stdout: '@acme/scale@0.1.0 removed; no version is left\n' });
    expect(plugin('list').stdout).toBe('no plugins are installed\n');
    expect(plugin('remove', '@acme/scale')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is not installed'),
    });

    const env = { ...process.env, CLOISTER_DIR: at('data') };
    const audit = spawnSync(process.execPath, [MAIN, 'audit', 'show', '--json'], { env, encoding: 'utf8' });
    const records = json<{ action: string; actor: string; object: { kind: string; id: string } }[]>(audit)
      .filter(record => record.object.kind === 'plugin')
      .map(({ action, actor, object }) => `${actor} ${action} ${object.id}`);
    expect(records).toEqual([
      'cli refuse @acme/scale@0.1.0',
      'admin install @acme/scale@0.1.0',
      'cli remove @acme/scale@0.1.0',
      'cli fail @acme/scale',
    ]);
  });

  test('says what an upgrade asks for in addition, what a downgrade is, and what was changed', {
    timeout: 120_000,
  }, () => {
    policy({ unsigned: true, capabilities: { log: {} } });
    const install = (...more: readonly string[]) =>
      plugin('install', 'a.cloister-plugin', '--policy', 'policy.json', ...more);
    pack('a.cloister-plugin');
    expect(install().stdout).toBe('@acme/scale@0.1.0 is active; signed by nobody; is lent nothing\n');
    pack('a.cloister-plugin', { version: '0.2.0', capabilities: { log: {} } });
    const more = install();
    expect(more).toMatchObject({ status: 2, stderr: expect.stringContaining('capability log') });
    expect(install('--allow-escalation').stdout).toContain(
      '0.2.0 is active, after 0.1.0; signed by nobody; is lent log',
    );
    pack('a.cloister-plugin', { version: '0.1.5' });
    expect(install()).toMatchObject({
      status: 0,
      stderr: expect.stringContaining('downgrade: 0.2.0 was active before'),
    });
    expect(plugin('remove', '@acme/scale@0.1.5').stdout).toContain('0.2.0 is active');

    const bytes = readFileSync(at('a.cloister-plugin'));
    bytes[bytes.length - 1500]! ^= 1;
    writeFileSync(at('a.cloister-plugin'), bytes);
    const changed = install('--json');
    expect(changed.status).toBe(3);
    expect(json(changed)).toMatchObject({ error: { code: 'INVALID_PLUGIN' } });
  });

  test('waits for nobody who has the cloister open, and may be looked at beside it', async () => {
    await using cloister = await openCloister({
      dir: at('data'),
      policy: { isolation: 'isolate', plugins: { unsigned: true } },
    });
    policy({ unsigned: true });
    await cloister.plugins().install(packed());
    pack('a.cloister-plugin');
    const busy = plugin('install', 'a.cloister-plugin', '--policy', 'policy.json', '--json');
    expect(busy.status).toBe(7);
    expect(json(busy)).toMatchObject({ error: { code: 'LOCKED' } });
    expect(json(plugin('list', '--json'))).toMatchObject([{ name: '@acme/lower' }]);
  });

  test('writes nothing over what is there', () => {
    expect(plugin('new', 'a', '--kind', 'policy').status).toBe(0);
    const again = plugin('new', 'a', '--kind', 'operator');
    expect(again).toMatchObject({ status: 2, stderr: expect.stringContaining('is not empty') });
    expect(JSON.parse(readFileSync(at('a/plugin.json'), 'utf8'))).toMatchObject({ kind: 'policy' });
    expect(plugin('keygen', 'keys', '--name', 'acme').status).toBe(0);
    const key = readFileSync(at('keys/key'), 'utf8');
    expect(plugin('keygen', 'keys', '--name', 'acme')).toMatchObject({ status: 7 });
    expect(readFileSync(at('keys/key'), 'utf8')).toBe(key);
  });

  test.each([
    ['a kind that is none', ['new', 'a', '--kind', 'driver'], 2],
    ['no kind', ['new', 'a'], 2],
    ['a name that is none', ['new', 'a', '--kind', 'policy', '--name', '../a'], 3],
    ['a folder that is not there', ['pack', 'nowhere'], 2],
    ['a folder without a manifest', ['pack', '.'], 3],
    ['a package that is not there', ['install', 'nothing.cloister-plugin'], 2],
    ['a key that is not there', ['sign', 'nothing.cloister-plugin', '--key', 'nowhere'], 2],
    ['a name of a publisher that is none', ['keygen', 'keys', '--name', 'a b'], 2],
  ] as const)('says by its exit code what is wrong with %s', (_, args, status) => {
    const result = plugin(...args);
    expect(result.status).toBe(status);
    expect(result.stderr).toMatch(/^error: /m);
  });
});

describe('the template of a plugin', () => {
  test.each(PLUGIN_KINDS)('%s passes its own test, and packs', kind => {
    expect(plugin('new', 'made', '--kind', kind).status).toBe(0);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const tested = spawnSync(process.execPath, ['--test', '--test-reporter=tap'], {
      cwd: at('made'),
      env,
      encoding: 'utf8',
    });
    expect(tested.stdout).toMatch(/^# pass 1$/m);
    expect(tested.status).toBe(0);
    expect(plugin('pack', 'made', '-o', 'made.cloister-plugin').status).toBe(0);
    const { manifest, files } = readPackage(readFileSync(at('made.cloister-plugin')));
    expect(manifest).toMatchObject({ name: 'made', kind, entry: 'main.js' });
    expect(Buffer.from(files.get('main.js')!).toString()).toBe(pluginTemplate(kind, 'made')['main.js']);

    // The control: its test fails when the plugin does nothing.
    writeFileSync(at('made/main.js'), 'define({});\n');
    expect(spawnSync(process.execPath, ['--test'], { cwd: at('made'), env }).status).toBe(1);
  });
});

describe('plugin check', () => {
  test('says what a plugin does not keep, and ends by its verdict', () => {
    expect(plugin('new', 'mine', '--kind', 'policy').status).toBe(0);
    const good = plugin('check', 'mine', '--json');
    expect(good.status).toBe(0);
    expect(json(good)).toMatchObject({ verdict: 'pass', violations: [], plugin: 'mine@0.1.0' });

    writeFileSync(at('mine/main.js'), "define({ choose: () => 'gpu' });");
    const bad = plugin('check', 'mine');
    expect(bad.status).toBe(1);
    expect(bad.stdout).toMatch(/✗ answers in form: choose/);
    expect(bad.stdout).toMatch(/fail: mine@0.1.0/);

    policy({});
    const refused = plugin('check', 'mine', '--policy', 'policy.json', '--json');
    expect(refused.status).toBe(3);
    expect(json(refused)).toMatchObject({ verdict: 'refused', calls: 0 });
    expect(plugin('check', 'nowhere').status).toBe(2);
  });
});
