/**
 * Import: from the bytes of a model to an optimised plan, in a fresh process each time, as a service that starts meets it. The rival
 * makes a session, with all its graph optimisations.
 * @module
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../measure.ts';
import { INSTALL_PEERS, loadOnnxRuntime } from '../peer.ts';
import type { Report } from '../rows.ts';

const ROUNDS = 7;
const LIMIT_MS = 600;

/** Models with the sizes for which the plan is made. Large graphs of small weights: import is all that they cost. */
const MODELS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  'tf-bert-qa': { batch_size: 2 },
  'mobilenet-v2-int8': {},
};

interface Once {
  readonly ms: number;
  readonly nodes?: number;
  readonly peakBytes?: number;
}

/** The suite `import`. */
export async function benchImport(report: Report): Promise<void> {
  const corpus = process.env['CLOISTER_CORPUS'];
  const ort = loadOnnxRuntime();
  if (ort === undefined) report.note(`no rival: ${INSTALL_PEERS}`);
  for (const [name, dims] of Object.entries(MODELS)) {
    const path = corpus && join(corpus, 'models', name, 'model.onnx');
    if (!path || !existsSync(path)) {
      report.note(`${name} is skipped: set CLOISTER_CORPUS`);
      continue;
    }
    const ours: Once[] = [];
    const peer: Once[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const sides = round % 2 === 0 ? (['ours', 'peer'] as const) : (['peer', 'ours'] as const);
      for (const side of sides) {
        if (side === 'ours') ours.push(once(side, path, dims));
        else if (ort) peer.push(once(side, path, dims));
      }
    }
    const mine = ours.map(({ ms }) => ms);
    const theirs = peer.map(({ ms }) => ms);
    const best = Math.min(...mine);
    const { nodes, peakBytes } = ours[0]!;
    report.row({
      suite: 'import',
      case: `${name}, bytes to plan`,
      unit: 'ms',
      ours: median(mine),
      peer: theirs.length > 0 ? median(theirs) : null,
      peerName: ort?.name ?? 'onnxruntime-node',
      ratio: theirs.length > 0 ? median(mine.map((ms, i) => theirs[i]! / ms)) : null,
      threads: 1,
      spread: median(mine.map(ms => Math.abs(ms - median(mine)))),
      best,
      bestRatio: theirs.length > 0 ? Math.min(...theirs) / best : null,
      note: `${nodes} nodes after optimisation, arena ${peakBytes} bytes; fresh processes, ${ROUNDS} rounds`,
    });
    if (name === 'tf-bert-qa') {
      const detail = `at most ${LIMIT_MS} ms, best of ${ROUNDS} came to ${best.toFixed(0)} ms, median ${median(mine).toFixed(0)} ms`;
      report.check({ name: `${name}, import`, ok: best <= LIMIT_MS, detail });
    }
  }
}

function once(side: 'ours' | 'peer', path: string, dims: Readonly<Record<string, number>>): Once {
  const script = join(import.meta.dirname, '..', 'import-once.ts');
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, side, path, JSON.stringify(dims)], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  if (status !== 0) throw new Error(`${side} failed on ${path}: ${stderr.slice(0, 2000)}`);
  return JSON.parse(stdout) as Once;
}
