/**
 * Memory and start: what a process needs to load a model and run it, whether that grows, how large the binary is, and how long the
 * facade takes to import. All in fresh processes; memory on Linux only.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { nativeStatus } from '../../native/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import { type ModelNeeds, needsOf } from '../engine-under-test.ts';
import { median } from '../measure.ts';
import type { MemoryOnce } from '../memory-once.ts';
import { models } from '../models/index.ts';
import { INSTALL_PEERS, loadOnnxRuntime } from '../peer.ts';
import { amountRow, type Report, refusedRow } from '../rows.ts';

const MEGABYTE = 1e6;
/** Peak memory may be this many times the weights and the arena. */
const MOST_OF_NEEDS = 1.4;
const LARGE = ['squeezenet', 'mobilenet-v2-like f32', 'ultraface', 'bert-like L6 H384 S128'];
const SMALL = 'mlp 784-128-64-10';
const PEAK_ROUNDS = 5;
const IMPORT_ROUNDS = 15;
/** For growth: by itself the young generation grows with all garbage so far, up to this size, whether anything is kept or not. */
const FIXED_YOUNG_GENERATION = ['--min-semi-space-size=16', '--max-semi-space-size=16'];
/** What resident memory varies by without any cause that we know: pages that are freed and not given back. */
const NOISE_MB = 1;

type Side = 'ours' | 'peer';

