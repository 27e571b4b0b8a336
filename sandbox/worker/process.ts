/**
 * One worker process, seen from the supervisor: its channel, its watch, and its end.
 * @module
 */
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import { Socket } from 'node:net';
import { availableParallelism } from 'node:os';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { SharedMemory } from '../../native/index.ts';
import { CloisterError } from '../../src/base/index.ts';
import type { Confinement } from '../confinement/confinement.ts';
import { Launched } from '../confinement/launch.ts';
import { limitError } from '../limit-error.ts';
import type { Limits } from '../limits.ts';
import { guestError, printable } from '../untrusted.ts';
import { type Credit, Inbox, type OnMessage } from './credit.ts';
import { encodeHead, type Frame, FrameDecoder, ProtocolViolation } from './frames.ts';
import { Lane, openShared, SHARED_BYTES, SHARED_FD } from './shared.ts';

const TICK_MS = 10;
const EXIT_GRACE_MS = 100;
const STDERR_BYTES = 8_192;
const JOIN_BYTES = 65_536;
const MAX_PENDING = 65_536;
/** Linux fixes USER_HZ, the unit of times in /proc, at 100. */
const TICKS_PER_MS = 0.1;

/** How a worker is started. The defaults start ours; a test starts a liar. */
export interface WorkerCommand {
  readonly file: string;
  readonly args: readonly string[];
}

/** What a request may use. */
export type RequestLimits = Omit<Limits, 'modelBytes'>;

/** An answer, with what the request used: milliseconds, and MiB over the empty worker. */
export interface WorkerAnswer {
  readonly header: Readonly<Record<string, unknown>>;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly wallMs: number;
}

/** What a worker has used. Undefined where the system does not tell. */
export interface WorkerUsage {
  readonly cpuMs: number | undefined;
  readonly peakMb: number | undefined;
}

interface Pending {
  readonly limits: RequestLimits;
  readonly inbox: Inbox | undefined;
  readonly resolve: (answer: WorkerAnswer) => void;
  /** With an error of ours, or with what the caller's own `onMessage` threw. */
  readonly reject: (error: unknown) => void;
  /** When it came to the head of the queue. */
  start: number;
  cpuStart: number | undefined;
}

/** Kills what is still alive when this process exits in order. When it is killed, a worker finds its channel closed. */
const alive = new Set<ChildProcess>();
let exitHook = false;

/** A spawned worker. Requests are served in order; the first that passes a limit ends the process, and with it all others. */
export class WorkerProcess {
  readonly pid: number;
  /** Resolves when the process was reaped and its descriptors are closed. */
  readonly exited: Promise<void>;
  readonly #launched: Launched;
  readonly #child: ChildProcess;
  readonly #socket: Socket;
  readonly #errors: Socket;
  readonly #meter: Meter;
  readonly #pending = new Map<number, Pending>();
  readonly #decoder: FrameDecoder;
  readonly #greeting = Promise.withResolvers<Readonly<Record<string, unknown>>>();
  /** The call that was sent and may send messages; nothing is sent behind it, so that the worker finds its credit at once. */
  #talking: number | undefined;
  readonly #unsent: (() => void)[] = [];
  #domain: string | undefined;
  readonly #shared: SharedMemory | undefined;
  /** The shared memory, once the worker has said that it has mapped it, and the request that has it. */
  #lane: Lane | undefined;
  #laneHolder: number | undefined;
  #greeted = false;
  #nextId = 1;
  #stderr = '';
  #timer: NodeJS.Timeout | undefined;
  #checking = false;
  #referenced = true;
  /** Callers that wait for the greeting or for the end. */
  #waiting = 0;
  /** Why we ended it, or why it ended. */
  #end: CloisterError | undefined;
  #baseMb = 0;
  #baseCpuMs = 0;
  #usage: WorkerUsage = { cpuMs: undefined, peakMb: undefined };

