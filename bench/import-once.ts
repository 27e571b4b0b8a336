/**
 * One import in a fresh process, timed from the bytes in memory to something that can run: `node import-once.ts ours|peer MODEL`.
 * Prints milliseconds. Loading the library itself is not counted, on either side.
 * @module
 */
import { readFileSync } from 'node:fs';
import { planArena, referenceBackend } from '../src/engine/index.ts';
import { bytesSource, parseOnnx } from '../src/formats/index.ts';
import { inferFacts, optimise } from '../src/graph/index.ts';
import { loadOnnxRuntime } from './peer.ts';

const [side, path, dims] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(path!));

if (side === 'ours') {
  const start = performance.now();
  const source = bytesSource(bytes);
  const { graph } = optimise(parseOnnx(source), { constants: source, supports: referenceBackend.supports });
  // The whole plan: sizes bound, offsets of all activations known.
  const { peakBytes } = planArena(inferFacts(graph, { dims: JSON.parse(dims ?? '{}') as Record<string, number> }));
  const ms = performance.now() - start;
  console.log(JSON.stringify({ ms, nodes: graph.nodes.length, peakBytes }));
} else {
  const ort = loadOnnxRuntime()!;
  const start = performance.now();
  const session = await ort.open(bytes);
  const ms = performance.now() - start;
  await session.release();
  console.log(JSON.stringify({ ms }));
}
