/**
 * Our side of the engine benches: a model made ready on a backend, in the clear.
 * @module
 */
import { loadBinding, openProgramHost } from '../native/index.ts';
import { type Backend, type Executable, nativeBackend, referenceBackend } from '../src/engine/index.ts';
import { bytesSource, parseOnnx, writeOnnx } from '../src/formats/index.ts';
import type { Graph } from '../src/graph/index.ts';

/** A prepared graph that `using` closes. */
export type Ready = Executable & Disposable;

/** The graph of a model file. */
export function parseModel(bytes: Uint8Array): Graph {
  return parseOnnx(bytesSource(bytes));
}

/** The bytes of an ONNX file of `graph`, whose constants are all inline. */
export function toOnnx(graph: Graph): Uint8Array {
  return writeOnnx(graph);
}

/** `graph` on the native backend, or on the reference backend where there is no binary. `bytes`: the file it came from. */
export function openNative(graph: Graph, bytes?: Uint8Array): Ready {
  const binding = loadBinding();
  return prepare(binding === undefined ? referenceBackend : nativeBackend(openProgramHost(binding)), graph, bytes);
}

/** `graph` on the reference backend. */
export function openReference(graph: Graph, bytes?: Uint8Array): Ready {
  return prepare(referenceBackend, graph, bytes);
}

function prepare(backend: Backend, graph: Graph, bytes: Uint8Array = new Uint8Array(0)): Ready {
  const executable = backend.prepare(graph, { constants: bytesSource(bytes) });
  return {
    get memory() {
      return executable.memory;
    },
    run: (inputs, signal) => executable.run(inputs, signal),
    runSync: inputs => executable.runSync(inputs),
    close: () => executable.close(),
    [Symbol.dispose]: () => executable.close(),
  };
}