  /** @param confinement - How far the operating system confines it. Undefined: not at all. */
  constructor(command?: WorkerCommand, confinement?: Confinement) {
    const shared = openShared();
    this.#launched = Launched.start({
      ...(command ?? ownCommand(shared !== undefined, confinement)),
      env: workerEnvironment(confinement),
      confinement,
      descriptors: shared ? [shared.descriptor] : [],
    });
    this.#child = this.#launched.child;
    this.pid = this.#child.pid ?? 0;
    shared?.closeDescriptor();
    this.#shared = shared;
    // Without a free descriptor there are no pipes at all; the error event that follows says why.
    this.#socket = (this.#child.stdio?.[3] as Socket | undefined) ?? new Socket();
    this.#errors = (this.#child.stderr as Socket | null | undefined) ?? new Socket();
    this.#meter = new Meter(this.pid);
    this.#decoder = new FrameDecoder(id => this.#allow(id));
    this.#greeting.promise.catch(() => {}); // whoever asks hears of it; nobody has to ask
    const reaped = Promise.withResolvers<void>();
    this.exited = reaped.promise;
    void this.exited.then(() => shared?.close());

    this.#socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    const lost = (): void => {
      // Mostly it has died, and its exit says more; if it has not, a worker without a channel is of no use.
      setTimeout(() => this.#stop(this.#crash('it closed its channel')), EXIT_GRACE_MS).unref();
    };
    this.#socket.on('error', lost);
    this.#socket.on('end', lost);
    this.#errors.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('latin1')).slice(-STDERR_BYTES);
    });
    this.#errors.on('error', () => {});
    this.#child.on('error', cause => {
      this.#end ??= new CloisterError(
        'WORKER_CRASHED',
        `the worker process does not start: ${cause.message}`,
        {},
        { cause },
      );
      this.#finish();
      if (this.pid !== 0) return;
      alive.delete(this.#child);
      reaped.resolve();
    });
    this.#child.on('close', (code, signal) => {
      alive.delete(this.#child);
      this.#end ??= this.#ending(code, signal);
      this.#launched.release();
      this.#socket.destroy();
      this.#finish();
      reaped.resolve();
    });
    track(this.#child);
    this.#reference();
  }

  /**
   * Gives the worker to one trust domain for the rest of its life.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it has been given away before, to whomever.
   */
  claim(domain: string): void {
    if (this.#domain !== undefined)
      throw new CloisterError('INVALID_ARGUMENT', 'a worker serves one trust domain in its life');
    this.#domain = domain;
  }

  /** The one trust domain that it serves; undefined while it waits for one. */
  get domain(): string | undefined {
    return this.#domain;
  }

  /** Whether requests can still be made. */
  get isAlive(): boolean {
    return this.#end === undefined;
  }

  /** Whether the worker came as far as to greet: how it ends afterwards is the doing of what it was asked. */
  get hasGreeted(): boolean {
    return this.#greeted;
  }

  /** Resolves with what the worker says of itself when it greets; rejects when it died before. */
  async greeted(): Promise<Readonly<Record<string, unknown>>> {
    return await this.#wait(this.#greeting.promise);
  }

  /** What the process had used since its greeting when it was last looked at, at the latest when it was ended. */
  get usage(): WorkerUsage {
    return this.#usage;
  }

  /**
   * Sends one request and waits for its answer. `parts` are read until the answer is there, not copied.
   *
   * @param onMessage - Takes the messages of the call, in order. The answer is handed out when all of them were dealt with; when one
   *   throws, the call fails with what it threw, and the worker is ended. Without it, a message breaks the protocol.
   * @throws {CloisterError} what the worker reported; `LIMIT_EXCEEDED`, `WORKER_CRASHED` when it was stopped or died;
   *   `INVALID_ARGUMENT` when the request is larger than a frame can say.
   */
  request(
    header: object,
    parts: readonly Uint8Array[],
    limits: RequestLimits,
    onMessage?: OnMessage,
  ): Promise<WorkerAnswer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new CloisterError('OUT_OF_MEMORY', `${MAX_PENDING} requests wait for one worker`));
    }
    const id = this.#nextId;
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const lane = this.#laneHolder === undefined ? this.#lane : undefined;
    const shared = lane?.put(parts, bytes);
    const sent = shared ? [] : parts;
    const payloadBytes = shared ? 0 : bytes;
    let head: Buffer;
    try {
      const messages = onMessage && Inbox.header(limits);
      head = encodeHead(id, { ...header, ...messages, ...(lane && { shared }) }, payloadBytes);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      return Promise.reject(
        new CloisterError('INVALID_ARGUMENT', `the request does not fit a frame: ${error.message}`),
      );
    }
    this.#nextId = this.#nextId === 0xffff_ffff ? 1 : this.#nextId + 1;
    if (lane !== undefined) this.#laneHolder = id;
    const answer = new Promise<WorkerAnswer>((resolve, reject) => {
      const inbox = onMessage && this.#inbox(id, limits, onMessage, reject);
      this.#pending.set(id, { limits, inbox, resolve, reject, start: performance.now(), cpuStart: undefined });
    });
    if (this.#greeted) this.#launched.limitMemory(this.#baseMb, limits.memoryMb);
    this.#reference();
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref();
    const send = (): void => {
      if (onMessage !== undefined) this.#talking = id;
      this.#send(head, sent, payloadBytes);
    };
    if (this.#talking === undefined) send();
    else this.#unsent.push(send);
    return answer;
  }

  /**
   * Ends the process at once, for a reason that lies in no pending request: they fail as those do that waited behind another. Later
   * requests fail with `reason`.
   */
  kill(reason: CloisterError): void {
    this.#stop(reason, false);
  }

  /** @param blamed - The request that is being served is the reason. */
  #stop(reason: CloisterError, blamed = true): void {
    this.#end ??= reason;
    this.#record();
    this.#child.kill('SIGKILL');
    this.#finish(blamed);
  }

  /** {@link kill}, and waits until nothing of the process is left. */
  async close(): Promise<void> {
    this.kill(new CloisterError('CLOSED', 'the worker was closed'));
    await this.#wait(this.exited);
  }

  /** Keeps the caller's event loop alive while it waits. */
  async #wait<T>(event: Promise<T>): Promise<T> {
    this.#waiting++;
    this.#reference();
    try {
      return await event;
    } finally {
      this.#waiting--;
      this.#reference();
    }
  }

  /** The process keeps the caller's event loop alive only while somebody waits for something from it. */
  #reference(): void {
    const wanted = this.#pending.size > 0 || this.#waiting > 0;
    if (wanted === this.#referenced) return;
    this.#referenced = wanted;
    for (const handle of [this.#child, this.#socket, this.#errors]) wanted ? handle.ref() : handle.unref();
  }

  #send(head: Buffer, parts: readonly Uint8Array[], payloadBytes: number): void {
    if (head.length + payloadBytes <= JOIN_BYTES) {
      this.#socket.write(parts.length === 0 ? head : Buffer.concat([head, ...parts], head.length + payloadBytes));
      return;
    }
    this.#socket.cork();
    this.#socket.write(head);
    for (const part of parts) if (part.length > 0) this.#socket.write(part);
    this.#socket.uncork();
  }

  #inbox(id: number, limits: RequestLimits, onMessage: OnMessage, reject: (error: unknown) => void): Inbox {
    const renew = (credit: Credit): void => {
      if (this.#talking === id) this.#send(encodeHead(id, { op: 'credit', ...credit }, 0), [], 0);
    };
    const fail = (error: unknown): void => {
      reject(error);
      if (this.#talking === id) this.kill(new CloisterError('ABORTED', 'what takes the messages of the call failed'));
    };
    return new Inbox(limits, onMessage, renew, fail);
  }

  #allow(id: number): number {
    if (id === 0 && !this.#greeted) return 0;
    const pending = this.#pending.get(id);
    if (pending === undefined) throw new ProtocolViolation(`an answer to request ${id}, which nobody made`);
    return pending.limits.outputBytes;
  }

  #receive(chunk: Buffer): void {
    if (this.#end !== undefined) return;
    let frames: readonly Frame[];
    try {
      frames = this.#decoder.push(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.#stop(this.#crash(`it broke the protocol: ${error.message}`));
      return;
    }
    for (const frame of frames) this.#take(frame);
  }

  /** It is of use once it is known to be confined. */
  #welcome(header: Readonly<Record<string, unknown>>): void {
    if (this.#end !== undefined) return;
    try {
      this.#launched.assertConfined(header, this.#meter.status() ?? '');
      this.#greeting.resolve(header);
    } catch (error) {
      this.kill(error instanceof CloisterError ? error : this.#crash('it ended as it greeted'));
    }
  }

  #take(frame: Frame): void {
    if (this.#end !== undefined) return;
    const { id, header } = frame;
    if (id === 0) {
      if (this.#greeted) {
        this.#stop(this.#crash('it broke the protocol: it greeted twice'));
        return;
      }
      if (header['error'] !== undefined) {
        this.#stop(guestError(header['error']));
        return;
      }
      this.#greeted = true;
      if (this.#shared && header['shared'] === SHARED_BYTES) this.#lane = new Lane(this.#shared.bytes, 'supervisor');
      this.#baseMb = this.#meter.memory()?.rssMb ?? 0;
      this.#baseCpuMs = this.#meter.cpuMs() ?? 0;
      const [waiting] = this.#pending.values();
      if (waiting !== undefined) this.#launched.limitMemory(this.#baseMb, waiting.limits.memoryMb);
      void this.#launched.reported.then(() => this.#welcome(header));
      return;
    }
    // In order, so that no request can be kept waiting past its limits while others are answered.
    const [[first, pending] = []] = this.#pending;
    if (pending === undefined || first !== id) {
      this.#stop(this.#crash(`it broke the protocol: an answer to request ${id}, whose turn it is not`));
      return;
    }
    if (header['message'] !== undefined) {
      this.#deliver(frame, pending);
      return;
    }
    const payload = this.#payloadOf(frame, pending);
    if (payload === undefined) {
      this.#stop(this.#crash('it broke the protocol: a payload that is not in the shared memory'));
      return;
    }
    if (this.#laneHolder === id) this.#laneHolder = undefined;
    this.#pending.delete(id);
    if (this.#talking === id) {
      this.#talking = undefined;
      while (this.#talking === undefined && this.#unsent.length > 0) this.#unsent.shift()!();
    }
    const now = performance.now();
    const [next] = this.#pending.values();
    if (next !== undefined) {
      next.start = now;
      next.cpuStart = undefined;
    } else {
      this.#reference();
    }
    const settle = (): void => {
      if (header['error'] === undefined) pending.resolve({ header, payload, wallMs: now - pending.start });
      else pending.reject(guestError(header['error']));
    };
    if (pending.inbox === undefined || pending.inbox.isSettled) settle();
    else void this.#wait(pending.inbox.settled()).then(settle);
  }

  /** The payload of an answer, from where it lies. Copied before it is looked at; undefined when it cannot be where the worker says. */
  #payloadOf({ id, header, payload }: Frame, { limits }: Pending): Uint8Array<ArrayBuffer> | undefined {
    const { shared } = header;
    if (shared === undefined) return payload;
    const allowed = id === this.#laneHolder && payload.length === 0 && Number(shared) <= limits.outputBytes;
    return allowed ? this.#lane?.take(shared) : undefined;
  }

  #deliver(frame: Frame, { inbox }: Pending): void {
    try {
      if (inbox === undefined) throw new ProtocolViolation('a message in a call that has none');
      inbox.take(frame);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.#stop(this.#crash(`it broke the protocol: ${error.message}`));
    }
  }

  /** Looks whether the request that is being served has passed a limit. */
  #tick(): void {
    const [head] = this.#pending.values();
    if (head === undefined) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const excess = this.#excess(head);
    if (excess === undefined || this.#checking) return;
    // Its answer may lie in the socket already, unread because this thread was busy: look there before the verdict.
    this.#checking = true;
    setImmediate(() => {
      this.#checking = false;
      const [still] = this.#pending.values();
      if (still === head) this.#stop(excess);
    });
  }

  #excess(head: Pending): CloisterError | undefined {
    const { limits } = head;
    const wall = performance.now() - head.start;
    if (wall > limits.wallMs) return limitError('wallMs', limits.wallMs, wall);
    const { cpuMs, heldMb } = this.#record();
    if (cpuMs !== undefined) {
      head.cpuStart ??= cpuMs;
      if (cpuMs - head.cpuStart > limits.cpuMs) return limitError('cpuMs', limits.cpuMs, cpuMs - head.cpuStart);
    }
    return this.#greeted && heldMb > limits.memoryMb ? limitError('memoryMb', limits.memoryMb, heldMb) : undefined;
  }

  /** Looks at what is used now, and remembers it as far as the system tells: a process that is gone tells nothing. */
  #record(): { readonly cpuMs: number | undefined; readonly heldMb: number } {
    const cpu = this.#meter.cpuMs();
    const memory = this.#meter.memory();
    this.#usage = {
      cpuMs: cpu === undefined ? this.#usage.cpuMs : cpu - this.#baseCpuMs,
      peakMb: memory === undefined ? this.#usage.peakMb : Math.max(0, memory.peakMb - this.#baseMb),
    };
    return { cpuMs: cpu, heldMb: memory === undefined ? 0 : memory.rssMb - this.#baseMb };
  }

  /** Answers whoever still waits. The request that was being served hears the reason; those behind it hear that the worker is gone. */
  #finish(blamed = true): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#record();
    this.#meter.close();
    const reason = this.#end!;
    this.#greeting.reject(reason);
    let first = blamed;
    for (const pending of this.#pending.values()) {
      if (first || reason.code === 'CLOSED') pending.reject(reason);
      else {
        const message = 'the worker was stopped while this request waited behind another';
        pending.reject(new CloisterError('WORKER_CRASHED', message, { waiting: true }, { cause: reason }));
      }
      first = false;
    }
    this.#pending.clear();
    this.#unsent.length = 0;
    this.#talking = undefined;
    this.#reference();
  }

  /** Why it ended by itself. */
  #ending(code: number | null, signal: string | null): CloisterError {
    const [head] = this.#pending.values();
    if (head !== undefined && this.#launched.ranOutOfMemory()) return limitError('memoryMb', head.limits.memoryMb);
    const refused = this.#greeted ? undefined : this.#launched.failure(code, this.#stderr);
    return refused ?? this.#crash(signal ? `it was ended by ${signal}` : `it exited with code ${code}`, code, signal);
  }

  #crash(what: string, exitCode?: number | null, signal?: string | null): CloisterError {
    const stderr = diagnostics(this.#stderr);
    if (stderr.some(line => /out of memory|heap limit/i.test(line))) {
      const [head] = this.#pending.values();
      if (head !== undefined) return limitError('memoryMb', head.limits.memoryMb);
    }
    return new CloisterError('WORKER_CRASHED', `the worker process died: ${what}`, {
      pid: this.pid,
      ...(exitCode != null && { exitCode }),
      ...(signal != null && { signal }),
      ...(stderr.length > 0 && { stderr }),
    });
  }
}

