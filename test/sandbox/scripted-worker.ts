/**
 * A worker that behaves as the first element of its inputs says, and at load as the file says whose path it is given: 'crash', or
 * nothing. It says its models are all `y (n,2)` of `x (n,3)`, and answers `[[number of the first byte of the model, its pid]]`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { BlockingChannel } from '../../sandbox/worker/channel.ts';

/** First elements of inputs. */
export const CRASH = -1;
export const HANG = -2;
export const LIE = -3;

if (process.argv[2] !== undefined) serve(process.argv[2]);

function serve(orders: string): never {
  const channel = new BlockingChannel(3);
  let model = 0;
  channel.write(0, {});
  while (true) {
    const { id, header, payload } = channel.read() ?? process.exit();
    if (header['op'] === 'load') {
      if (existsSync(orders) && readFileSync(orders, 'utf8') === 'crash') process.kill(process.pid, 'SIGSEGV');
      model = payload[0]!;
      channel.write(id, { report: report(header['bytes'] as number) });
      continue;
    }
    const [order] = new Float32Array(payload.buffer, 0, 1);
    if (order === CRASH) process.kill(process.pid, 'SIGSEGV');
    while (order === HANG);
    const tensors = order === LIE ? 7 : [{ name: 'y', dtype: 'f32', shape: [1, 2] }];
    channel.write(id, { tensors }, [new Uint8Array(Float32Array.of(model, process.pid).buffer)]);
  }
}

function report(bytes: number): object {
  const value = { name: 'x', dtype: 'f32', shape: ['n', 3] };
  const io = { inputs: [value], outputs: [{ ...value, name: 'y', shape: ['n', 2] }] };
  return {
    summary: { name: '', bytes, ...io, operators: [], nodes: 1, outline: [], parameters: 0, parameterBytes: 0 },
    backend: 'native',
    why: 'so it says',
    memory: { permanentBytes: 0, temporaryBytes: 0, scratchBytes: 0, portBytes: 0, blockBytes: 0 },
  };
}
