/**
 * The server of an encrypted inference: it has the model and evaluation keys, and nothing that decrypts.
 * @module
 */
import type { Ciphertext, GaloisKeys, PublicKey, RelinKeys } from 'node-seal';
import { CloisterError, osRandom, toHex } from '../../src/base/index.ts';
import { type ClientPlan, clientPlanOf, planDigest } from './client-plan.ts';
import { type HeExecutable, type HeRunOptions, sealEvaluator } from './evaluator.ts';
import type { PlannedModel } from './plan/index.ts';
import { Bin, loadSeal, type SealOptions } from './seal.ts';
import { openEnvelope, sealEnvelope } from './wire/envelope.ts';
import { idBytes, load } from './wire/load.ts';
import { messageSizes, packWhole, rotationPlaces, unpackKeys, unpackSeeded } from './wire/messages.ts';
import { type CipherShape, readCipher, writeCipher, writeKeys } from './wire/seal-format.ts';

/** What {@link openServer} may be told. */
export interface ServerOptions extends SealOptions {
  /** `sha256:` and 64 hexadecimal digits of the model file. */
  readonly model: string;
  /** How many sessions may be open at a time; each holds evaluation keys of tens of megabytes. 16 by default. */
  readonly sessionLimit?: number;
}

/**
 * Encodes the weights of a planned model, once, for all sessions.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY`; `INVALID_ARGUMENT`.
 */
export async function openServer(planned: PlannedModel, options: ServerOptions): Promise<HeServer> {
  const executable = await sealEvaluator(await loadSeal(options)).prepare(planned.plan);
  return new HeServer(planned, executable, options);
}

/** A model that computes on ciphertexts. */
export class HeServer implements Disposable {
  /** What clients are given. */
  readonly clientPlan: ClientPlan;
  readonly #planned: PlannedModel;
  readonly #executable: HeExecutable;
  readonly #digest: Uint8Array;
  readonly #sessions = new Map<string, HeSession>();
  readonly #sessionLimit: number;

  /** @internal Call {@link openServer}. */
  constructor(planned: PlannedModel, executable: HeExecutable, { model, sessionLimit = 16 }: ServerOptions) {
    this.#planned = planned;
    this.#executable = executable;
    this.#sessionLimit = sessionLimit;
    this.clientPlan = clientPlanOf(planned.plan, { model, head: planned.head, error: planned.error });
    this.#digest = planDigest(this.clientPlan);
  }

