/**
 * The guest: the engine inside an isolate. Speaks strings and buffers, and has nothing but what {@link connect} is lent.
 *
 * | request | header | payload | answer |
 * |---|---|---|---|
 * | `load` | bytes, files, dims | | `summary` of the model, or `external`: files that it needs besides |
 * | `plan` | kernels, dims | | `inputs`, `outputs`; the program |
 * | `prepare` | limitBytes | | `memory`: from now on `run` interprets |
 * | `run` | tensors | their elements | `tensors` and their elements |
 * | `profile` | tensors, runs, warm, limitBytes | their elements | the profile, JSON in UTF-8 |
 * | `passes` | | | `passes`: what each pass did; `arena`, where sizes are known |
 * | `show` | form, limitBytes | | the model as text or as a picture, UTF-8 |
 * | `plugin` | id, kind, parts | its files, the entry first | `definition`: what it defines |
 * | `call` | method, tensors and anyName, or summary and backends | their elements | what the plugin makes of it |
 * | `facts` | domain, operator, opset, attributes, inputs | | `facts` of the outputs by the shape rule, or why it `refused` |
 * | `kernel` | domain, operator, opset, attributes, tensors | their elements | `tensors` by the kernel, or why the shape rule `refused` |
 * | `settle` | | | nothing, when nothing goes on any more |
 *
 * An answer is one buffer: `u32 headerBytes (little-endian) | header, JSON in UTF-8, spaces up to a multiple of 64 | payload`.
 * Whatever goes wrong is a header with `error`.
 * @module
 */
import { CloisterError, encodeUtf8 } from '../../src/base/index.ts';
import {
  type Executable,
  type KernelInfo,
  type ProfiledNode,
  planProgram,
  profileRun,
  referenceBackendOf,
} from '../../src/engine/index.ts';
import { listExternalData, type ModelSource, parseOnnx } from '../../src/formats/index.ts';
import {
  type Attribute,
  checkNode,
  type Facts,
  findVersion,
  type Graph,
  GraphBuilder,
  OPERATORS,
  type OperatorTable,
  operatorKey,
  optimise,
  RunContext,
  refuseUnknown,
  runNode,
  tableOf,
} from '../../src/graph/index.ts';
import { encodeShown } from '../drawing.ts';
import { isShownForm } from '../shown.ts';
import { arenaOf, summarise } from '../summary.ts';
import { joinParts, packTensors, unpackTensors } from '../tensors.ts';
import { isSafeName } from '../untrusted.ts';
import { type Defined, evaluateEntry, keepGlobals, readEntry } from './define.ts';
import { lentSource, type Read } from './source.ts';

/** An operator of a plugin, asked alone. */
interface Asked {
  readonly domain: string;
  readonly operator: string;
  readonly opset: number;
  readonly attributes: Readonly<Record<string, Attribute>>;
}

interface Answer {
  readonly header: object;
  readonly payload?: Uint8Array;
}

/** Where a file beside the model lies in what is lent. */
interface Place {
  readonly location: string;
  readonly offset: number;
  readonly size: number;
}

/** What the host calls. */
export type Dispatch = (op: string, header: string, payload: ArrayBuffer | undefined) => ArrayBuffer;

/**
 * Returns the guest's one entry. `read` reaches the model file with the files beside it, and `now` a clock that stands still but
 * while something is measured; nothing else outside is reached.
 */
