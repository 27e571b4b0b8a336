import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { drawDigit } from '../../examples/digits/draw.ts';
import { writeNpy, writeNpz, writeOnnx } from '../../src/formats/index.ts';
import { GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const root = join(import.meta.dirname, '..', '..');
const MODEL = join(root, 'examples', 'digits', 'digits.onnx');
const RELEASE = ['--records', 'records.jsonl', '--classes', '10', '--scope', 'ward', '--policy', 'policy.json'];
const MAIN = join(root, 'src', 'cli', 'main.ts');

let folder: string;
let data: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'cloister-cli-'));
  data = join(folder, 'data');
  writeFileSync(
    join(folder, 'policy.json'),
    JSON.stringify({ rawOutputs: 'allow', budgets: { ward: { epsilon: 1 } } }),
  );
  const image = drawDigit(4, { seed: 1 });
  writeFileSync(join(folder, 'digit.bin'), new Uint8Array(image.buffer));
  const rows = Array.from({ length: 28 }, (_, y) => [...image.subarray(28 * y, 28 * y + 28)]);
  writeFileSync(join(folder, 'digit.json'), JSON.stringify([[rows]]));
  const lines = Array.from({ length: 5 }, (_, i) => JSON.stringify({ subject: `s${i}`, inputs: { image: [[rows]] } }));
  writeFileSync(join(folder, 'records.jsonl'), `${lines.join('\n')}\nthis line is no record\n`);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function cloister(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { ...process.env, NO_COLOR: '1', CLOISTER_DIR: data };
  return spawnSync(process.execPath, ['--no-node-snapshot', MAIN, ...args], { cwd: folder, env, encoding: 'utf8' });
}

/** Processes that `pid` started, on Linux. */
function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** The bundle of a log of fewer than 256 records. */
function bundleOf(log: string): string {
  const folder = join(log, 'tile', 'entries', '000.p');
  return join(folder, readdirSync(folder)[0]!);
}

const json = (result: { stdout: string }): never => JSON.parse(result.stdout) as never;

