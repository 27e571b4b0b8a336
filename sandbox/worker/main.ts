/**
 * The worker process: serves one supervisor over descriptor 3, one call at a time, and dies with it.
 *
 * | request | header | payload | answer |
 * |---|---|---|---|
 * | `load` | memoryMb, bytes, files, dims, planBytes, keepBytes, plugins, interpret | model, files, plan, plugins | `report`, a {@link ModelReport}, and a new plan; or `external` |
 * | `run` | tensors, outputBytes | their elements | `tensors` and their elements |
 * | `profile` | tensors, runs, warm, wallMs, outputBytes | their elements | the profile, JSON in UTF-8 |
 * | `passes` | | | `passes` and `arena` |
 * | `show` | form, outputBytes | | the model as text or as a picture, UTF-8 |
 * | `plugin` | memoryMb, id, kind, parts, lent | the plugin's files | `definition`: what it says it defines |
 * | `call` | ask, and what that needs: see {@link ../guest/entry.ts}; outputBytes | elements of tensors | the guest's answer, and `uses` |
 * | `evaluate` | see {@link ../evaluation-frames.ts} | a script, what `kv` has, a model | how it ended, and what `kv` is to keep |
 *
 * Any of them may be answered with `error` instead. One that is given `credit` may send messages before its answer (credit.ts).
 * @module
 */
import { forbidDump } from '../../native/index.ts';
import { CloisterError } from '../../src/base/index.ts';
import { type EvaluateOptions, evaluateGuest } from '../evaluation.ts';
import { decodeRequest, encodeAnswer } from '../evaluation-frames.ts';
import { type GuestCall, HostedModel, NeedsFiles } from '../hosted-model.ts';
import { CLOCK_STEPS, Guest } from '../isolate.ts';
import { type Kernels, loadKernels } from '../kernels.ts';
import { limitError } from '../limit-error.ts';
import { type FixedDims, readFiles } from '../model-files.ts';
import { HostedPlugin, pluggedCall, plugInto } from '../plugins/hosted-plugin.ts';
import type { SentPlugin } from '../plugins/sent.ts';
import { isShownForm } from '../shown.ts';
import { packTensors, unpackTensors } from '../tensors.ts';
import { count, printable } from '../untrusted.ts';
import { BlockingChannel } from './channel.ts';
import { isCredit, Outbox } from './credit.ts';
import type { Frame } from './frames.ts';
import { mapLane, SHARED_BYTES } from './shared.ts';

const CHANNEL_FD = 3;
/** MiB of the heap of the guest that is opened before it is known for whom. */
const WARM_MEMORY_MB = 512;
const ORPHAN_CHECK_MS = 250;
/** Calls between two turns of the event loop, in which finalizers of native memory run. */
const TURN_EVERY = 32;

/** A request, and where what runs in it may send messages. */
interface Call extends Frame {
  readonly outbox: Outbox;
}

interface Reply {
  readonly header: object;
  readonly parts?: readonly Uint8Array[];
}

const hidden = hide();
const supervisor = Number(process.argv[2]);
// While a guest runs on its own thread, nobody reads the channel to see that it was closed.
setInterval(() => {
  if (process.ppid !== supervisor) end();
}, ORPHAN_CHECK_MS).unref();

const channel = new BlockingChannel(CHANNEL_FD);
let hosted: HostedModel | undefined;
let plugin: HostedPlugin | undefined;
/** Whether the model's guest has its plugins: it may be asked to load twice. */
let hasPlugins = false;
/** Where the plugin's lines go: to the call that is being served. */
let pluginOutbox: Outbox | undefined;
/** Milliseconds after which a call that holds this thread gives up, in case nobody is left to end the process. */
let measureMs = 0;
const { kernels, guest: warmGuest } = start();
let guest = warmGuest;
const lane = process.argv[3] === undefined ? undefined : mapLane(Number(process.argv[3]));
channel.write(0, {
  hidden,
  ...(lane && { shared: SHARED_BYTES }),
  isa: kernels.host?.info.isa ?? null,
  kernel: kernels.host?.info ?? null,
});

for (let served = 1; ; served++) {
  const frame = readFrame();
  if (isCredit(frame.header)) continue; // of a call that was answered meanwhile
  const outbox = new Outbox(channel, frame, error => exceed(frame.id, error));
  const { header, parts = [] } = await answer({ ...frame, payload: payloadOf(frame), outbox });
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  const shared = frame.header['shared'] === undefined ? 0 : lane!.put(parts, bytes);
  try {
    if (shared > 0) channel.write(frame.id, { ...header, shared });
    else channel.write(frame.id, header, parts);
  } catch {
    end();
  }
  if (served % TURN_EVERY === 0) await new Promise(resolve => setImmediate(resolve));
}

