/**
 * One script in an isolate of its own, with what it is lent.
 * @module
 */
import type IsolatedVM from 'isolated-vm';
import { CloisterError, osRandom } from '../src/base/index.ts';
import { BOOTSTRAP } from './bootstrap.ts';
import { bridgeTo, isolateFailure, loadIsolatedVm } from './isolate.ts';
import type { LendingHost } from './lending/capability.ts';
import { guestSide, Lending, type Uses } from './lending/lending.ts';
import { seededRandom } from './lending/random.ts';
import type { CapabilityName, Lent } from './lending/table.ts';
import { limitError } from './limit-error.ts';
import { printable } from './untrusted.ts';

const WATCH_MS = 10;
/** What V8 says when a buffer does not fit under the limit of the isolate. */
const OUT_OF_BUFFERS = /^RangeError: (?:Array buffer allocation failed|Invalid array buffer length)/;

/** How an evaluation ended inside its isolate. */
export type GuestVerdict = { readonly cpuMs: number | undefined; readonly uses: Uses } & (
  | { readonly kind: 'ok'; readonly value: string }
  | { readonly kind: 'error'; readonly value: string }
  | { readonly kind: 'limit'; readonly error: CloisterError }
);

/** What an evaluation may use inside its isolate. Without `wallMs`, whoever holds the process stops it. */
export interface EvaluateOptions {
  readonly memoryMb: number;
  readonly outputBytes: number;
  readonly messages: number;
  readonly messageBytes: number;
  readonly wallMs?: number;
  readonly cpuMs?: number;
  readonly lent: Lent;
  /** What `random` follows from; without it, it is the operating system's. */
  readonly seed: string | undefined;
  /** What `kv` reads, and writes into. */
  readonly entries: Map<string, string>;
  /** What `readModel` and `kernels` read. Not copied, and must not be written. */
  readonly model: Uint8Array;
  readonly signal?: AbortSignal | undefined;
  /** Hears each line that is logged. */
  readonly onLine: (line: string) => void;
  /** Hears of each use, after it was counted. */
  readonly onUse?: (name: CapabilityName, uses: Uses) => void;
}

/**
 * Runs a script and makes text of its value, or of whatever it throws, inside: isolated-vm would otherwise read a thrown object with the
 * guest's own getters, beyond any timeout. The answer is text behind a mark: `+` the value, `-` what was thrown, `>` more than the limit.
 */
const EVALUATE = `'use strict';
(() => {
  const { eval: evaluate, String, Reflect: { apply } } = globalThis;
  const slice = String.prototype.slice;
  return async (source, limit) => {
    try {
      const text = String(await evaluate(source));
      return text.length > limit ? '>' : '+' + text;
    } catch (thrown) {
      try {
        return '-' + apply(slice, String(thrown), [0, 2000]);
      } catch {
        return '-a value was thrown that cannot be shown';
      }
    }
  };
})()`;

/**
 * Runs `source` as a script in a fresh isolate, on a thread of its own, waits for the value if it is a promise, and returns it as text.
 * Nothing of the script goes on afterwards.
 *
 * @throws {CloisterError} `ABORTED`.
 */
export async function evaluateGuest(source: string, options: EvaluateOptions): Promise<GuestVerdict> {
  const ivm = loadIsolatedVm();
  const isolate = new ivm.Isolate({ memoryLimit: options.memoryMb });
  const watch = watchIsolate(isolate, options);
  const lending = openLending(options, watch.stop);
  const used = (): Pick<GuestVerdict, 'cpuMs' | 'uses'> => ({ cpuMs: cpuMs(isolate), uses: lending.uses });
  try {
    const answer = await Promise.race([runScript(isolate, source, options, lending), watch.stopped]);
    const value = answer.slice(1);
    if (answer[0] === '+' && Buffer.byteLength(value) <= options.outputBytes) return { kind: 'ok', value, ...used() };
    if (answer[0] !== '-') throw limitError('outputBytes', options.outputBytes);
    if (OUT_OF_BUFFERS.test(value)) throw limitError('memoryMb', options.memoryMb);
    return { kind: 'error', value: printable(value), ...used() };
  } catch (error) {
    const failure = isolateFailure(error, isolate, options);
    if (failure.code === 'ABORTED') throw failure;
    if (failure.code === 'LIMIT_EXCEEDED') return { kind: 'limit', error: failure, ...used() };
    return { kind: 'error', value: failure.message, ...used() };
  } finally {
    lending.end();
    watch.end();
    if (!isolate.isDisposed) isolate.dispose();
  }
}