/**
 * The command that starts our worker, from source or from the build alike.
 *
 * @param shared - Whether it inherits shared memory.
 */
export function ownCommand(shared: boolean, confinement?: Confinement): WorkerCommand {
  const here = fileURLToPath(import.meta.url);
  const main = join(dirname(here), `main${extname(here)}`);
  return {
    file: process.execPath,
    // isolated-vm asks for the first flag. The heap of the worker itself holds no model and no tensor.
    args: [
      ...['--no-node-snapshot', '--max-old-space-size=192', '--no-warnings', ...unconfigured(confinement)],
      ...[main, String(process.pid), ...(shared ? [String(SHARED_FD)] : [])],
    ],
  };
}

/** No configuration of OpenSSL: a confined worker cannot read the machine's, and has no use for any. */
function unconfigured(confinement: Confinement | undefined): readonly string[] {
  return confinement?.launcher === undefined ? [] : ['--openssl-config=/dev/null'];
}

/** Nothing of the caller's environment but the choice of kernels. */
function workerEnvironment(confinement: Confinement | undefined): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { TZ: 'UTC' };
  // A confined worker cannot look up its quota of processors.
  if (confinement?.launcher !== undefined) env['CLOISTER_THREADS'] = String(Math.min(64, availableParallelism()));
  for (const name of ['CLOISTER_ISA', 'CLOISTER_NATIVE', 'CLOISTER_THREADS', 'SystemRoot']) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}

