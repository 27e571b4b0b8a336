/**
 * The isolate: a V8 heap of its own in which guest code runs, reached by strings and buffers only.
 * @module
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type IsolatedVM from 'isolated-vm';
import { CloisterError } from '../src/base/index.ts';
import { BOOTSTRAP } from './bootstrap.ts';
import type { Crossing } from './lending/capability.ts';
import { guestSide, type Lending } from './lending/lending.ts';
import { limitError } from './limit-error.ts';
import { guestError, isRecord, printable, refuseGuest } from './untrusted.ts';

/** The most bytes that one read of the model may ask for. */
const MAX_READ_BYTES = 256 * 1_048_576;
const MAX_READS = 1_000_000;
const MAX_ANSWER_HEADER = 4 * 1_048_576;
/** The calls for which a guest has a clock. */
const MEASURED: ReadonlySet<string> = new Set(['profile', 'passes']);
/** Steps that a guest's clock makes in a millisecond, where the guest has a process of its own, and where it has not. */
export const CLOCK_STEPS: Readonly<Record<'process' | 'isolate', number>> = { process: 200, isolate: 10 };

/** The host never throws into a guest, whose errors would then hold a stack of the host: text is why there are no bytes. */
const CONNECT = `const { RangeError } = globalThis;
const read = (offset, length) => {
  const bytes = $0(offset, length);
  if (typeof bytes === 'string') throw new RangeError(bytes);
  return bytes;
};
return guest.connect(read, $1);`;

/** What a guest is opened with. */
export interface GuestOptions {
  /** MiB of the guest's heap. */
  readonly memoryMb: number;
  /**
   * Steps that its clock makes in a millisecond, default those of a guest in the calling process. A clock tells guest code about
   * whatever shares its processor; a coarse one tells less, and one that stands tells nothing.
   */
  readonly clockSteps?: number;
}

/** What a guest answered: a header that still has to be checked, and bytes. */
export interface GuestAnswer {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Uint8Array<ArrayBuffer>;
}

type Ivm = typeof IsolatedVM;
const require = createRequire(import.meta.url);
let loaded: Ivm | undefined;

const INSTALL = 'npm install isolated-vm@^7.0.1';

/**
 * Checks that isolated-vm is installed, without loading it: a process that only supervises workers has no need of it.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` when it is not installed, or is older than the release that mends
 *   GHSA-864f-rcv7-6rh4 (guest code could corrupt the host's memory).
 */
export function assertIsolatedVm(): void {
  let version = '';
  try {
    version = (require('isolated-vm/package.json') as { version: string }).version;
  } catch (cause) {
    throw missing('which is not installed', cause);
  }
  const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number);
  if (major < 7 || (major === 7 && minor === 0 && patch < 1)) {
    throw missing(`but ${version} lets guest code corrupt the host (GHSA-864f-rcv7-6rh4)`);
  }
}

/**
 * Loads isolated-vm on first use.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` as {@link assertIsolatedVm}, and when it does not load here.
 */
export function loadIsolatedVm(): Ivm {
  if (loaded !== undefined) return loaded;
  assertIsolatedVm();
  try {
    loaded = require('isolated-vm') as Ivm;
  } catch (cause) {
    throw missing('which does not load here', cause);
  }
  return loaded;
}

function missing(what: string, cause?: unknown): CloisterError {
  const message = `the sandbox needs isolated-vm, ${what}: run \`${INSTALL}\``;
  return new CloisterError('MISSING_DEPENDENCY', message, { package: 'isolated-vm', install: INSTALL }, { cause });
}

/** An isolate with the engine in it. Holds one model. */
export class Guest {
  readonly #isolate: IsolatedVM.Isolate;
  readonly #context: IsolatedVM.Context;
  /** The engine's WebAssembly, for what is lent alone. */
  readonly #wasm: IsolatedVM.Reference;
  readonly #dispatch: IsolatedVM.Reference;
  #model: Uint8Array = new Uint8Array(0);
  #reads = 0;
  #readBytes = 0;
  /** When the call began that may look at the clock. */
  #clockStart: number | undefined;
  #dead: CloisterError | undefined;