async function runScript(
  isolate: IsolatedVM.Isolate,
  source: string,
  options: EvaluateOptions,
  lending: Lending,
): Promise<string> {
  const timeout = options.wallMs === undefined ? {} : { timeout: options.wallMs };
  const context = await isolate.createContext();
  const wasm = await context.eval(BOOTSTRAP, { filename: 'bootstrap.js', reference: true });
  const evaluate = await context.eval(EVALUATE, { filename: 'evaluate.js', reference: true });
  await lend(context, lending, wasm);
  const script = `${source}\n//# sourceURL=guest.js`;
  const answer: unknown = await evaluate.apply(undefined, [script, options.outputBytes], {
    result: { promise: true, copy: true },
    ...timeout,
  });
  return typeof answer === 'string' ? answer : '';
}

/** Gives the context its side of the bridge, before any guest code. */
async function lend(context: IsolatedVM.Context, lending: Lending, wasm: IsolatedVM.Reference): Promise<void> {
  if (lending.capabilities.length === 0) return;
  const bridge = bridgeTo(given => lending.call(given));
  await context.evalClosure(guestSide(lending), [bridge, wasm.derefInto({ release: true })], {
    filename: 'lending.js',
  });
}

function openLending(options: EvaluateOptions, stop: (error: CloisterError) => void): Lending {
  const { lent, seed, entries, model, memoryMb, messages, messageBytes, onLine, onUse } = options;
  const start = performance.now();
  let lines = 0;
  let bytes = 0;
  const host: LendingHost = {
    log(line) {
      lines++;
      bytes += Buffer.byteLength(JSON.stringify(line));
      if (lines > messages) stop(limitError('messages', messages, lines));
      else if (bytes > messageBytes) stop(limitError('messageBytes', messageBytes, bytes));
      else onLine(line);
    },
    elapsedMs: () => performance.now() - start,
    random: seed === undefined ? osRandom : seededRandom(seed),
    entries,
    model,
    memoryMb,
  };
  const lending: Lending = new Lending(lent, host, name => onUse?.(name, lending.uses));
  return lending;
}

/**
 * Looks at the clocks of an isolate from outside it, for what its own timeout does not see: promises that never settle, and what goes
 * on after an await.
 */
function watchIsolate(
  isolate: IsolatedVM.Isolate,
  limits: EvaluateOptions,
): { readonly stopped: Promise<never>; readonly stop: (error: CloisterError) => void; end(): void } {
  const { promise: stopped, reject } = Promise.withResolvers<never>();
  stopped.catch(() => {});
  const start = performance.now();
  const { signal } = limits;
  const abort = (): void => reject(new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal?.reason }));
  if (signal?.aborted) abort();
  signal?.addEventListener('abort', abort, { once: true });
  const end = (): void => {
    clearInterval(timer);
    signal?.removeEventListener('abort', abort);
  };
  const timer = setInterval(() => {
    const wall = performance.now() - start;
    const cpu = cpuMs(isolate) ?? 0;
    if (limits.wallMs !== undefined && wall > limits.wallMs) reject(limitError('wallMs', limits.wallMs, wall));
    if (limits.cpuMs !== undefined && cpu > limits.cpuMs) reject(limitError('cpuMs', limits.cpuMs, cpu));
  }, WATCH_MS);
  return { stopped, stop: reject, end };
}

function cpuMs(isolate: IsolatedVM.Isolate): number | undefined {
  return isolate.isDisposed ? undefined : Number(isolate.cpuTime) / 1e6;
}