describe('the command line', () => {
  test('runs a model, gives data on stdout and talk on stderr', () => {
    const result = cloister('run', MODEL, '--input', 'image=digit.json', '--json');
    expect(result.status).toBe(0);
    const { outputs } = json(result) as { outputs: { logits: { shape: number[]; data: number[][] } } };
    expect(outputs.logits.shape).toEqual([1, 10]);
    const [scores] = outputs.logits.data;
    expect(scores!.indexOf(Math.max(...scores!))).toBe(4);
    expect(result.stderr).toMatch(/entry \d+ in the audit log/);
  });

  test('takes raw bytes and nested arrays alike, and prints for people', () => {
    const raw = cloister('run', MODEL, '-i', 'image=digit.bin');
    const nested = cloister('run', MODEL, '-i', 'image=digit.json');
    expect(raw.stdout).toMatch(/^logits f32\[1,10\]\n/);
    expect(raw.stdout).toContain('largest at 4');
    expect(nested.stdout).toBe(raw.stdout);
  });

  test('takes arrays of NumPy, alone and from an archive', () => {
    const tensor = Tensor.from('f32', [1, 1, 28, 28], drawDigit(4, { seed: 1 }));
    writeFileSync(join(folder, 'digit.npy'), writeNpy(tensor));
    writeFileSync(join(folder, 'digit.npz'), writeNpz({ image: tensor }));
    writeFileSync(join(folder, 'two.npz'), writeNpz({ a: tensor, b: tensor }));
    const raw = cloister('run', MODEL, '-i', 'image=digit.bin').stdout;
    for (const input of ['image=digit.npy', 'image=digit.npz', 'digit.npz'])
      expect(cloister('run', MODEL, '-i', input).stdout).toBe(raw);
    const unclear = cloister('run', MODEL, '-i', 'image=two.npz');
    expect(unclear).toMatchObject({ status: 2, stderr: expect.stringContaining('holds a, b, and not image') });
    writeFileSync(join(folder, 'bad.npy'), 'no array');
    expect(cloister('run', MODEL, '-i', 'image=bad.npy')).toMatchObject({
      status: 5,
      stderr: expect.stringContaining('bad.npy'),
    });
  });

  test('fixes sizes, and says which ones where it has to', () => {
    const fixed = json(cloister('inspect', MODEL, '--dim', 'batch=3', '--json')) as {
      inputs: { shape: unknown[] }[];
      arena: { peakBytes: number; lowerBoundBytes: number };
    };
    expect(fixed.inputs[0]!.shape).toEqual([3, 1, 28, 28]);
    expect(fixed.arena.peakBytes).toBeGreaterThanOrEqual(fixed.arena.lowerBoundBytes);
    expect(cloister('inspect', MODEL).stdout).toContain('sizes are open: --dim batch=SIZE');
    for (const dim of ['batch', 'batch=', '=3', 'batch=-1', 'batch=x'])
      expect(cloister('run', MODEL, '--dim', dim, '-i', 'image=digit.bin').status).toBe(2);
    const unknown = cloister('inspect', MODEL, '--dim', 'width=3');
    expect(unknown).toMatchObject({ status: 2, stderr: expect.stringContaining('width') });
  });

  test('says what the passes do', () => {
    const said = cloister('inspect', MODEL, '--passes', '--dim', 'batch=1');
    expect(said.stdout).toMatch(/^pass +group +nodes before +after +rewrites +time$/m);
    expect(said.stdout).toMatch(/^convolution +lower +8 +6 +2 /m);
    const { passes } = json(cloister('inspect', MODEL, '--passes', '--json')) as { passes: { pass: string }[] };
    expect(passes.map(row => row.pass)).toContain('elementwise-chains');
    expect(json(cloister('inspect', MODEL, '--json'))).not.toHaveProperty('passes');
  });

  test('profiles: a table, JSON, and a trace; recorded, and refused where raw outputs are', () => {
    const said = cloister('profile', MODEL, '-i', 'image=digit.bin', '--runs', '3', '--trace', 'trace.json');
    expect(said.status).toBe(0);
    expect(said.stdout).toMatch(/a run {2}3 runs of \d+ nodes.* on the reference backend in the sandbox/);
    expect(said.stdout).toMatch(/FusedConv +2 .*█/);
    expect(said.stderr).toMatch(/entry \d+ in the audit log/);
    const { traceEvents } = JSON.parse(readFileSync(join(folder, 'trace.json'), 'utf8')) as {
      traceEvents: { name: string; ph: string; ts: number; dur: number }[];
    };
    expect(traceEvents.length).toBeGreaterThan(3);
    for (const { ph, ts, dur } of traceEvents) {
      expect(ph).toBe('X');
      expect(ts).toBeGreaterThanOrEqual(0);
      expect(dur).toBeGreaterThanOrEqual(0);
    }
    const data = json(cloister('profile', MODEL, '-i', 'image=digit.bin', '--runs', '2', '--json'));
    expect(data).toMatchObject({ backend: 'reference', runs: 2, receipt: { record: { measures: { calls: 3 } } } });
    writeFileSync(join(folder, 'strict.json'), JSON.stringify({ budgets: { ward: { epsilon: 1 } } }));
    const refused = cloister('profile', MODEL, '-i', 'image=digit.bin', '--policy', 'strict.json');
    expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('POLICY_REFUSED') });
    expect(cloister('profile', MODEL, '-i', 'image=digit.bin', '--runs', '0').status).toBe(2);
  });

  test('prints labels with their scores, and text; what a terminal acts on is spelt out', () => {
    const labelled = new GraphBuilder('classifier');
    const [scores] = labelled.node({
      op: 'Abs',
      inputs: [labelled.input('x', { dtype: 'f32', shape: ['n', 2] })],
      outputs: ['scores'],
    });
    labelled.output(scores!, { labels: ['no', 'yes'] });
    writeFileSync(join(folder, 'classifier.onnx'), writeOnnx(labelled.build()));
    writeFileSync(join(folder, 'x.json'), '[[-1, 2], [3, 0]]');
    const said = cloister('run', 'classifier.onnx', '-i', 'x=x.json');
    expect(said.stdout).toBe('scores f32[2,2]\nrow 0  yes: 2.00000, no: 1.00000\nrow 1  no: 3.00000, yes: 0.00000\n');
    const { outputs } = json(cloister('run', 'classifier.onnx', '-i', 'x=x.json', '--json')) as {
      outputs: { scores: { data: unknown; maps: unknown[] } };
    };
    expect(outputs.scores.maps[0]).toEqual([
      { label: 'no', score: 1 },
      { label: 'yes', score: 2 },
    ]);
    expect(cloister('inspect', 'classifier.onnx').stdout).toMatch(/output +scores +f32\[n,2\] +a map of no, yes/);

    const echo = new GraphBuilder('echo');
    const words = echo.input('words', { dtype: 'string', shape: ['n'] });
    echo.output(echo.node({ op: 'Identity', inputs: [words], outputs: ['same'] })[0]!);
    writeFileSync(join(folder, 'echo.onnx'), writeOnnx(echo.build()));
    writeFileSync(join(folder, 'words.json'), JSON.stringify(['a "b"', '\u001b[2J']));
    const text = cloister('run', 'echo.onnx', '-i', 'words=words.json');
    expect(text.stdout).not.toContain('\u001b');
    expect(text.stdout).toContain('same string[2]\n  "a \\"b\\""\n');
    const back = json(cloister('run', 'echo.onnx', '-i', 'words=words.json', '--json')) as {
      outputs: { same: { data: string[] } };
    };
    expect(back.outputs.same.data).toEqual(['a "b"', '\u001b[2J']);
  });

  test('inspects a model: inputs, outputs, operators, size, where it runs', () => {
    const said = cloister('inspect', MODEL);
    expect(said.stdout).toMatch(/image\s+f32\[batch,1,28,28\]/);
    expect(said.stdout).toMatch(/logits\s+f32\[batch,10\]/);
    expect(said.stdout).toMatch(/Conv\s+2/);
    const report = json(cloister('inspect', MODEL, '--json')) as {
      bytes: number;
      digest: string;
      operators: { op: string; count: number }[];
    };
    expect(report.bytes).toBe(readFileSync(MODEL).length);
    expect(report.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(report.operators).toContainEqual({ op: 'Conv', count: 2 });
  });

  test('shows a model as text, draws it, and writes it for Graphviz', () => {
    const said = cloister('inspect', MODEL, '--text', '--svg', 'out.svg', '--dot', 'out.dot');
    expect(said.status).toBe(0);
    expect(said.stdout).toMatch(/^graph .*\n/);
    expect(said.stdout).toMatch(/ {2}input +%image +f32\[batch, 1, 28, 28\]\n/);
    expect(said.stdout).toMatch(/= Conv-\d+\(%image, /);
    expect(said.stderr).toMatch(/out\.svg: [\d.]+ KiB/);
    expect(readFileSync(join(folder, 'out.svg'), 'utf8')).toMatch(/^<svg xmlns=[\s\S]*>Conv<[\s\S]*<\/svg>\n$/);
    expect(readFileSync(join(folder, 'out.dot'), 'utf8')).toMatch(/^digraph /);
    const table = cloister('inspect', MODEL, '--svg', 'again.svg', '--json');
    expect((json(table) as { operators: unknown }).operators).toContainEqual({ op: 'Conv', count: 2 });
    expect(cloister('inspect', MODEL, '--svg', join('no', 'such', 'folder', 'x.svg')).status).not.toBe(0);
  });

  test('releases a histogram, then refuses with exit code 4 when the budget is spent', () => {
    const ask = (...more: string[]) => cloister('release', MODEL, ...RELEASE, '--json', ...more);
    const first = ask('--epsilon', '0.8', '--key', 'k');
    expect(first.status).toBe(0);
    expect(json(first)).toMatchObject({ kind: 'released', cost: 800_000, value: expect.any(Array) });
    expect((json(ask('--epsilon', '0.8', '--key', 'k')) as { value: unknown }).value).toEqual(
      (json(first) as { value: unknown }).value,
    );
    const second = ask('--epsilon', '0.5');
    expect(second.status).toBe(4);
    expect(json(second)).toMatchObject({ kind: 'refused', remaining: 200_000 });
    const budget = json(cloister('budget', '--json')) as { scope: string; spent: number }[];
    expect(budget).toMatchObject([{ scope: 'ward', spent: 800_000, limit: 1_000_000 }]);
    expect(cloister('budget').stdout).toMatch(/ward .*0\.8 +0 +0\.2 +1/);
    expect(cloister('budget', 'ward').stdout).toMatch(/CHARGE(.|\n)*RELEASE(.|\n)*REFUSE/);
    expect(cloister('budget', 'list').stdout).toBe(cloister('budget').stdout);
  });

  test('shows how a budget burned down, says what a spend would cost, and raises no limit unasked', () => {
    const shown = cloister('budget', 'show', 'ward', '--svg', 'ward.svg');
    expect(shown.stdout).toMatch(
      /epsilon 0\.2 left of epsilon 1(.|\n)*█(.|\n)*× refused(.|\n)*each holds the one before/,
    );
    expect(shown.stdout).not.toContain('\u001b');
    expect(readFileSync(join(folder, 'ward.svg'), 'utf8')).toMatch(
      /^<svg [^>]*aria-label="Budget of ward: epsilon 0.2 left/,
    );
    expect(cloister('budget', 'plan', 'ward', '--epsilon', '0.1')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/2 times/),
    });
    expect(cloister('budget', 'plan', 'ward', '--epsilon', '0.3')).toMatchObject({ status: 4 });
    expect(cloister('budget', 'plan', 'ward', '--rho', '0.3')).toMatchObject({ status: 2 });
    expect(cloister('budget', 'limit', 'ward', '--epsilon', '2')).toMatchObject({ status: 2 });
    const raise = ['--epsilon', '1.2', '--acknowledge-raise', '--actor', 'desk', '--purpose', 'second study'];
    expect(cloister('budget', 'limit', 'ward', ...raise)).toMatchObject({
      status: 0,
      stdout: 'ward has epsilon 0.4 left of epsilon 1.2\n',
    });
    expect(cloister('budget', 'limit', 'ward', '--epsilon', '1')).toMatchObject({ status: 0 });
    expect(json(cloister('audit', 'show', 'action:policy', '--json'))).toMatchObject([
      { actor: 'desk', purpose: 'second study', budget: { limit: 1_200_000, before: 800_000, after: 800_000 } },
      { actor: 'cli', decision: { reason: 'LIMIT_LOWERED' }, budget: { limit: 1_000_000 } },
    ]);
    expect(cloister('budget', 'show', 'nobody')).toMatchObject({ status: 4 });
  });

  test('verifies the log and a receipt; a changed log is exit code 3, with the place', () => {
    cloister('run', MODEL, '--input', 'image=digit.json', '--receipt', 'receipt.json');
    cloister('release', MODEL, ...RELEASE, '--epsilon', '0.1', '--key', 'verified');
    cloister('release', MODEL, ...RELEASE, '--epsilon', '1');
    expect(cloister('audit', 'verify')).toMatchObject({ status: 0, stdout: expect.stringMatching(/records verify/) });
    expect(cloister('audit', 'verify', '--receipt', 'receipt.json')).toMatchObject({ status: 0 });
    const receipt = JSON.parse(readFileSync(join(folder, 'receipt.json'), 'utf8')) as { record: { actor: string } };
    receipt.record.actor = 'someone else';
    writeFileSync(join(folder, 'forged.json'), JSON.stringify(receipt));
    expect(cloister('audit', 'verify', '--receipt', 'forged.json')).toMatchObject({ status: 3 });
    const refusals = json(cloister('audit', 'show', 'action:refuse', '--json')) as object[];
    expect(refusals.slice(-1)).toMatchObject([
      { action: 'refuse', decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } },
    ]);
    const [charge] = json(cloister('audit', 'show', 'action:charge', '--json')) as { seq: number }[];
    const file = bundleOf(join(data, 'audit'));
    const honest = readFileSync(file);
    const changed = Buffer.from(honest);
    changed[changed.indexOf('"action":"charge"') + 12]! ^= 1;
    writeFileSync(file, changed);
    const verdict = cloister('audit', 'verify', '--json');
    expect(verdict.status).toBe(3);
    expect(json(verdict)).toMatchObject({ ok: false, kind: 'changed', index: charge!.seq });
    writeFileSync(file, honest);
  });

  test('filters what it lists by qualifiers, also excluding ones, wherever they stand', () => {
    const seqs = (...args: string[]) =>
      (json(cloister('audit', 'show', '--json', '--limit', '1000', ...args)) as { seq: number }[]).map(
        ({ seq }) => seq,
      );
    const all = seqs();
    const runs = seqs('action:run');
    expect(runs.length).toBeGreaterThan(0);
    expect([...runs, ...seqs('-action:run')].sort((a, b) => a - b)).toEqual(all);
    expect(seqs('-action:run', '-action:load', 'since:1h')).toEqual(seqs('-action:run -action:load'));
    expect(seqs('until:1h')).toEqual([]);
    expect(cloister('audit', 'show', '-action:run', '--limit', '1').stdout.split('\n')).toHaveLength(3);
  });

  test('proves a record to whoever has the bundle alone, and that the log extends a checkpoint that was kept', () => {
    cloister('run', MODEL, '--input', 'image=digit.json');
    writeFileSync(join(folder, 'kept'), readFileSync(join(data, 'audit', 'checkpoint')));
    cloister('run', MODEL, '--input', 'image=digit.json');
    expect(cloister('audit', 'consistency', 'kept')).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/extends/),
    });
    expect(json(cloister('audit', 'consistency', 'kept', '--json'))).toMatchObject({ ok: true, extension: {} });
    writeFileSync(join(folder, 'no-note'), 'text\n');
    expect(cloister('audit', 'consistency', 'no-note')).toMatchObject({ status: 3 });

    const proved = cloister('audit', 'prove', '1');
    expect(proved).toMatchObject({ status: 0, stdout: expect.stringMatching(/^\{.*\}\n$/) });
    const second = cloister('audit', 'prove', '2').stdout;
    writeFileSync(join(folder, 'bundles'), proved.stdout + second);
    const away = ['--dir', 'nowhere']; // there is no log to look at
    const verdict = cloister('audit', 'verify', 'bundles', ...away);
    expect(verdict).toMatchObject({ status: 0, stdout: expect.stringMatching(/2 records are in the log/) });
    expect(verdict.stderr).toContain('compare it, or pass --key');
    const trusted = cloister('audit', 'verify', 'bundles', '--key', join(data, 'audit', 'vkey'), ...away);
    expect(trusted).toMatchObject({ status: 0, stderr: '' });
    writeFileSync(join(folder, 'forged'), proved.stdout + second.replace(/"actor":"./, '"actor":"X'));
    const forged = cloister('audit', 'verify', 'forged', '--json', ...away);
    expect(forged.status).toBe(3);
    expect(json(forged)).toMatchObject({ ok: false, line: 2 });
    writeFileSync(join(folder, 'empty'), '');
    expect(cloister('audit', 'verify', 'empty', ...away).status).toBe(3);
    expect(cloister('audit', 'prove', '100000').status).toBe(2);
  });

  test('exports what a filter asks for, each record with a proof that verifies alone', () => {
    const all = json(cloister('audit', 'show', '--json', '--limit', '1000')) as { seq: number; action: string }[];
    const lines = cloister('audit', 'export').stdout.trimEnd().split('\n');
    expect(lines.map(line => (JSON.parse(line) as { seq: number }).seq)).toEqual(all.map(({ seq }) => seq));
    const runs = all.filter(({ action }) => action === 'run');
    const told = cloister(
      'audit',
      'export',
      'action:run',
      '--format',
      'csv',
      '--out',
      'runs.csv',
      '--proofs',
      'runs.proofs',
    );
    expect(told).toMatchObject({ status: 0, stdout: '', stderr: `${runs.length} records, each with a proof\n` });
    const csv = readFileSync(join(folder, 'runs.csv'), 'utf8').trimEnd().split('\n');
    expect(csv[0]).toMatch(/^seq,time,actor,action,/);
    expect(csv.slice(1).map(line => Number.parseInt(line, 10))).toEqual(runs.map(({ seq }) => seq));
    const verdict = cloister('audit', 'verify', 'runs.proofs', '--json', '--dir', 'nowhere');
    expect(verdict.status).toBe(0);
    expect(json(verdict)).toMatchObject({ ok: true, records: runs.length });
    const [event] = cloister('audit', 'export', '-action:run', '--format', 'ocsf').stdout.split('\n');
    expect(JSON.parse(event!)).toMatchObject({ class_uid: 6003, api: { operation: all[0]!.action } });
    expect(cloister('audit', 'export', '--out', join('no', 'folder')).status).toBe(2);
  });

  test('compares a log with its backup', () => {
    const kept = join(folder, 'backup');
    cpSync(join(data, 'audit'), kept, { recursive: true });
    expect(cloister('audit', 'diff', data, kept)).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/the same/),
    });
    cloister('run', MODEL, '--input', 'image=digit.json');
    const longer = cloister('audit', 'diff', data, kept, '--json');
    expect(longer.status).toBe(0);
    expect(json(longer)).toMatchObject({ ok: true, kind: 'extends', longer: 'first' });
    const file = bundleOf(kept);
    const bytes = readFileSync(file);
    bytes[bytes.length - 3]! ^= 1;
    writeFileSync(file, bytes);
    expect(cloister('audit', 'diff', data, kept)).toMatchObject({ status: 3 });
    expect(cloister('audit', 'diff', data, 'nowhere')).toMatchObject({ status: 2 });
  });

  test('tails a log: the last records, and with -f those that come, until Ctrl-C, which is no failure', async () => {
    const last = cloister('audit', 'tail', '--last', '2', '--json').stdout.trimEnd().split('\n');
    expect(last.map(line => (JSON.parse(line) as { action: string }).action).at(-1)).toBe('close');
    expect(last).toHaveLength(2);
    const env = { ...process.env, NO_COLOR: '1', CLOISTER_DIR: data };
    const args = ['--no-node-snapshot', MAIN, 'audit', 'tail', '-f', 'action:run', '--last', '1', '--json'];
    const tail = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
    const closed = once(tail, 'close');
    let said = '';
    tail.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    const lines = async (count: number): Promise<void> => {
      while (said.split('\n').length <= count && tail.exitCode === null) await sleep(50);
    };
    await lines(1);
    cloister('run', MODEL, '--input', 'image=digit.json', '--purpose', 'while it is followed');
    await lines(2);
    tail.kill('SIGINT');
    expect(await closed).toEqual([0, null]);
    expect(
      said
        .trimEnd()
        .split('\n')
        .map(line => (JSON.parse(line) as { purpose?: string }).purpose),
    ).toEqual(['cli run', 'while it is followed']);
  });

  test('doctor names every part, and exits 0 where nothing is missing', () => {
    const result = cloister('doctor', '--json');
    expect(result.status).toBe(0);
    const { checks } = json(result) as { checks: { name: string; state: string }[] };
    expect(checks.map(check => check.name)).toEqual(
      expect.arrayContaining(['node', 'kernels', 'isolate', 'worker', 'store']),
    );
    expect(checks.filter(check => check.state === 'missing')).toEqual([]);
  });

  test('doctor --backends runs work on each backend that is here and says which is chosen', () => {
    const result = cloister('doctor', '--backends', '--json');
    expect(result.status).toBe(0);
    const { backends, choices } = json(result) as {
      backends: { name: string; state: string }[];
      choices: { work: string; us: Record<string, number>; chosen: string }[];
    };
    expect(backends.at(-1)).toMatchObject({ name: 'reference', state: 'ok' });
    expect(choices.length).toBeGreaterThan(4);
    for (const { us, chosen } of choices) {
      expect(us['reference']).toBeGreaterThan(0);
      expect(Object.keys(us)).toContain(chosen);
      expect(us[chosen]).toBe(Math.min(...Object.values(us)));
    }
    expect(cloister('doctor', '--backends').stdout).toMatch(
      /MatMul \[128,384\] \[384,384\] +(native|openblas|reference)/,
    );
  });

  test('doctor says how to mend a missing binary', () => {
    const env = { ...process.env, NO_COLOR: '1', CLOISTER_NATIVE: 'off' };
    const { stdout } = spawnSync(process.execPath, ['--no-node-snapshot', MAIN, 'doctor'], { env, encoding: 'utf8' });
    expect(stdout).toMatch(/! kernels +reference backend: CLOISTER_NATIVE=off\n +mend: unset CLOISTER_NATIVE/);
  });

  test.each([
    ['no command', [], 2],
    ['an unknown command', ['fly'], 2],
    ['an unknown option', ['run', MODEL, '--fast'], 2],
    ['a missing argument', ['run'], 2],
    ['an input without a name', ['run', MODEL, '-i', 'digit.json'], 2],
    ['an input file that is missing', ['run', MODEL, '-i', 'image=nothing.json'], 2],
    ['an input that the model lacks', ['run', MODEL, '-i', 'pixels=digit.json'], 5],
    ['a model that is missing', ['inspect', 'nothing.onnx'], 2],
    ['a model that is a directory', ['run', '.'], 2],
    ['a model that never ends', ['inspect', '/dev/zero'], 2],
    ['an input that never ends', ['run', MODEL, '-i', 'image=/dev/zero'], 2],
    ['a policy that never ends', ['run', MODEL, '--policy', '/dev/zero'], 2],
    ['records that never end', ['release', MODEL, ...RELEASE, '--epsilon', '0.1', '--records', '/dev/zero'], 2],
    ['an input named as a prototype', ['run', MODEL, '-i', '__proto__=digit.json'], 5],
    ['a limit below zero', ['audit', 'show', '--limit', '-1'], 2],
    ['a model that is none', ['inspect', 'digit.json'], 5],
    ['a policy with an unknown key', ['run', MODEL, '-i', 'image=digit.json', '--policy', 'digit.json'], 2],
    [
      'an unknown scope',
      ['release', MODEL, '--records', 'records.jsonl', '--classes', '10', '--epsilon', '1', '--scope', 'x'],
      4,
    ],
    [
      'a NaN epsilon',
      ['release', MODEL, '--records', 'records.jsonl', '--classes', '10', '--epsilon', 'NaN', '--scope', 'ward'],
      2,
    ],
    ['a directory without a ledger', ['budget', '--dir', 'nowhere'], 2],
    ['a directory without a log', ['audit', 'verify', '--dir', 'nowhere'], 2],
    ['an unknown form of an export', ['audit', 'export', '--format', 'xml'], 2],
    ['a tail without a log', ['audit', 'tail', '-f', '--dir', 'nowhere'], 2],
    ['a proof of no record', ['audit', 'prove', '-1'], 2],
    ['a proof without a log', ['audit', 'prove', '0', '--dir', 'nowhere'], 2],
    ['bundles that never end', ['audit', 'verify', '/dev/zero'], 2],
    ['an unknown action', ['audit', 'show', 'action:fly'], 2],
    ['an unknown option beside a filter', ['audit', 'show', 'action:run', '--actor', 'x'], 2],
  ])('%s: one line on stderr, and the exit code of its cause', (_, args, code) => {
    const result = cloister(...args);
    expect(result.status).toBe(code);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(result.stderr.length).toBeGreaterThan(10);
  });

  test('a pipe that nobody writes to does not hang', () => {
    spawnSync('mkfifo', [join(folder, 'pipe')]);
    expect(cloister('inspect', 'pipe').status).toBe(2);
    expect(cloister('run', MODEL, '-i', 'image=pipe').status).toBe(2);
  });

  test.each([
    ['a wrong number of classes', ['--classes', '7'], 5],
    ['records that are missing', ['--records', 'nothing.jsonl'], 2],
  ])('%s is found out before anything is charged', (_, more, code) => {
    const before = cloister('budget', '--json').stdout;
    expect(cloister('release', MODEL, ...RELEASE, '--epsilon', '0.01', ...more).status).toBe(code);
    expect(cloister('budget', '--json').stdout).toBe(before);
  });

  test('a receipt that cannot be written does not take the paid answer along', () => {
    const more = ['--epsilon', '0.0001', '--receipt', 'nowhere/receipt.json', '--json'];
    const result = cloister('release', MODEL, ...RELEASE, ...more, '--dir', join(folder, 'receipts'));
    expect(result.status).toBe(1);
    expect(result.stdout).toMatch(/"kind": "released"/);
  });

  test('what others wrote cannot take over the terminal', () => {
    const purpose = 'a\u001b[2Jb\u009b31mc\u202ed';
    cloister('run', MODEL, '-i', 'image=digit.json', '--purpose', purpose);
    const shown = cloister('audit', 'show', 'action:run', '--limit', '1000').stdout;
    expect(shown).toContain('a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d');
    const spelt = cloister('audit', 'show', 'action:run', '--limit', '1000', '--json').stdout;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(shown + spelt).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    expect((JSON.parse(spelt) as { purpose: string }[]).at(-1)?.purpose).toBe(purpose);
    const hostile = cloister('inspect', 'no\u001b[2Jthing.onnx').stderr;
    expect(hostile).toContain('no\\u{1b}[2Jthing.onnx');
  });

  test('interrupted in a release: no process is left, the charge stands, the log verifies and opens again', async () => {
    const record = readFileSync(join(folder, 'records.jsonl'), 'utf8').split('\n')[0]!;
    writeFileSync(join(folder, 'many.jsonl'), `${record}\n`.repeat(20_000));
    const dir = join(folder, 'interrupted');
    const args = ['release', MODEL, ...RELEASE, '--records', 'many.jsonl', '--epsilon', '0.25', '--dir', dir];
    const child = spawn(process.execPath, ['--no-node-snapshot', MAIN, ...args], { cwd: folder, stdio: 'ignore' });
    const ended = once(child, 'exit');
    const log = join(dir, 'audit', 'wal', '0'.repeat(16));
    while (!(existsSync(log) && readFileSync(log, 'latin1').includes('"charge"'))) await sleep(20);
    const workers = existsSync('/proc') ? childrenOf(child.pid!) : [];
    child.kill('SIGINT');
    expect(await ended).toEqual([null, 'SIGINT']);
    for (let tries = 0; workers.some(pid => existsSync(`/proc/${pid}`)); tries++) {
      expect(tries).toBeLessThan(100);
      await sleep(50);
    }
    expect(cloister('audit', 'verify', '--dir', dir).status).toBe(0);
    expect(json(cloister('budget', '--json', '--dir', dir))).toMatchObject([{ spent: 250_000, reserved: 0 }]);
    expect(cloister('run', MODEL, '-i', 'image=digit.json', '--dir', dir).status).toBe(0);
  });

  test('an error with --json is JSON on stdout, too', () => {
    expect(json(cloister('inspect', 'digit.json', '--json'))).toMatchObject({ error: { code: 'INVALID_MODEL' } });
  });

  test.each([
    [],
    ['run'],
    ['release'],
    ['inspect'],
    ['budget'],
    ['audit'],
    ['audit', 'verify'],
    ['audit', 'show'],
    ['audit', 'prove'],
    ['audit', 'consistency'],
    ['audit', 'diff'],
    ['audit', 'export'],
    ['audit', 'tail'],
    ['doctor'],
  ])('%s --help explains itself', (...path) => {
    const result = cloister(...path, '--help');
    expect(result.status).toBe(0);
    expect(result.stdout).toMatch(/^Usage: cloister/);
  });
});