  /**
   * Opens a session for the client that sent these keys.
   *
   * @throws {CloisterError} `HE_INVALID_MESSAGE` when they are malformed or for another plan; `OVERLOADED` when all sessions are taken.
   */
  openSession(keys: Uint8Array): HeSession {
    if (this.#sessions.size >= this.#sessionLimit)
      throw new CloisterError('OVERLOADED', `all ${this.#sessionLimit} encrypted sessions are open`);
    const sizes = messageSizes(this.clientPlan);
    const expected = { kind: 'keys', plan: this.#digest } as const;
    const { session, number, parts } = openEnvelope(keys, expected, [sizes.keys]);
    const name = toHex(session);
    if (number !== 0) throw new CloisterError('HE_INVALID_MESSAGE', 'keys have no number');
    if (this.#sessions.has(name)) throw new CloisterError('HE_INVALID_MESSAGE', 'the session is open already');
    const forget = (): void => {
      this.#sessions.delete(name);
    };
    const opened = new HeSession(
      this.#planned,
      this.clientPlan,
      this.#digest,
      this.#executable,
      session,
      parts[0]!,
      forget,
    );
    this.#sessions.set(name, opened);
    return opened;
  }

  [Symbol.dispose](): void {
    for (const session of [...this.#sessions.values()]) session[Symbol.dispose]();
    this.#executable[Symbol.dispose]();
  }
}

/** One client's evaluation keys, and its requests one after the other. */
export class HeSession implements Disposable {
  readonly #planned: PlannedModel;
  readonly #clientPlan: ClientPlan;
  readonly #digest: Uint8Array;
  readonly #executable: HeExecutable;
  readonly #session: Uint8Array;
  readonly #forget: () => void;
  readonly #bin = new Bin();
  readonly #open: PublicKey;
  readonly #relin: RelinKeys | undefined;
  readonly #galois: GaloisKeys | undefined;
  #last = 0;
  #closed = false;

  /** @internal Call {@link HeServer.openSession}. */
  constructor(
    planned: PlannedModel,
    clientPlan: ClientPlan,
    digest: Uint8Array,
    executable: HeExecutable,
    session: Uint8Array,
    keys: Uint8Array,
    forget: () => void,
  ) {
    this.#planned = planned;
    this.#clientPlan = clientPlan;
    this.#digest = digest;
    this.#executable = executable;
    this.#session = session;
    this.#forget = forget;
    const { seal, context, parameters } = executable.context;
    const { degree, primes } = parameters;
    const { key } = messageSizes(clientPlan);
    const digits = primes.length - 1;
    try {
      using id = context.keyParmsId();
      const shape: CipherShape = { id: idBytes(id), degree, primes: primes.length, scale: 1 };
      const open = unpackSeeded(keys.subarray(0, key), degree, primes);
      this.#open = this.#bin.keep(load(context, new seal.PublicKey(), writeCipher(open, shape)));
      let at = key;
      if (clientPlan.relinearises) {
        const relin = unpackKeys(keys.subarray(at, at + digits * key), [0], degree, primes);
        this.#relin = this.#bin.keep(load(context, new seal.RelinKeys(), writeKeys(relin, 1, shape)));
        at += digits * key;
      }
      if (clientPlan.rotations.length > 0) {
        const places = rotationPlaces(clientPlan.rotations, degree);
        const galois = unpackKeys(keys.subarray(at), places, degree, primes);
        this.#galois = this.#bin.keep(load(context, new seal.GaloisKeys(), writeKeys(galois, degree, shape)));
      }
    } catch (error) {
      this.#bin[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Computes the reply to one request. What leaves is re-randomised, and slots that hold no output hold noise: the reply says of the
   * model what its outputs say, and nothing of the sums behind them.
   *
   * @throws {CloisterError} `HE_INVALID_MESSAGE` when the request is malformed, of another session, or was answered before; `ABORTED`;
   *   `CLOSED`.
   */
  async run(request: Uint8Array, options: HeRunOptions = {}): Promise<Uint8Array> {
    if (this.#closed) throw new CloisterError('CLOSED', 'the encrypted session is closed');
    const { seal, context, ids, parameters } = this.#executable.context;
    const { degree, primes, levels, scale } = parameters;
    const { input } = messageSizes(this.#clientPlan);
    const expected = { kind: 'request', plan: this.#digest } as const;
    const opened = openEnvelope(
      request,
      expected,
      this.#clientPlan.inputs.map(() => input),
    );
    if (!opened.session.every((byte, i) => byte === this.#session[i]))
      throw new CloisterError('HE_INVALID_MESSAGE', 'the request is of another session');
    if (opened.number <= this.#last)
      throw new CloisterError('HE_INVALID_MESSAGE', `request ${opened.number} was answered before`);
    using bin = new Bin();
    const shape: CipherShape = { id: idBytes(ids[levels]!), degree, primes: levels + 1, scale };
    const inputs = opened.parts.map(part => {
      const cipher = unpackSeeded(part, degree, primes.slice(0, -1));
      return bin.keep(load(context, new seal.Ciphertext(), writeCipher(cipher, shape)));
    });
    this.#last = opened.number;
    const outputs = await this.#executable.run(inputs, { relin: this.#relin, galois: this.#galois }, options);
    for (const output of outputs) bin.keep(output);
    if (this.#closed) throw new CloisterError('CLOSED', 'the encrypted session was closed during a run');
    const parts = outputs.map((output, i) => {
      this.#hide(output, i);
      const of = { id: idBytes(ids[0]!), degree, primes: 1, scale: output.scale() };
      return packWhole(readCipher(output.saveToArray(seal.ComprModeType.none) as Uint8Array, of), degree, primes[0]!);
    });
    return sealEnvelope({ kind: 'reply', plan: this.#digest, session: this.#session, number: opened.number }, parts);
  }

  /** Adds a fresh encryption of zero, noise of the size of the error to the outputs, and noise of any size to all other slots. */
  #hide(output: Ciphertext, index: number): void {
    const { seal, context, ids, parameters } = this.#executable.context;
    const { layout } = this.#planned.plan.outputs[index]!;
    using encryptor = new seal.Encryptor(context, this.#open);
    using evaluator = new seal.Evaluator(context);
    using encoder = new seal.CKKSEncoder(context);
    using zero = new seal.Ciphertext();
    encryptor.encryptZero(zero);
    evaluator.cipherModSwitchToInplace(zero, ids[0]!);
    zero.setScale(output.scale());
    evaluator.addInplace(output, zero);
    const slots = parameters.degree / 2;
    const noise = uniform(slots);
    const outputs = new Set(layout.place);
    // As large as a value may be at the last prime, less the bit of the sign.
    const room = Number(parameters.primes[0]!) / output.scale() / 8;
    for (let s = 0; s < slots; s++) noise[s] = noise[s]! * (outputs.has(s) ? this.#planned.error : room);
    using plain = new seal.Plaintext();
    encoder.encode(noise, output.scale(), plain);
    evaluator.plainModSwitchToInplace(plain, ids[0]!);
    evaluator.addPlainInplace(output, plain);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    this.#bin[Symbol.dispose]();
  }
}

/** Numbers from -1 to 1, from the operating system's generator. */
function uniform(count: number): Float64Array {
  const words = new Int32Array(count);
  osRandom.fill(new Uint8Array(words.buffer));
  return Float64Array.from(words, word => word / 2 ** 31);
}