/** What the run time itself says when it dies: known forms only, since whatever else is there a guest may have written. */
function diagnostics(stderr: string): readonly string[] {
  const known =
    /^(?:FATAL ERROR: |# Fatal |cloister-launch: |# Check failed|#\s*Fatal|Fatal |<--- Last few GCs|node: |Error: |[A-Za-z]*Error \[)/;
  return stderr
    .split('\n')
    .filter(line => known.test(line))
    .slice(-8)
    .map(line => printable(line.slice(0, 200)));
}

function track(child: ChildProcess): void {
  alive.add(child);
  if (exitHook) return;
  exitHook = true;
  process.on('exit', () => {
    for (const one of alive) one.kill('SIGKILL');
  });
}

/** Reads what the kernel counts of a process. The files stay open: they name this process, whoever has its number later. */
class Meter {
  readonly #buffer = Buffer.allocUnsafe(4_096);
  #stat: number | undefined;
  #status: number | undefined;

  constructor(pid: number) {
    if (process.platform !== 'linux' || pid === 0) return;
    try {
      this.#stat = openSync(`/proc/${pid}/stat`, 'r');
      this.#status = openSync(`/proc/${pid}/status`, 'r');
    } catch {
      this.close(); // gone already, or no /proc here: the wall clock still watches
    }
  }

  /** Processor time of all its threads so far. */
  cpuMs(): number | undefined {
    const text = this.#read(this.#stat);
    if (text === undefined) return undefined;
    // proc_pid_stat(5): fields 14 and 15 after the name, which ends at the last parenthesis and may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_MS;
  }

  /** proc_pid_status(5). A worker that hides itself is seen through a file that was opened before, wherever /proc shows but one's own. */
  status(): string | undefined {
    return this.#read(this.#status);
  }

  memory(): { readonly rssMb: number; readonly peakMb: number } | undefined {
    const text = this.status();
    const rss = text?.match(/^VmRSS:\s+(\d+) kB$/m);
    const peak = text?.match(/^VmHWM:\s+(\d+) kB$/m);
    if (!rss || !peak) return undefined;
    return { rssMb: Number(rss[1]) / 1_024, peakMb: Number(peak[1]) / 1_024 };
  }

  close(): void {
    for (const fd of [this.#stat, this.#status]) if (fd !== undefined) closeSync(fd);
    this.#stat = undefined;
    this.#status = undefined;
  }

  #read(fd: number | undefined): string | undefined {
    if (fd === undefined) return undefined;
    try {
      return this.#buffer.toString('latin1', 0, readSync(fd, this.#buffer, 0, this.#buffer.length, 0));
    } catch {
      return undefined; // ESRCH: it is gone, and its exit will say so
    }
  }
}

/** Whether the kernel tells here what a worker uses. */
export function canMeter(): boolean {
  const meter = new Meter(process.pid);
  const can = meter.cpuMs() !== undefined && meter.memory() !== undefined;
  meter.close();
  return can;
}