  private constructor(isolate: IsolatedVM.Isolate, bundle: string, memoryMb: number, clockSteps: number) {
    const ivm = loadIsolatedVm();
    this.#isolate = isolate;
    this.memoryMb = memoryMb;
    const context = isolate.createContextSync();
    this.#context = context;
    this.#wasm = context.evalSync(BOOTSTRAP, { filename: 'bootstrap.js', reference: true });
    const read = new ivm.Callback((offset: unknown, length: unknown) => {
      const bytes = this.#read(offset, length);
      if (typeof bytes === 'string') return bytes;
      return new ivm.ExternalCopy(bytes, { transferOut: true }).copyInto({ release: true, transferIn: true });
    });
    const now = new ivm.Callback(() => {
      if (this.#clockStart === undefined) return 0;
      return Math.floor((performance.now() - this.#clockStart) * clockSteps) / clockSteps;
    });
    this.#dispatch = context.evalClosureSync(`${bundle}\n${CONNECT}`, [read, now], {
      result: { reference: true },
      filename: 'guest.js',
    }) as IsolatedVM.Reference;
  }

  /** MiB of the guest's heap. */
  readonly memoryMb: number;

  /** @throws {CloisterError} `MISSING_DEPENDENCY` without isolated-vm or without the guest bundle. */
  static open({ memoryMb, clockSteps = CLOCK_STEPS.isolate }: GuestOptions): Guest {
    const ivm = loadIsolatedVm();
    const isolate = new ivm.Isolate({ memoryLimit: memoryMb });
    return new Guest(isolate, guestBundle(), memoryMb, clockSteps);
  }

  /** Lends the guest `read` over these bytes, from now on over no others. They are not copied, and must not be written. */
  lend(model: Uint8Array): void {
    this.#model = model;
  }

  /** Gives plugins their side of the bridge to what they are lent; once, before any of them is there. */
  lendPlugins(lending: Lending): void {
    if (lending.capabilities.length === 0) return;
    const bridge = bridgeTo(given => lending.call(given));
    this.#context.evalClosureSync(guestSide(lending), [bridge, this.#wasm.derefInto()], { filename: 'lending.js' });
  }

  /**
   * Calls the guest on the calling thread.
   *
   * @param timeoutMs - Stops plain JavaScript only: see {@link GuestOptions}; the wall is the worker process.
   * @throws {CloisterError} what the guest reported; `LIMIT_EXCEEDED`; `GUEST_FAILED` on an answer of another form; `CLOSED`.
   */
  callSync(op: string, header: object, payload?: Uint8Array, timeoutMs?: number): GuestAnswer {
    this.#assertAlive();
    let answer: unknown;
    try {
      const options = { result: { copy: true }, ...(timeoutMs !== undefined && { timeout: timeoutMs }) } as const;
      answer = this.#dispatch.applySync(undefined, this.#arguments(op, header, payload), options);
    } catch (error) {
      throw this.#failure(error, timeoutMs);
    }
    return parseAnswer(answer);
  }

  /** {@link callSync} on a thread of its own, so that the caller's event loop goes on turning. */
  async call(op: string, header: object, payload?: Uint8Array): Promise<GuestAnswer> {
    this.#assertAlive();
    let answer: unknown;
    try {
      answer = await this.#dispatch.apply(undefined, this.#arguments(op, header, payload), { result: { copy: true } });
    } catch (error) {
      throw this.#failure(error);
    }
    return parseAnswer(answer);
  }

  /** Frees the isolate. Later calls throw `CLOSED`. */
  close(): void {
    this.#dead ??= new CloisterError('CLOSED', 'the guest is closed');
    if (!this.#isolate.isDisposed) this.#isolate.dispose();
    this.#model = new Uint8Array(0);
  }

  #arguments(op: string, header: object, payload: Uint8Array | undefined): IsolatedVM.Transferable[] {
    this.#reads = 0;
    this.#readBytes = 0;
    this.#clockStart = MEASURED.has(op) ? performance.now() : undefined;
    const given: IsolatedVM.Transferable[] = [op, JSON.stringify(header)];
    if (payload !== undefined) {
      const ivm = loadIsolatedVm();
      const own = payload.slice().buffer;
      given.push(new ivm.ExternalCopy(own, { transferOut: true }).copyInto({ release: true, transferIn: true }));
    }
    return given;
  }

  /** A guest that broke a rule of its isolate is not asked again. */
  #failure(error: unknown, timeoutMs?: number): CloisterError {
    const failure = isolateFailure(error, this.#isolate, { memoryMb: this.memoryMb, wallMs: timeoutMs });
    if (failure.code === 'LIMIT_EXCEEDED') {
      this.#dead = failure;
      if (!this.#isolate.isDisposed) this.#isolate.dispose();
    }
    return failure;
  }

  #assertAlive(): void {
    if (this.#dead !== undefined) throw this.#dead;
  }

  /** The bytes of a range, or why there are none. */
  #read(offset: unknown, length: unknown): ArrayBuffer | string {
    const inside =
      Number.isSafeInteger(offset) &&
      Number.isSafeInteger(length) &&
      (offset as number) >= 0 &&
      (length as number) >= 0 &&
      (length as number) <= MAX_READ_BYTES &&
      (offset as number) + (length as number) <= this.#model.length;
    if (!inside) return 'read: outside the model';
    this.#reads++;
    this.#readBytes += length as number;
    if (this.#reads > MAX_READS || this.#readBytes > 8 * this.#model.length + 64 * 1_048_576) {
      return 'read: the model was read too often in one call';
    }
    const start = offset as number;
    return new Uint8Array(this.#model.subarray(start, start + (length as number))).buffer;
  }
}

/** A function of the host that guest code calls with strings and buffers, and that answers with one of them. */
export function bridgeTo(call: (given: readonly unknown[]) => Crossing): IsolatedVM.Callback {
  const ivm = loadIsolatedVm();
  return new ivm.Callback((...given: unknown[]) => {
    const answer = call(given);
    if (typeof answer === 'string') return answer;
    return new ivm.ExternalCopy(answer, { transferOut: true }).copyInto({ release: true, transferIn: true });
  });
}

/** Turns what isolated-vm throws into an error of ours. */
export function isolateFailure(
  error: unknown,
  isolate: IsolatedVM.Isolate,
  limits: { readonly memoryMb: number; readonly wallMs?: number | undefined },
): CloisterError {
  if (error instanceof CloisterError) return error;
  const message = error instanceof Error ? String(error.message) : '';
  if (/^Script execution timed out/.test(message) && limits.wallMs !== undefined)
    return limitError('wallMs', limits.wallMs);
  if (isolate.isDisposed || /^Isolate was disposed|^Isolate is already disposed/.test(message)) {
    return limitError('memoryMb', limits.memoryMb);
  }
  if (/Array buffer allocation failed|^Invalid array buffer length/.test(message))
    return limitError('memoryMb', limits.memoryMb);
  const name = error instanceof Error ? `${error.name}: ` : '';
  return new CloisterError('GUEST_FAILED', printable(`${name}${message}`.slice(0, 2_000)));
}

/** Takes an answer apart: `u32 headerBytes | header, JSON in UTF-8 | payload`. */
function parseAnswer(answer: unknown): GuestAnswer {
  if (!(answer instanceof ArrayBuffer) || answer.byteLength < 4) throw refuseGuest('answer', 'a buffer', typeof answer);
  const headerBytes = new DataView(answer).getUint32(0, true);
  if (headerBytes > MAX_ANSWER_HEADER || 4 + headerBytes > answer.byteLength) {
    throw refuseGuest('answer', 'a header inside the answer', headerBytes);
  }
  let header: unknown;
  try {
    header = JSON.parse(Buffer.from(answer, 4, headerBytes).toString('utf8'));
  } catch {
    throw refuseGuest('answer', 'a header in JSON', 'something else');
  }
  if (!isRecord(header)) throw refuseGuest('answer', 'a header', typeof header);
  if (header['error'] !== undefined) throw guestError(header['error']);
  return { header, payload: new Uint8Array(answer, 4 + headerBytes) };
}

let bundleText: string | undefined;
let bundleDigest: string | undefined;

/** SHA-256 of the guest bundle, in hexadecimal: another bundle may read and plan a model in another way. */
export function guestDigest(): string {
  bundleDigest ??= createHash('sha256').update(guestBundle()).digest('hex');
  return bundleDigest;
}

/** The guest bundle: beside the compiled room in `dist`, or in `dist` below the root when running from source. */
function guestBundle(): string {
  if (bundleText !== undefined) return bundleText;
  const here = fileURLToPath(import.meta.url);
  const path = here.endsWith('.ts')
    ? join(dirname(here), '..', 'dist', 'guest.js')
    : join(dirname(here), '..', 'guest.js');
  try {
    bundleText = readFileSync(path, 'utf8');
  } catch (cause) {
    const install = 'npm run build';
    const message = `the guest bundle is not built: run \`${install}\``;
    throw new CloisterError('MISSING_DEPENDENCY', message, { install }, { cause });
  }
  return bundleText;
}