/** The suite `memory`. */
export async function benchMemory(report: Report): Promise<void> {
  const ort = loadOnnxRuntime();
  if (ort === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  const peerName = ort?.name ?? 'onnxruntime-node';
  if (process.platform === 'linux') {
    const folder = mkdtempSync(join(tmpdir(), 'cloister-memory-'));
    try {
      benchPeaks(folder, ort && peerName, report);
      benchGrowth(folder, ort && peerName, report);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  } else report.note('peaks and growth are skipped: /proc tells them on Linux only');
  benchBinary(peerName, report);
  benchImportOfFacade(ort && peerName, report);
}

function benchPeaks(folder: string, peerName: string | undefined, report: Report): void {
  const corpus = process.env['CLOISTER_CORPUS'];
  for (const name of LARGE) {
    const model = models(corpus).find(model => model.name === name);
    if (model === undefined) {
      report.note(`${name} is skipped: set CLOISTER_CORPUS`);
      continue;
    }
    const bytes = model.read();
    const { inputs } = model.calls()[0]!;
    const at = writeCase(join(folder, name.replaceAll(' ', '-')), bytes, inputs);
    const { ours, peer } = alternate(peerName, PEAK_ROUNDS, side => once('peak', side, at, 1));
    const needs = needsOf(bytes, inputs);
    const needed = needs.weightBytes + needs.arenaBytes;
    const head = {
      suite: 'memory',
      case: `${name}, load from file and run once`,
      unit: 'MB',
      threads: 1,
      peerName: peerName ?? 'onnxruntime-node',
      holdTo: { atMost: (MOST_OF_NEEDS * needed) / MEGABYTE },
    };
    const [mine, theirs] = [ours, peer].map(list => list.map(({ bytes }) => bytes / MEGABYTE));
    const refused = ours.find(({ refused }) => refused !== undefined)?.refused;
    if (refused === undefined) checkMagnitudes(name, ours, peer, report);
    const note = `${formatNeeds(needs)}; ours reports ${((ours[0]!.reportedBytes ?? 0) / MEGABYTE).toFixed(2)} MB; the most above what was resident before, median of ${PEAK_ROUNDS} processes`;
    const row = amountRow(
      { ...head, note, best: Math.min(...mine!), spread: spreadOf(mine!) },
      median(mine!),
      theirs!.length > 0 ? median(theirs!) : null,
    );
    report.row(refused === undefined ? row : refusedRow(row, refused));
  }
}

function benchGrowth(folder: string, peerName: string | undefined, report: Report): void {
  const model = models(undefined).find(({ name }) => name === SMALL)!;
  const at = writeCase(join(folder, 'small'), model.read(), model.calls()[0]!.inputs);
  const large = models(undefined).find(({ name }) => name === 'mobilenet-v2-like f32')!;
  const atLarge = writeCase(join(folder, 'large'), large.read(), large.calls()[0]!.inputs);
  for (const [measure, name, at_, count, atMost] of [
    ['cycles', `${SMALL}, growth over 1,000 loads`, at, 1_000, 2],
    ['cycles', 'mobilenet-v2-like f32, growth over 50 loads', atLarge, 50, undefined],
    ['runs', `${SMALL}, growth over 1,000,000 runs`, at, 1_000_000, NOISE_MB],
  ] as const) {
    const { ours, peer } = alternate(peerName, 1, side => once(measure, side, at_, count));
    checkMagnitudes(name, ours, peer, report);
    const late = ((ours[0]!.lateBytes ?? 0) / MEGABYTE).toFixed(2);
    const note =
      measure === 'cycles'
        ? `from the tenth load, run and close to the last, garbage collected; ${late} MB of it in the second half`
        : 'from the first tenth of the runs to the last, garbage collected';
    const [mine, theirs] = [ours[0]!.bytes / MEGABYTE, peer[0] && peer[0].bytes / MEGABYTE];
    const row = amountRow(
      {
        suite: 'memory',
        case: name,
        unit: 'MB',
        threads: 1,
        peerName: peerName ?? 'onnxruntime-node',
        ...(atMost !== undefined && { holdTo: { atMost } }),
        note,
      },
      mine,
      theirs ?? null,
    );
    // A quotient of two growths that may be zero or below says nothing.
    report.row({ ...row, ratio: null });
  }
}

function benchBinary(peerName: string, report: Report): void {
  const status = nativeStatus();
  const head = { suite: 'memory', case: 'size of the native binary', unit: 'MB', threads: 1, peerName };
  const ours = status.kind === 'loaded' ? statSync(status.path).size / MEGABYTE : null;
  const row = amountRow({ ...head, holdTo: { atMost: 4 } }, ours, peerBinaryBytes());
  report.row(status.kind === 'loaded' ? row : refusedRow(row, status.reason));
}

/** The shared objects of onnxruntime-node for this platform, in megabytes. */
function peerBinaryBytes(): number | null {
  const require = createRequire(new URL('../peers/package.json', import.meta.url));
  let root: string;
  try {
    root = dirname(require.resolve('onnxruntime-node/package.json'));
  } catch {
    return null;
  }
  const folders = readdirSync(join(root, 'bin')).map(api => join(root, 'bin', api, process.platform, process.arch));
  const files = folders
    .filter(folder => existsSync(folder))
    .flatMap(folder => readdirSync(folder).map(name => join(folder, name)));
  const bytes = files.filter(file => /\.(node|so[.\d]*|dylib|dll)$/.test(file)).map(file => statSync(file).size);
  return bytes.length === 0 ? null : bytes.reduce((sum, size) => sum + size, 0) / MEGABYTE;
}

function benchImportOfFacade(peerName: string | undefined, report: Report): void {
  const root = join(import.meta.dirname, '..', '..');
  const built = join(root, 'dist', 'src', 'index.js');
  const facade = existsSync(built) ? built : join(root, 'src', 'index.ts');
  const importing = (url: string): number => {
    const code = `const start = performance.now(); await import(${JSON.stringify(url)}); console.log(performance.now() - start)`;
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`importing ${url} failed: ${stderr.slice(0, 2000)}`);
    return Number(stdout);
  };
  /** A process from its start to its end, in milliseconds. */
  const processOf = (code: string): number => {
    const start = performance.now();
    spawnSync(process.execPath, ['--input-type=module', '-e', code]);
    return performance.now() - start;
  };
  const require = createRequire(new URL('../peers/package.json', import.meta.url));
  const urls = {
    ours: pathToFileURL(facade).href,
    peer: peerName === undefined ? '' : pathToFileURL(require.resolve('onnxruntime-node')).href,
  };
  const { ours, peer } = alternate(peerName, IMPORT_ROUNDS, side => importing(urls[side]));
  const bare: number[] = [];
  const whole: number[] = [];
  for (let round = 0; round < IMPORT_ROUNDS; round++) {
    bare.push(processOf(''));
    whole.push(processOf(`await import(${JSON.stringify(urls.ours)})`));
  }
  const head = {
    suite: 'memory',
    case: 'import of the facade',
    unit: 'ms',
    threads: 1,
    peerName: peerName ?? 'onnxruntime-node',
    holdTo: { atMost: 40 },
    best: Math.min(...ours),
    spread: spreadOf(ours),
  };
  const processes = `a process that does nothing else takes ${median(whole).toFixed(0)} ms, without the import ${median(bare).toFixed(0)}`;
  const note = `median of ${IMPORT_ROUNDS} processes; ${processes}${facade === built ? '' : '; of the sources, as nothing is built: npm run build'}`;
  report.row(amountRow({ ...head, note }, median(ours), peer.length > 0 ? median(peer) : null));
}

/** Both sides `rounds` times, in alternating order. */
function alternate<T>(
  peerName: string | undefined,
  rounds: number,
  run: (side: Side) => T,
): { readonly ours: readonly T[]; readonly peer: readonly T[] } {
  const results: Record<Side, T[]> = { ours: [], peer: [] };
  for (let round = 0; round < rounds; round++) {
    const sides: readonly Side[] = round % 2 === 0 ? ['ours', 'peer'] : ['peer', 'ours'];
    for (const side of sides) if (side === 'ours' || peerName !== undefined) results[side].push(run(side));
  }
  return results;
}

function once(measure: 'peak' | 'cycles' | 'runs', side: Side, folder: string, count: number): MemoryOnce {
  const script = join(import.meta.dirname, '..', 'memory-once.ts');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      '--expose-gc',
      ...(measure === 'peak' ? [] : FIXED_YOUNG_GENERATION),
      script,
      measure,
      side,
      folder,
      String(count),
    ],
    { encoding: 'utf8', timeout: 300_000 },
  );
  if (status !== 0) throw new Error(`${measure} of ${side} failed: ${stderr.slice(0, 2000)}`);
  return JSON.parse(stdout) as MemoryOnce;
}