/** First of all, before there is anything to see. The launcher cannot do it: the kernel forgets it when a program starts. */
function hide(): boolean {
  try {
    return forbidDump();
  } catch {
    return false; // kernels that were asked for are missing here: start() says so
  }
}

/** Everything that does not depend on the model. What is missing here is said in the greeting. */
function start(): { kernels: Kernels; guest: Guest } {
  try {
    return { kernels: loadKernels(), guest: openGuest(WARM_MEMORY_MB) };
  } catch (error) {
    channel.write(0, errorHeader(error));
    return end();
  }
}

function openGuest(memoryMb: number): Guest {
  return Guest.open({ memoryMb, clockSteps: CLOCK_STEPS.process });
}

function readFrame(): Frame {
  try {
    return channel.read() ?? end();
  } catch {
    return end();
  }
}

/** The payload of a request, from where it lies; what the supervisor may still write is copied. */
function payloadOf({ header, payload }: Frame): Frame['payload'] {
  return header['shared'] === undefined || header['shared'] === 0 ? payload : (lane?.take(header['shared']) ?? end());
}

/** At once and without exit handlers: an isolate may still be running on its thread. */
function end(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('unreachable');
}

/** Answers a call with an error, and ends: a guest that floods would go on otherwise. */
function exceed(id: number, error: CloisterError): never {
  try {
    channel.write(id, errorHeader(error));
  } catch {
    // nobody is left who wants to know
  }
  return end();
}

async function answer(call: Call): Promise<Reply> {
  try {
    return await handle(call);
  } catch (error) {
    return { header: errorHeader(error) };
  }
}

function errorHeader(error: unknown): object {
  if (error instanceof CloisterError) return { error: error.toJSON() };
  const message =
    error instanceof Error ? printable(error.message.slice(0, 2_000)) : 'something that is no error was thrown';
  return { error: { code: 'GUEST_FAILED', message } };
}

function handle(call: Call): Reply | Promise<Reply> {
  const { header, payload } = call;
  const { op } = header;
  if (op === 'run') return run(header, payload);
  if (op === 'load') return load(header, payload);
  if (op === 'profile') return profile(header, payload);
  if (op === 'passes') return passes();
  if (op === 'show') return show(header);
  if (op === 'evaluate') return evaluate(call);
  if (op === 'plugin') return plug(call);
  if (op === 'call') return callPlugin(call);
  throw new CloisterError('INVALID_ARGUMENT', 'a worker has no such request');
}

async function load(header: Frame['header'], payload: Uint8Array): Promise<Reply> {
  if (hosted !== undefined) throw new CloisterError('INVALID_ARGUMENT', 'a worker serves one model in its life');
  const memoryMb = count(header['memoryMb'], 'memoryMb');
  const planBytes = count(header['planBytes'], 'planBytes');
  const keepBytes = count(header['keepBytes'], 'keepBytes');
  if (guest.memoryMb !== memoryMb) {
    guest.close();
    guest = openGuest(memoryMb);
  }
  const plugins = sentPlugins(header['plugins'], payload);
  const planEnd = payload.length - plugins.reduce((sum, sent) => sum + sent.payload.length, 0);
  if (!hasPlugins) await plugInto(guest, plugins, { memoryMb, onLine: () => {} });
  hasPlugins = true;
  const model = payload.subarray(0, planEnd - planBytes);
  guest.lend(model);
  const call: GuestCall = plugins.length > 0 ? pluggedCall(guest) : guest.call.bind(guest);
  const measure: GuestCall = (op, request, parts) => guest.callSync(op, request, parts, measureMs);
  const opened = await HostedModel.open({
    call,
    measure: plugins.length > 0 ? call : measure,
    kernels,
    model: readFiles(header, model),
    dims: header['dims'] as FixedDims,
    plan: planBytes > 0 ? payload.subarray(planEnd - planBytes, planEnd) : undefined,
    interpret: header['interpret'] as string | undefined,
    limitBytes: memoryMb * 1_048_576,
  });
  if (opened instanceof NeedsFiles) return { header: { external: opened.asked } };
  hosted = opened;
  const { report, freshPlan } = opened;
  return freshPlan !== undefined && freshPlan.length <= keepBytes
    ? { header: { report }, parts: [freshPlan] }
    : { header: { report } };
}

