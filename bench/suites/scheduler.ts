/**
 * What the scheduler of requests costs: calls through it beside calls of an executable that does nothing, alone, with a deadline and
 * a signal, and in bursts of many tenants; and what batches save on the digit model.
 * @module
 */
import { readFileSync } from 'node:fs';
import { drawDigit } from '../../examples/digits/draw.ts';
import { type NamedTensors, openScheduler, referenceBackend, type ServedExecutable } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { compare } from '../measure.ts';
import { latencyRow, type Report, rateRow } from '../rows.ts';

/** The most that a request may cost, in microseconds. */
const TARGET = 10;
// Short enough to end within one slice of a machine that others use as well.
const BURST = 200;
const TENANTS = 50;
const REQUESTS = 32;

/** The suite `scheduler`. */
export async function benchScheduler(report: Report): Promise<void> {
  await timeOverhead(report);
  await timeBatches(report);
}

async function timeOverhead(report: Report): Promise<void> {
  const outputs = { y: Tensor.zeros('f32', [1, 8]) };
  const idle = { run: (): Promise<NamedTensors> => Promise.resolve(outputs) };
  const inputs = { x: Tensor.zeros('f32', [1, 8]) };
  await using scheduler = openScheduler({ capacity: { standard: 2 * BURST } });
  const model = scheduler.serve(idle);
  const { signal } = new AbortController();
  const head = { suite: 'scheduler', threads: 1 } as const;
  const bare = { run: () => idle.run(), async: true };
  const holdTo = { atMost: TARGET };

  const alone = await compare({ run: () => model.run(inputs), async: true }, bare);
  report.row(latencyRow({ ...head, case: 'a request', peerName: 'an empty promise', holdTo }, alone));
  const options = { timeoutMs: 60_000, signal };
  const limited = await compare({ run: () => model.run(inputs, options), async: true }, bare);
  const limitedCase = 'a request with deadline and signal';
  report.row(latencyRow({ ...head, case: limitedCase, peerName: 'an empty promise', holdTo }, limited));

  for (const tenants of [1, TENANTS]) {
    const names = Array.from({ length: BURST }, (_, i) => ({ tenant: `tenant-${i % tenants}` }));
    const burst = async (): Promise<void> => {
      await Promise.all(names.map(tenant => model.run(inputs, tenant)));
    };
    const name = `each of ${BURST} at once, ${tenants} tenant${tenants > 1 ? 's' : ''}`;
    const { ours } = await compare({ run: burst, async: true }, undefined, { rounds: 9 });
    const each = { median: ours.median / BURST, spread: ours.spread / BURST, best: ours.best / BURST };
    report.row(latencyRow({ ...head, case: name, peerName: '', holdTo }, { ours: each }));
  }
}

async function timeBatches(report: Report): Promise<void> {
  const source = bytesSource(readFileSync(new URL('../../examples/digits/digits.onnx', import.meta.url)));
  const executable = referenceBackend.prepare(parseOnnx(source), { constants: source });
  const inputs = Array.from({ length: REQUESTS }, (_, i) => ({
    image: Tensor.from('f32', [1, 1, 28, 28], Float32Array.from(drawDigit(i % 10, { seed: i }))),
  }));
  await using scheduler = openScheduler();
  const joined = scheduler.serve(executable, { batch: { maxBatch: 16 } });
  const single = scheduler.serve(executable);
  const ask = (model: ServedExecutable): Promise<readonly NamedTensors[]> =>
    Promise.all(inputs.map(input => model.run(input)));
  const [together, apart] = [await ask(joined), await ask(single)];
  const same = together.every((answer, i) => `${answer['logits']!.toArray()}` === `${apart[i]!['logits']!.toArray()}`);
  report.check({ name: 'digits in batches', ok: same, detail: `the same logits as one by one: ${same}` });
  report.row(
    rateRow(
      {
        ...{ suite: 'scheduler', case: `digits, ${REQUESTS} at once, batches of 16`, unit: 'requests/s', threads: 1 },
        ...{ peerName: 'without batches', workPerCall: REQUESTS, note: 'reference backend' },
      },
      await compare({ run: () => ask(joined), async: true }, { run: () => ask(single), async: true }),
    ),
  );
}
