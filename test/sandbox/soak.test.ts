/**
 * Workers under load: killed all the time, and many of them at once. Short here; at full length with CLOISTER_SLOW=1.
 */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { SandboxedModel } from '../../sandbox/index.ts';
import type { CloisterError } from '../../src/base/index.ts';
import { affineModel } from './tiny-model.ts';

// The built package where there is one: workers that have to strip types first take several times as long to start.
const built = existsSync(fileURLToPath(new URL('../../dist/sandbox/index.js', import.meta.url)));
const path = (room: string): string =>
  new URL(built ? `../../dist/${room}/index.js` : `../../${room}/index.ts`, import.meta.url).href;
const { openSandbox } = (await import(path('sandbox'))) as typeof import('../../sandbox/index.ts');
const { Tensor } = (await import(path('src/tensor'))) as typeof import('../../src/tensor/index.ts');

const slow = process.env['CLOISTER_SLOW'] !== undefined;
const STORM_MS = slow ? 60_000 : 4_000;
/** On a machine that is busy with other things, a worker takes longer than 200 ms to be replaced. */
const KILL_EVERY_MS = slow ? 200 : 800;
const MODELS = 4;
const CLIENTS = 3;
const ISOLATES = slow ? 100 : 12;
const WORKERS = 4;

/** The children of this process, by number. */
function children(): readonly number[] {
  const text = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

interface Load {
  readonly latencies: readonly number[];
  /** Requests that were let in; others were refused, and asked again later. */
  readonly asked: number;
  readonly answered: number;
  readonly refused: number;
  readonly failures: ReadonlyMap<string, number>;
}

/** Clients that each ask the next thing when the last was answered, no two of them ever the same. */
async function load(models: readonly SandboxedModel[], ms: number): Promise<Load> {
  const until = performance.now() + ms;
  const latencies: number[] = [];
  const failures = new Map<string, number>();
  let asked = 0;
  let next = 0;
  let answered = 0;
  let refused = 0;
  const client = async (model: SandboxedModel): Promise<void> => {
    while (performance.now() < until) {
      asked++;
      const mine = ++next;
      const start = performance.now();
      try {
        const { y } = await model.run({ x: Tensor.of('f32', [[mine, 1, 1]]) });
        // The answer to this request and to no other.
        expect(y!.toArray()).toEqual([[Math.fround(mine + 8.5), Math.max(0, 2 * mine - 90)]]);
        answered++;
        latencies.push(performance.now() - start);
      } catch (error) {
        const { code = String(error), detail } = error as Partial<CloisterError>;
        if (code === 'GUEST_REFUSED') {
          asked--;
          refused++;
          await new Promise(resolve => setTimeout(resolve, Number(detail?.['retryAfterMs'])));
          continue;
        }
        failures.set(code, (failures.get(code) ?? 0) + 1);
      }
    }
  };
  await Promise.all(models.flatMap(model => Array.from({ length: CLIENTS }, () => client(model))));
  return { latencies: latencies.sort((a, b) => a - b), asked, answered, refused, failures };
}

const percentile = (sorted: readonly number[], p: number): number => sorted[Math.floor((sorted.length - 1) * p)]!;

describe.skipIf(process.platform !== 'linux')('under load', () => {
  it(
    'with random workers killed, every request is answered once, and most do not notice',
    async () => {
      await using sandbox = await openSandbox({ warm: 2 });
      const models = await Promise.all(Array.from({ length: MODELS }, () => sandbox.load(affineModel())));
      await sandbox.settled();
      await load(models, 500);
      const base = await load(models, slow ? 10_000 : 1_000);
      let kills = 0;
      const storm = setInterval(() => {
        const all = children();
        const pid = all[Math.floor(Math.random() * all.length)];
        if (pid === undefined) return;
        process.kill(pid, 'SIGKILL');
        kills++;
      }, KILL_EVERY_MS);
      setTimeout(() => clearInterval(storm), STORM_MS); // while some may still wait for their model
      const stormy = await load(models, STORM_MS);
      const restarts = models.reduce((sum, model) => sum + model.health().restarts, 0);
      const p99 = [base, stormy].map(({ latencies }) => percentile(latencies, 0.99));
      console.log(
        `${kills} kills, ${restarts} restarts; ${stormy.answered} of ${stormy.asked} answered, ` +
          `${stormy.refused} refused, failed: ${[...stormy.failures].join(' ') || 'none'}; ` +
          `p99 ${p99.map(ms => ms.toFixed(2)).join(' -> ')} ms, p50 ${percentile(base.latencies, 0.5).toFixed(2)} -> ` +
          `${percentile(stormy.latencies, 0.5).toFixed(2)} ms, longest ${stormy.latencies.at(-1)!.toFixed(0)} ms`,
      );
      expect(kills).toBeGreaterThan(STORM_MS / KILL_EVERY_MS / 2);
      expect(restarts).toBeGreaterThan(0);
      // Answered once, or told: nothing is lost. Told only where two workers were killed under one request.
      const told = stormy.failures.get('WORKER_CRASHED') ?? 0;
      expect(stormy.answered + told).toBe(stormy.asked);
      expect(told).toBeLessThanOrEqual(kills / 10);
      if (slow) expect(p99[1]! / p99[0]!).toBeLessThan(3);
    },
    STORM_MS + 60_000,
  );

  it(
    'a hundred isolates that wait hold less than 700 MB',
    async () => {
      await using sandbox = await openSandbox({ isolation: 'isolate' });
      await using first = await sandbox.load(affineModel());
      const before = process.memoryUsage().rss;
      const models: SandboxedModel[] = [];
      for (let i = 0; i < ISOLATES; i++) models.push(await sandbox.load(affineModel()));
      const held = process.memoryUsage().rss - before;
      console.log(`${ISOLATES} isolates: ${mib(held)} MiB`);
      expect(first.summary.nodes).toBe(3);
      expect(held / ISOLATES).toBeLessThan(7_000_000);
    },
    60_000 + ISOLATES * 3_000,
  );

  it(
    'workers that wait share what they can, and hold less than 96 MiB each',
    async () => {
      await using sandbox = await openSandbox({ warm: 0 });
      const models: SandboxedModel[] = [];
      for (let i = 0; i < WORKERS; i++) models.push(await sandbox.load(affineModel()));
      const held = children().map(memoryOf);
      console.log(`${WORKERS} workers: ${mib(held.reduce((sum, bytes) => sum + bytes, 0))} MiB of their own`);
      expect(held).toHaveLength(WORKERS);
      for (const bytes of held) expect(bytes).toBeLessThan(96 * 1_048_576);
    },
    60_000 + WORKERS * 3_000,
  );
});

/** Bytes that only this process holds. */
function memoryOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
  const kib = (name: string): number => Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm'))![1]) * 1_024;
  return kib('Private_Clean') + kib('Private_Dirty');
}

function mib(bytes: number): string {
  return (bytes / 1_048_576).toFixed(0);
}