export function connect(read: Read, now: () => number): Dispatch {
  let constants: ModelSource | undefined;
  let graph: Graph | undefined;
  let executable: Executable | undefined;
  let operators: OperatorTable = OPERATORS;
  let plugin: Defined | undefined;

  const ops: Record<string, (header: Record<string, unknown>, payload: Uint8Array) => Answer> = {
    load(header) {
      const { bytes, total, files, dims } = header as {
        bytes: number;
        total: number;
        files: readonly Place[];
        dims: Record<string, number>;
      };
      const lent = lentSource(total, read);
      const model: ModelSource = { size: bytes, read: lent.read };
      const places = new Map(files.map(file => [file.location, file]));
      let missing = false;
      const locate = (location: string): Place | undefined => {
        const place = places.get(location);
        missing ||= place === undefined;
        return place;
      };
      try {
        graph = parseOnnx(model, { external: { locate }, dims, operators });
      } catch (error) {
        if (!missing) throw error;
        return { header: { external: listExternalData(model).filter(location => !places.has(location)) } };
      }
      constants = lent;
      return { header: { summary: summarise(graph, bytes) } };
    },
    plan({ kernels, dims }) {
      const { graph: known, constants: lent } = loaded();
      if (operators !== OPERATORS) refusePlugged(known);
      const planned = planProgram(known, {
        kernel: kernels as KernelInfo,
        constants: lent,
        modelBytes: lent.size,
        dims: dims as Record<string, number>,
      });
      return { header: { inputs: planned.inputs, outputs: planned.outputs }, payload: planned.program };
    },
    prepare({ limitBytes }) {
      const { permanentBytes, temporaryBytes, scratchBytes, portBytes, blockBytes } = prepared(
        limitBytes as number,
      ).memory;
      return { header: { memory: { permanentBytes, temporaryBytes, scratchBytes, portBytes, blockBytes } } };
    },
    run({ tensors }, payload) {
      if (executable === undefined) throw new CloisterError('INVALID_ARGUMENT', 'run comes after prepare');
      const packed = packTensors(executable.runSync(unpackTensors(tensors, payload)));
      return { header: { tensors: packed.heads }, payload: joinParts(packed) };
    },
    profile({ tensors, runs, warm, limitBytes }, payload) {
      const inputs = unpackTensors(tensors, payload);
      const options = { now, runs: runs as number, warm: warm === true };
      const measured = profileRun(prepared(limitBytes as number), inputs, options);
      const profile = { ...measured, nodes: measured.nodes.map(presentable) };
      return { header: {}, payload: encodeUtf8(JSON.stringify(profile)) };
    },
    passes() {
      const { graph: known, constants: lent } = loaded();
      const { graph: small, report } = optimise(known, { constants: lent, now, operators });
      // A pass may take away more, in all its turns, than there was when its first one came.
      const passes = report.map(row => ({ ...row, nodesAfter: Math.max(0, row.nodesAfter) }));
      return { header: { passes, arena: arenaOf(small) } };
    },
    show({ form, limitBytes }) {
      if (!isShownForm(form)) throw new CloisterError('INVALID_ARGUMENT', 'a guest has no such form');
      return { header: {}, payload: encodeShown(loaded().graph, form, limitBytes as number) };
    },
    plugin(header, payload) {
      keepGlobals();
      const entry = readEntry(header, payload);
      plugin = evaluateEntry(entry);
      for (const { domain, name } of plugin.operators) {
        if (!operators.has(operatorKey(domain, name))) continue;
        const message = `the plugin ${entry.id}: another plugin of this model defines ${domain}::${name}`;
        throw new CloisterError('GUEST_FAILED', message, { plugin: entry.id });
      }
      operators = tableOf([...operators.values(), ...plugin.operators]);
      return { header: { definition: plugin.definition } };
    },
    call({ method, tensors, anyName, summary, backends }, payload) {
      if (plugin === undefined) throw new CloisterError('INVALID_ARGUMENT', 'no plugin is here');
      if (method === 'choose') return { header: { choice: plugin.choose(summary, backends as readonly string[]) } };
      const given = { tensors: unpackTensors(tensors, payload), anyName: anyName === true };
      if (method === 'contribute') {
        const { buffer } = plugin.contribute(given);
        return { header: {}, payload: new Uint8Array(buffer) };
      }
      const packed = packTensors(plugin.map(String(method), given));
      return { header: { tensors: packed.heads }, payload: joinParts(packed) };
    },
    facts({ inputs, ...asked }) {
      const builder = new GraphBuilder('probe', { operators });
      const ids = (inputs as Facts[]).map((facts, i) => builder.input(`x${i}`, facts));
      const { domain, operator, opset, attributes } = asked as unknown as Asked;
      return refusable(() => {
        const outputs = builder.node({ domain, op: operator, opset, attributes, inputs: ids, outputs: ['y'] });
        return { header: { facts: outputs.map(id => builder.facts(id!)) } };
      });
    },
    kernel({ tensors, ...asked }, payload) {
      const given = Object.values(unpackTensors(tensors, payload));
      const { domain, operator, opset, attributes } = asked as unknown as Asked;
      const inputs = given.map((_, i) => i);
      const node = { name: 'probe', domain, op: operator, opset, attributes, inputs, outputs: [given.length] };
      const version = findVersion(operators, node);
      if (version === undefined) throw new CloisterError('INVALID_ARGUMENT', 'no plugin here has such an operator');
      const refusal = refusable(() => {
        checkNode(node, version);
        RunContext.prepare(node, version, given);
        return { header: {} };
      });
      if ('refused' in refusal.header) return refusal;
      const results = runNode(node, given, { operators });
      const packed = packTensors(Object.fromEntries(results.map((tensor, i) => [`y${i}`, tensor])));
      return { header: { tensors: packed.heads }, payload: joinParts(packed) };
    },
    settle: () => ({ header: {} }),
  };

  function loaded(): { graph: Graph; constants: ModelSource } {
    if (graph === undefined || constants === undefined)
      throw new CloisterError('INVALID_ARGUMENT', 'no model is loaded');
    return { graph, constants };
  }

  function prepared(limitBytes: number): Executable {
    if (executable !== undefined) return executable;
    const { graph: known, constants: lent } = loaded();
    const { graph: small } = optimise(known, { constants: lent, operators });
    executable = referenceBackendOf(operators).prepare(small, { constants: lent, limitBytes });
    return executable;
  }

  return (op, header, payload) => {
    try {
      const handle = ops[op];
      if (handle === undefined) throw new CloisterError('INVALID_ARGUMENT', `a guest has no ${op}`);
      const answer = handle(
        JSON.parse(header) as Record<string, unknown>,
        new Uint8Array(payload ?? new ArrayBuffer(0)),
      );
      return encode(answer.header, answer.payload);
    } catch (error) {
      return encode({ error: describe(error) });
    }
  };
}

