import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openCloister } from '../../src/service/index.ts';

const root = join(import.meta.dirname, '..', '..');
const MODEL = join(root, 'examples', 'digits', 'digits.onnx');
const MAIN = join(root, 'src', 'cli', 'main.ts');

let folder: string;
let data: string;
let vkey: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cloister-audit-'));
  data = join(folder, 'data');
  await using cloister = await openCloister({ dir: data, policy: { isolation: 'isolate', rawOutputs: 'allow' } });
  vkey = cloister.auditKey;
  const model = await cloister.load(MODEL);
  const image = new Float32Array(784);
  for (const subject of ['Jane Doe', 'John Roe']) {
    await model.run(
      { image },
      { actor: 'ward-3', purpose: 'triage', personal: { subject, fields: { bed: '7\u001b[2J' } } },
    );
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function audit(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return auditWith('', ...args);
}

function auditWith(
  input: string,
  ...args: readonly string[]
): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, NO_COLOR: '1', CLOISTER_DIR: data };
  const command = ['--no-node-snapshot', MAIN, 'audit', ...args];
  return spawnSync(process.execPath, command, { cwd: folder, env, encoding: 'utf8', input });
}

test('personal data are shown where they are asked for, checked, and no terminal is taken over', () => {
  const shown = audit('show', 'action:run', '--personal');
  expect(shown).toMatchObject({ status: 0 });
  expect(shown.stdout).toContain('Jane Doe; bed: 7\\u{1b}[2J');
  expect(audit('show', 'action:run').stdout).not.toContain('Jane');
  const [first] = JSON.parse(audit('show', 'action:run', '--personal', '--json').stdout) as object[];
  expect(first).toMatchObject({ record: { action: 'run' }, personal: { kind: 'opened', subject: 'Jane Doe' } });
});

test('an erased person is gone, the log verifies, and a second time there is nothing to do', () => {
  const erased = auditWith('Jane Doe\n', 'erase', '-', '--actor', 'privacy-desk', '--purpose', 'request 12');
  expect(erased).toMatchObject({ status: 0, stdout: expect.stringMatching(/^✓ erased; entry \d+ in the audit log/) });
  expect(audit('erase', 'Jane Doe', '--json')).toMatchObject({ status: 0, stdout: '{\n  "erased": false\n}\n' });
  const shown = audit('show', 'action:run', '--personal').stdout;
  expect(shown).toMatch(/erased/);
  expect(shown).toContain('John Roe');
  expect(audit('show', 'action:erase').stdout).toMatch(
    /privacy-desk +erase +subject sha256:[0-9a-f]{12}… +allow +request 12/,
  );
  expect(audit('verify', '--key', vkey)).toMatchObject({ status: 0 });
  expect(audit('erase', '')).toMatchObject({ status: 2 });
  expect(audit('erase', 'x', '--dir', 'nowhere')).toMatchObject({ status: 2 });
});

test('data that were changed are told, with the exit code of a verification', () => {
  const segments = join(data, 'audit', 'personal', 'data');
  const file = join(segments, readdirSync(segments)[0]!);
  const honest = readFileSync(file);
  const changed = Buffer.from(honest);
  changed[60]! ^= 1;
  writeFileSync(file, changed);
  expect(audit('show', 'action:run', '--personal')).toMatchObject({
    status: 3,
    stdout: expect.stringContaining('damaged'),
  });
  writeFileSync(file, honest);
});

test('a key is changed, and the auditor goes on with the one that they have', () => {
  const rotated = audit('rotate');
  expect(rotated).toMatchObject({ status: 0 });
  expect(rotated.stdout.split('\n')[0]).not.toBe(vkey);
  expect(audit('verify', '--key', vkey)).toMatchObject({ status: 0 });
  expect(JSON.parse(audit('rotate', '--json').stdout)).toEqual({ vkey: expect.stringContaining('+') });
});

test('a round with a witness, through files, and then the log is held to it', () => {
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return name;
  };
  const made = audit('witness', 'init', 'w1', '--name', 'witness.example/w1');
  expect(made).toMatchObject({ status: 0 });
  const witness = write('w1.vkey', made.stdout);
  const keys = (JSON.parse(audit('verify', '--json').stdout) as { keys: string[] }).keys;
  const logs = keys.flatMap(key => ['--log', key]);
  const request = write('request', audit('witness', 'request').stdout);
  const reply = write('reply', audit('witness', 'cosign', request, '--state', 'w1', ...logs).stdout);
  expect(audit('verify', '--witness', witness)).toMatchObject({
    status: 3,
    stdout: expect.stringContaining('witnesses: '),
  });
  expect(audit('witness', 'keep', request, reply, '--witness', witness)).toMatchObject({ status: 0 });
  const verified = audit('verify', '--witness', witness);
  expect(verified).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('were witnessed by witness.example/w1 at '),
  });
  const policy = write('policy', `# ours\nwitness W1 ${made.stdout}quorum W1\n`);
  expect(audit('verify', '--witness', policy, '--json')).toMatchObject({ status: 0 });
  // A second round begins where the first ended; a witness that is asked from elsewhere says so.
  expect(audit('witness', 'cosign', request, '--state', 'w1', ...logs)).toMatchObject({
    status: 3,
    stderr: expect.stringMatching(/ask again with --old \d+/),
  });
  expect(audit('witness', 'cosign', request, '--state', 'w1', '--log', keys[0]!).status).toBe(3);
  expect(audit('witness', 'cosign', request, '--state', 'nowhere', ...logs).status).toBe(2);
  expect(audit('witness', 'keep', request, 'request', '--witness', witness).status).toBe(3);
  expect(audit('verify', '--witness', policy, '--witness', witness).status).toBe(2);
  expect(audit('verify', 'bundle', '--witness', witness).status).toBe(2);
  expect(audit('witness', 'init', 'w2').status).toBe(2);
});

test('a copy of the log without its keys of persons still verifies', () => {
  const copy = join(folder, 'copy');
  cpSync(data, copy, { recursive: true });
  rmSync(join(copy, 'audit', 'personal'), { recursive: true });
  rmSync(join(copy, 'audit', 'keys'), { recursive: true });
  expect(audit('verify', '--key', vkey, '--dir', copy)).toMatchObject({ status: 0 });
  expect(audit('show', 'action:run', '--personal', '--dir', copy)).toMatchObject({ status: 3 });
});

test('a log that stands by itself is continued by another, and the two are checked together', () => {
  const first = join(folder, 'first');
  cpSync(join(data, 'audit'), first, { recursive: true });
  expect(audit('continue', join(data, 'audit'), 'second', '--origin', 'clinic.example/2')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('is the log of a cloister'),
  });
  expect(audit('continue', 'first', 'second', '--origin', 'clinic.example/2')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^clinic\.example\/2\+/),
  });
  expect(audit('chain', 'first', 'second', '--key', vkey)).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^✓ 2 logs continue one another: \d+ \+ 1 records/),
  });
  expect(audit('chain', 'second', 'first')).toMatchObject({ status: 3 });
  expect(audit('chain', 'first', 'nowhere')).toMatchObject({ status: 2 });
});
