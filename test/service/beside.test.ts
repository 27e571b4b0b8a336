/**
 * Files beside a model: what is opened because a model names it, and what is not.
 */
import { execFileSync } from 'node:child_process';
import {
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inspectModel, openCloister, type PolicyInput, readAudit } from '../../src/index.ts';
import { openBeside } from '../../src/service/beside.ts';
import { externalModel, externalWeights } from '../sandbox/tiny-model.ts';

const POLICY: PolicyInput = { isolation: 'isolate', rawOutputs: 'allow', limits: { modelBytes: 4_096 } };
const posix = process.platform !== 'win32';

let root: string;
let folder: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cloister-beside-'));
  folder = join(root, 'models');
  mkdirSync(folder);
  writeFileSync(join(root, 'secret.bin'), externalWeights());
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Loads a model that names `location`, and returns what its product is, or the error. */
async function load(location: string): Promise<unknown> {
  writeFileSync(join(folder, 'model.onnx'), externalModel(location));
  await using cloister = await openCloister({ dir: join(root, 'data'), policy: POLICY });
  try {
    await using model = await cloister.load(join(folder, 'model.onnx'));
    const { outputs } = await model.run({ x: [[1, 1, 1]] }, { actor: 'a', purpose: 'p' });
    return outputs['y']!.toArray();
  } catch (error) {
    return error;
  }
}

const refused = (message: RegExp) => ({ code: 'INVALID_MODEL', message: expect.stringMatching(message) });

describe('a model that keeps its weights', () => {
  test('in a file of its folder, or of one below, runs', async () => {
    writeFileSync(join(folder, 'w.bin'), externalWeights());
    expect(await load('w.bin')).toEqual([[9.5, 0]]);
    mkdirSync(join(folder, 'weights'));
    writeFileSync(join(folder, 'weights', 'w.bin'), externalWeights());
    expect(await load('weights/w.bin')).toEqual([[9.5, 0]]);
  });

  test('in no file that is there is refused, and the file named', async () => {
    expect(await load('w.bin')).toMatchObject(refused(/"w\.bin": there is no such file beside the model/));
    expect(await load('no/folder/w.bin')).toMatchObject(refused(/no such file/));
  });

  test.each(['../secret.bin', '/etc/hostname', 'a/../../secret.bin'])('at %s is refused', async location => {
    expect(await load(location)).toMatchObject(refused(/not a path inside/));
  });

  test.skipIf(!posix)('behind a link at the end of the path is refused, wherever the link leads', async () => {
    writeFileSync(join(folder, 'real.bin'), externalWeights());
    symlinkSync(join(root, 'secret.bin'), join(folder, 'out.bin'));
    symlinkSync(join(folder, 'real.bin'), join(folder, 'in.bin'));
    expect(await load('out.bin')).toMatchObject(refused(/it is a link/));
    expect(await load('in.bin')).toMatchObject(refused(/it is a link/));
    expect(await load('real.bin')).toEqual([[9.5, 0]]);
  });

  test.skipIf(!posix)('behind a folder that is a link out of the folder is refused', async () => {
    symlinkSync(root, join(folder, 'up'));
    expect(await load('up/secret.bin')).toMatchObject(refused(/outside of the folder/));
    mkdirSync(join(folder, 'here'));
    writeFileSync(join(folder, 'here', 'w.bin'), externalWeights());
    symlinkSync(join(folder, 'here'), join(folder, 'again'));
    expect(await load('again/w.bin')).toEqual([[9.5, 0]]);
  });

  test.skipIf(!posix)('in a pipe or a folder is refused without waiting', async () => {
    execFileSync('mkfifo', [join(folder, 'pipe.bin')]);
    mkdirSync(join(folder, 'folder.bin'));
    expect(await load('pipe.bin')).toMatchObject(refused(/not a regular file/));
    expect(await load('folder.bin')).toMatchObject(refused(/not a regular file/));
  });

  test('in the directory of the service, where its keys are, is refused', async () => {
    const data = join(folder, 'data');
    writeFileSync(join(folder, 'model.onnx'), externalModel('data/w.bin'));
    await using cloister = await openCloister({ dir: data, policy: POLICY });
    writeFileSync(join(data, 'w.bin'), externalWeights());
    const error = await cloister.load(join(folder, 'model.onnx')).catch((cause: unknown) => cause);
    expect(error).toMatchObject(refused(/directory of the service/));
  });

  test('in more bytes than the limit, model and files together, is refused', async () => {
    writeFileSync(join(folder, 'w.bin'), externalWeights(4_096));
    expect(await load('w.bin')).toMatchObject({ code: 'MODEL_TOO_LARGE' });
    writeFileSync(join(folder, 'w.bin'), externalWeights(4_000)); // each below the limit, not both
    expect(await load('w.bin')).toMatchObject({ code: 'MODEL_TOO_LARGE' });
  });

  test('in a file that shrinks afterwards keeps what was read, also in a fresh worker', async () => {
    const path = join(folder, 'w.bin');
    writeFileSync(path, externalWeights());
    writeFileSync(join(folder, 'model.onnx'), externalModel('w.bin'));
    const policy: PolicyInput = { ...POLICY, isolation: 'process', limits: { wallMs: 20_000 } };
    await using cloister = await openCloister({ dir: join(root, 'data'), policy });
    const model = await cloister.load(join(folder, 'model.onnx'));
    truncateSync(path, 3);
    const run = async (): Promise<unknown> =>
      (await model.run({ x: [[1, 1, 1]] }, { actor: 'a', purpose: 'p' })).outputs['y']!.toArray();
    expect(await run()).toEqual([[9.5, 0]]);
    if (process.platform === 'linux') {
      const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8').trim().split(' ');
      for (const pid of children) process.kill(Number(pid), 'SIGKILL');
      await new Promise(resolve => setTimeout(resolve, 100));
      expect(await run()).toEqual([[9.5, 0]]);
    }
  });

  test('has a digest of model and file, in the log too: another file is another model', async () => {
    const path = join(folder, 'w.bin');
    const digests = new Set<string>();
    for (const weights of [externalWeights(), externalWeights(8), externalWeights().fill(0)]) {
      writeFileSync(path, weights);
      writeFileSync(join(folder, 'model.onnx'), externalModel('w.bin'));
      await using cloister = await openCloister({ dir: join(root, 'data'), policy: POLICY });
      digests.add((await cloister.load(join(folder, 'model.onnx'))).digest);
      expect(digests.has((await inspectModel(join(folder, 'model.onnx'), { policy: POLICY })).digest)).toBe(true);
    }
    expect(digests.size).toBe(3);
    const loads: unknown[] = [];
    for await (const record of readAudit(join(root, 'data'))) if (record.action === 'load') loads.push(record.model);
    expect(loads).toEqual([...digests]);
  });
});

describe('what opens files beside a model', () => {
  test.skipIf(!posix)('reads no more than it may, and a hard link is as good as its file', async () => {
    linkSync(join(root, 'secret.bin'), join(folder, 'hard.bin'));
    const open = openBeside(join(folder, 'model.onnx'), { limitBytes: 24 });
    expect(await open('hard.bin')).toEqual(externalWeights());
    const small = openBeside(join(folder, 'model.onnx'), { limitBytes: 23 });
    await expect(async () => small('hard.bin')).rejects.toMatchObject({ code: 'MODEL_TOO_LARGE' });
  });
});
