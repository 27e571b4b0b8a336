/**
 * The main job, end to end, as a user of the package would write it: `npm run demo`.
 *
 * Load a model that nobody trusts, run it on data that must be protected, publish a statistic of the predictions under a privacy
 * budget, and prove afterwards what happened. Needs no network and no data but what this repository draws itself.
 * @module
 */
import { cpSync, globSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { CloisterError, histogram, inspectModel, openCloister, readAudit, type Timings, verifyAudit } from 'cloister';
import { openSandbox } from 'cloister/sandbox';
import { asText, drawDigit } from './digits/draw.ts';

const MODEL = join(import.meta.dirname, 'digits', 'digits.onnx');
const SCOPE = 'clinic-a/2026-q4';
const CLASSES = 10;

const bold = (text: string): string => styleText('bold', text, { stream: process.stdout, validateStream: true });
const dim = (text: string): string => styleText('dim', text, { stream: process.stdout, validateStream: true });
const green = (text: string): string => styleText('green', text, { stream: process.stdout, validateStream: true });
const red = (text: string): string => styleText('red', text, { stream: process.stdout, validateStream: true });
const title = (text: string): void =>
  console.log(`\n${bold(`── ${text} `)}${dim('─'.repeat(Math.max(0, 76 - text.length)))}\n`);
const columns = process.stdout.columns ?? Number.POSITIVE_INFINITY;
/** What is left of `text` on a line that has `used` columns already. */
const shorten = (text: string, used: number): string =>
  text.length <= columns - used ? text : `${text.slice(0, Math.max(0, columns - used - 1))}…`;
const milliseconds = (value: number): string => (value < 10 ? `${value.toFixed(2)} ms` : `${value.toFixed(0)} ms`);

const started = performance.now();
const dir = mkdtempSync(join(tmpdir(), 'cloister-demo-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));

title('1  A model from somebody else, read inside the sandbox');
const report = await inspectModel(MODEL);
const shape = (value: { name: string; dtype: string; shape: readonly (string | number)[] }): string =>
  `${bold(value.name)} ${value.dtype}[${value.shape.join(', ')}]`;
console.log(
  `${report.file}   ${(report.bytes / 1024).toFixed(0)} KiB, ${report.parameters.toLocaleString('en')} parameters`,
);
console.log(`in       ${report.inputs.map(shape).join(', ')}`);
console.log(`out      ${report.outputs.map(shape).join(', ')}`);
console.log(`nodes    ${report.operators.map(({ op, count }) => (count > 1 ? `${op} ×${count}` : op)).join(', ')}`);
console.log(`runs on  ${report.backend === 'native' ? report.why : `the reference backend: ${report.why}`}`);

await using cloister = await openCloister({
  dir,
  policy: { rawOutputs: 'allow', budgets: { [SCOPE]: { epsilon: 1.2 } } },
});
const model = await cloister.load(MODEL, { actor: 'demo' });

title('2  Ten digits, each through a supervised worker process, each recorded');
const digits = Array.from({ length: CLASSES }, (_, digit) => ({
  digit,
  image: drawDigit(digit, { seed: 2026 + digit }),
}));
const predictions: number[] = [];
let last: Timings | undefined;
for (const { image } of digits) {
  const { outputs, timings } = await model.run({ image }, { actor: 'ward-3', purpose: 'triage' });
  predictions.push(argmax(outputs['logits']!.values() as number[]));
  last = timings;
}
const width = process.stdout.columns ?? 80;
const captions = digits.map(({ digit }, i) =>
  predictions[i] === digit ? `${digit} ✓` : `${predictions[i]} ✗ (${digit})`,
);
console.log(
  asText(
    digits.map(({ image }) => image),
    { captions, columns: width, style: width < 150 ? 'dots' : 'blocks' },
  ),
);
const right = predictions.filter((predicted, i) => predicted === digits[i]!.digit).length;
console.log(`\n${right === CLASSES ? green(`${right} of ${CLASSES} right`) : red(`${right} of ${CLASSES} right`)}`);

title('3  A histogram of 200 predictions, under epsilon 0.5');
const patients = Array.from({ length: 200 }, (_, i) => ({
  subject: `subject-${i}`,
  inputs: { image: drawDigit((i * i + 3 * i) % 7 === 0 ? 1 : (i * 7) % CLASSES, { seed: 10_000 + i }) },
}));
const released = await model.release({
  records: patients,
  statistic: histogram({ of: 'argmax', classes: CLASSES }),
  epsilon: 0.5,
  scope: SCOPE,
  idempotencyKey: 'weekly-report-47',
  actor: 'statistics',
  purpose: 'weekly report',
});
if (released.kind === 'refused') throw new Error('the budget should have covered this');
// The true counts would never be shown outside a demonstration: these people do not exist.
const truth = new Array<number>(CLASSES).fill(0);
for (const { inputs } of patients) {
  const { outputs } = await model.run(inputs, { actor: 'demo', purpose: 'ground truth, for the picture' });
  truth[argmax(outputs['logits']!.values() as number[])]!++;
}
console.log(dim('digit   true  released       ░ true   █ released   ├─┤ 95 % of the noise'));
const most = Math.max(...truth, ...released.value) + released.errorBar;
const cells = 46;
for (let digit = 0; digit < CLASSES; digit++) {
  const noised = released.value[digit]!;
  const at = (count: number): number => Math.max(0, Math.min(cells - 1, Math.round((count / most) * (cells - 1))));
  const line: string[] = Array.from({ length: cells }, (_, x) =>
    x <= at(noised) && noised > 0 ? '█' : x <= at(truth[digit]!) ? '░' : ' ',
  );
  for (let x = at(noised - released.errorBar); x <= at(noised + released.errorBar); x++)
    if (line[x] !== '█') line[x] = line[x] === '░' ? '░' : '─';
  line[at(noised + released.errorBar)] = '┤';
  line[at(noised - released.errorBar)] = '├';
  const numbers = `  ${digit}   ${String(truth[digit]).padStart(6)}  ${String(noised).padStart(8)} ±${released.errorBar}`;
  console.log(`${numbers}    ${line.join('').trimEnd()}`);
}
const again = await model.release({
  records: [],
  statistic: histogram({ of: 'argmax', classes: CLASSES }),
  epsilon: 0.5,
  scope: SCOPE,
  idempotencyKey: 'weekly-report-47',
});
const same = again.kind === 'released' && again.value.every((count, i) => count === released.value[i]);
console.log(dim(`\nThe same key again: ${same ? 'the same answer, charged once' : 'ANOTHER ANSWER'}.`));

title('4  The budget goes down, to a refusal');
for (const epsilon of [0.4, 0.2, 0.2]) {
  const answer = await model.release({
    records: patients.slice(0, 20),
    statistic: histogram({ of: 'argmax', classes: CLASSES }),
    epsilon,
    scope: SCOPE,
    actor: 'statistics',
    purpose: 'another look',
  });
  const [state] = await cloister.budgets();
  if (!state) throw new Error('the scope is gone');
  const full = Math.round(state.usedShare * 30);
  const outcome = answer.kind === 'refused' ? red('refused ') : green('released');
  console.log(
    `ask ${epsilon.toFixed(1)}  ${outcome}  ${'█'.repeat(full)}${dim('░'.repeat(30 - full))}  spent ${state.shown.spent} of ${state.shown.limit}`,
  );
}

title('5  A hostile model, and a runaway guest');
const bytes = readFileSync(MODEL);
const hostile: [string, Uint8Array][] = [
  ['cut in half', bytes.subarray(0, bytes.length / 2)],
  ['claims a field of 2 GiB', Uint8Array.from([0x3a, 0xff, 0xff, 0xff, 0xff, 0x07])],
  ['graphs nested 1,000 deep', nestedGraphs(1000)],
];
for (const [what, file] of hostile)
  console.log(`${what.padEnd(24)} ${await refusal(() => cloister.load(file, { actor: 'demo' }))}`);
{
  await using sandbox = await openSandbox({ limits: { wallMs: 400, memoryMb: 128 } });
  const runaways: [string, string][] = [
    ['for (;;);', 'for (;;);'],
    ['a 50-million-bit BigInt', '(2n ** 50_000_000n).toString().length'],
    ['memory without end', 'const hoard = []; for (;;) hoard.push(new Array(1e5).fill(1.5));'],
    ['reaching for the host', "this.constructor.constructor('return process')().exit()"],
  ];
  for (const [what, source] of runaways) {
    const { outcome, value, wallMs } = await sandbox.evaluate(source);
    const how = outcome === 'error' ? JSON.stringify(value) : `after ${milliseconds(wallMs)}`;
    console.log(
      `${what.padEnd(24)} ${outcome === 'ok' ? red('RAN    ') : green('stopped')} ${outcome} ${dim(shorten(how, 34 + outcome.length))}`,
    );
  }
}
const alive = await model.run({ image: digits[3]!.image }, { actor: 'ward-3', purpose: 'still alive?' });
console.log(dim(`\nThe service goes on: entry ${alive.receipt.index} recorded.`));

title('6  The record, verified; then one byte flipped in a copy');
await cloister.close();
const verdict = await verifyAudit(dir, { key: cloister.auditKey });
if (!verdict.ok) throw new Error(`an honest log must verify: ${verdict.message}`);
console.log(`${green('✓')} ${verdict.size} records, root ${verdict.root}`);
const actions = new Map<string, number>();
let charge: number | undefined;
for await (const record of readAudit(dir)) {
  actions.set(record.action, (actions.get(record.action) ?? 0) + 1);
  if (record.action === 'charge') charge ??= record.seq;
}
console.log(dim(`  ${[...actions].map(([action, count]) => (count > 1 ? `${action} ×${count}` : action)).join(', ')}`));
const copy = join(dir, 'copy');
cpSync(join(dir, 'audit'), join(copy, 'audit'), { recursive: true });
flipByteInRecord(join(copy, 'audit', 'tile', 'entries'), '"action":"charge"');
const damaged = await verifyAudit(copy, { key: cloister.auditKey });
if (damaged.ok) throw new Error('a changed log must not verify');
console.log(
  `${red('✗')} record ${damaged.index}: ${damaged.kind} ${dim(`(the byte was flipped in record ${charge})`)}`,
);

title('7  Where the time goes');
const stages = ['decode', 'plan', 'reserve', 'compute', 'release', 'record'] as const;
console.log(dim(`${''.padEnd(12)}${stages.map(stage => stage.padStart(11)).join('')}`));
for (const [what, timings] of [
  ['one run', last],
  ['the release', released.timings],
] as const) {
  console.log(`${what.padEnd(12)}${stages.map(stage => milliseconds(timings?.[stage] ?? 0).padStart(11)).join('')}`);
}
console.log(dim(`\nAll of it: ${((performance.now() - started) / 1000).toFixed(1)} s.`));

function argmax(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}

/** What happens to a request that has to be refused. */
async function refusal(attempt: () => Promise<unknown>): Promise<string> {
  try {
    await attempt();
  } catch (error) {
    if (error instanceof CloisterError) return `${green('refused')} ${error.code}\n  ${dim(shorten(error.message, 2))}`;
    throw error;
  }
  return red('ACCEPTED');
}

/** A well-formed ONNX file whose one node holds a graph, whose one node holds a graph, and so on. */
function nestedGraphs(depth: number): Uint8Array {
  let graph = Buffer.alloc(0);
  for (let i = 0; i < depth; i++) {
    const body = Buffer.concat([field(1, Buffer.from('body')), Buffer.of(0xa0, 0x01, 5), field(6, graph)]); // type: GRAPH
    graph = field(1, Buffer.concat([field(4, Buffer.from('Relu')), field(5, body)]));
  }
  return Buffer.concat([Buffer.of(0x08, 8), field(7, graph), field(8, Buffer.of(0x10, 21))]); // IR version 8, opset 21
}

/** A length-delimited protobuf field. */
function field(number: number, content: Uint8Array): Buffer<ArrayBuffer> {
  const length: number[] = [];
  let rest = content.length;
  for (; rest > 0x7f; rest >>>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.of((number << 3) | 2, ...length, rest), content]);
}

/** Flips one bit inside the first record that holds `marker`, in the bundles of records below `folder`. */
function flipByteInRecord(folder: string, marker: string): void {
  const bundles = globSync('**/*', { cwd: folder, withFileTypes: true }).filter(entry => entry.isFile());
  const file = bundles
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
    .find(bundle => readFileSync(bundle).includes(marker));
  if (file === undefined) throw new Error(`no record holds ${marker}`);
  const place = readFileSync(file).indexOf(marker) + marker.length - 3;
  const handle = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(handle, byte, 0, 1, place);
  byte[0]! ^= 1;
  writeSync(handle, byte, 0, 1, place);
}