/** The plugins behind a model, in the order of their bytes. */
function sentPlugins(described: unknown, payload: Uint8Array): readonly SentPlugin[] {
  const list = described as readonly (Omit<SentPlugin, 'payload'> & { readonly bytes: number })[];
  let at = payload.length - list.reduce((sum, { bytes }) => sum + bytes, 0);
  return list.map(({ bytes, ...plugin }) => {
    at += bytes;
    return { ...plugin, payload: payload.subarray(at - bytes, at) };
  });
}

async function profile(header: Frame['header'], payload: Uint8Array): Promise<Reply> {
  if (hosted === undefined) throw new CloisterError('CLOSED', 'no model is loaded');
  measureMs = count(header['wallMs'], 'wallMs');
  const inputs = unpackTensors(header['tensors'], payload);
  const outputBytes = count(header['outputBytes'], 'outputBytes');
  const measured = await hosted.profile(inputs, count(header['runs'], 'runs'), header['warm'] === true, outputBytes);
  const text = Buffer.from(JSON.stringify(measured));
  if (text.length > outputBytes) throw limitError('outputBytes', outputBytes, text.length);
  return { header: {}, parts: [text] };
}

async function passes(): Promise<Reply> {
  if (hosted === undefined) throw new CloisterError('CLOSED', 'no model is loaded');
  return { header: await hosted.passes() };
}

function run(header: Frame['header'], payload: Uint8Array): Reply | Promise<Reply> {
  if (hosted === undefined) throw new CloisterError('CLOSED', 'no model is loaded');
  const allowed = count(header['outputBytes'], 'outputBytes');
  const outputs = hosted.run(unpackTensors(header['tensors'], payload), allowed);
  return outputs instanceof Promise ? outputs.then(ready => pack(ready, allowed)) : pack(outputs, allowed);
}

async function show(header: Frame['header']): Promise<Reply> {
  if (hosted === undefined) throw new CloisterError('CLOSED', 'no model is loaded');
  const { form } = header;
  if (!isShownForm(form)) throw new CloisterError('INVALID_ARGUMENT', 'a model has no such form');
  return { header: {}, parts: [Buffer.from(await hosted.show(form, count(header['outputBytes'], 'outputBytes')))] };
}

function pack(outputs: Parameters<typeof packTensors>[0], allowed: number): Reply {
  const { heads, parts, bytes } = packTensors(outputs);
  if (bytes > allowed) throw limitError('outputBytes', allowed, bytes);
  return { header: { tensors: heads }, parts };
}

async function plug({ header, payload, outbox }: Call): Promise<Reply> {
  if (plugin !== undefined) throw new CloisterError('INVALID_ARGUMENT', 'a worker serves one plugin in its life');
  guest.close(); // it has another size, and no bridge
  pluginOutbox = outbox;
  plugin = await HostedPlugin.open(
    { ...(header as unknown as SentPlugin), payload },
    {
      memoryMb: count(header['memoryMb'], 'memoryMb'),
      clockSteps: CLOCK_STEPS.process,
      onLine: line => pluginOutbox?.send({ line }),
    },
  );
  return { header: { definition: plugin.definition } };
}

async function callPlugin({ header, payload, outbox }: Call): Promise<Reply> {
  if (plugin === undefined) throw new CloisterError('CLOSED', 'no plugin is here');
  const { ask, outputBytes, ...rest } = header;
  pluginOutbox = outbox;
  const answer = await plugin.call(String(ask), rest, payload);
  const allowed = count(outputBytes, 'outputBytes');
  if (answer.payload.length > allowed) throw limitError('outputBytes', allowed, answer.payload.length);
  return { header: { ...answer.header, uses: plugin.uses }, parts: [answer.payload] };
}

async function evaluate({ header, payload, outbox }: Call): Promise<Reply> {
  const { source, options } = decodeRequest(header, payload);
  const before = new Map(options.entries);
  const onUse: EvaluateOptions['onUse'] = (name, uses) => {
    const { calls, refused } = uses[name]!;
    if (Number.isInteger(Math.log2(calls + refused))) outbox.send({ uses });
  };
  const verdict = await evaluateGuest(source, { ...options, onLine: line => outbox.send({ line }), onUse });
  if (verdict.kind !== 'limit') return encodeAnswer(verdict, before, options.entries);
  if (Object.keys(verdict.uses).length > 0) outbox.send({ uses: verdict.uses });
  throw verdict.error;
}