/** Puts a model and its inputs where a process of `memory-once.ts` finds them. */
function writeCase(folder: string, model: Uint8Array, inputs: NamedTensors): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'model.onnx'), model);
  const list = Object.entries(inputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  writeFileSync(join(folder, 'inputs.json'), JSON.stringify(list));
  for (const [name, tensor] of Object.entries(inputs)) writeFileSync(join(folder, `${name}.bin`), tensor.toBytes());
  return folder;
}

function checkMagnitudes(name: string, ours: readonly MemoryOnce[], peer: readonly MemoryOnce[], report: Report): void {
  if (peer.length === 0) return;
  const [mine, theirs] = [ours[0]!.magnitude, peer[0]!.magnitude];
  const ok = Math.abs(mine - theirs) <= 1e-3 * theirs;
  report.check({
    name,
    ok,
    detail: `the outputs sum up to ${mine.toPrecision(6)}, the rival's to ${theirs.toPrecision(6)}`,
  });
}

function formatNeeds({ weightBytes, arenaBytes }: ModelNeeds): string {
  return `weights ${(weightBytes / MEGABYTE).toFixed(2)} MB, arena ${(arenaBytes / MEGABYTE).toFixed(2)} MB`;
}

function spreadOf(values: readonly number[]): number {
  const middle = median(values);
  return median(values.map(value => Math.abs(value - middle)));
}