/** What `body` answers; or why the shape rule refused the inputs, which is an answer, too. */
function refusable(body: () => Answer): Answer {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof CloisterError) || error.code === 'GUEST_FAILED') throw error;
    return { header: { refused: error.message } };
  }
}

/** A native program holds kernels of ours alone: a graph with a node of a plugin is interpreted as a whole. */
function refusePlugged({ nodes }: Graph): void {
  try {
    refuseUnknown(nodes, OPERATORS);
  } catch (cause) {
    const message = `operators of plugins run in the guest, on the reference backend: ${(cause as Error).message}`;
    throw new CloisterError('UNSUPPORTED_MODEL', message.slice(0, 900), {}, { cause });
  }
}

/** Names that are not printable are left to the summary to refuse, which looks at the first nodes only. */
function presentable(node: ProfiledNode, index: number): ProfiledNode {
  const name = isSafeName(node.name) ? node.name : `${node.op}#${index}`;
  return { ...node, name, outputs: node.outputs.slice(0, 1_000) };
}

function describe(error: unknown): object {
  if (error instanceof CloisterError) return error.toJSON();
  // A stack overflow or an allocation that fails while a file is read comes from the file.
  const message = error instanceof Error ? `${error.name}: ${error.message}`.slice(0, 2_000) : 'no error was thrown';
  return { code: 'GUEST_FAILED', message };
}

function encode(header: object, payload: Uint8Array = new Uint8Array(0)): ArrayBuffer {
  const text = encodeUtf8(JSON.stringify(header));
  const headerBytes = Math.ceil((4 + text.length) / 64) * 64 - 4;
  const answer = new Uint8Array(4 + headerBytes + payload.length);
  new DataView(answer.buffer).setUint32(0, headerBytes, true);
  answer.fill(0x20, 4, 4 + headerBytes);
  answer.set(text, 4);
  answer.set(payload, 4 + headerBytes);
  return answer.buffer;
}
