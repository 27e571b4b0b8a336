/**
 * The client of an encrypted inference: it has the only key that decrypts. Runs in Node and in browsers.
 * @module
 */
import type { Encryptor, SecretKey } from 'node-seal';
import { CloisterError, osRandom } from '../../src/base/index.ts';
import { type ClientPlan, type HeadStep, parametersOf, parseClientPlan, planDigest, toPort } from './client-plan.ts';
import { Bin, type Context, loadSeal, openContext, type SealOptions, sealError } from './seal.ts';
import { type PlainValues, packSlots, unpackSlots } from './simulate.ts';
import { openEnvelope, SESSION_BYTES, sealEnvelope } from './wire/envelope.ts';
import { idBytes, load } from './wire/load.ts';
import { messageSizes, packKeys, packSeeded, unpackWhole } from './wire/messages.ts';
import { type CipherShape, readCipher, readKeys, writeCipher } from './wire/seal-format.ts';

/** What {@link openClient} may be told. */
export interface ClientOptions extends SealOptions {
  /** A key that {@link HeClient.secretKey} gave; a fresh one without it. */
  readonly secretKey?: Uint8Array;
}

/** An answer, decrypted. */
export interface Answer {
  /** The outputs of the model by name, flattened. */
  readonly outputs: Readonly<Record<string, Float64Array>>;
  /** The outputs after the head of the model, such as Softmax or ArgMax; the outputs themselves where it has none. */
  readonly head: Readonly<Record<string, Float64Array>>;
}

/**
 * Makes a client for a plan that a server gave out: checks it, and makes a key.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE`, `HE_INSECURE_PARAMETERS` as {@link parseClientPlan}; `MISSING_DEPENDENCY`.
 */
export async function openClient(plan: unknown, options: ClientOptions = {}): Promise<HeClient> {
  const checked = parseClientPlan(plan);
  return new HeClient(checked, openContext(await loadSeal(options), parametersOf(checked)), options.secretKey);
}

/** Has the secret key. What leaves it are ciphertexts and keys that do not decrypt. */
export class HeClient implements Disposable {
  readonly plan: ClientPlan;
  readonly #context: Context;
  readonly #digest: Uint8Array;
  readonly #bin = new Bin();
  readonly #secret: SecretKey;
  readonly #session = new Uint8Array(SESSION_BYTES);
  #encryptor: Encryptor | undefined;
  #sent = 0;
  #closed = false;

  /** @internal Call {@link openClient}. */
  constructor(plan: ClientPlan, context: Context, secretKey: Uint8Array | undefined) {
    this.plan = plan;
    this.#context = context;
    this.#digest = planDigest(plan);
    osRandom.fill(this.#session);
    try {
      this.#secret = this.#bin.keep(secretKey === undefined ? this.#newKey() : this.#readKey(secretKey));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes of the keys message and of each request and reply: known before a key is made. */
  static bytes(plan: ClientPlan): { readonly keys: number; readonly request: number; readonly reply: number } {
    const sizes = messageSizes(plan);
    const envelope = sealEnvelope(
      { kind: 'keys', plan: new Uint8Array(32), session: new Uint8Array(16), number: 0 },
      [],
    );
    return {
      keys: envelope.length + sizes.keys,
      request: envelope.length + plan.inputs.length * sizes.input,
      reply: envelope.length + plan.outputs.length * sizes.output,
    };
  }

  /** The message that opens a session: the public key, and exactly the evaluation keys that the plan needs. */
  evaluationKeys(): Uint8Array {
    this.#assertOpen();
    const { seal, context, parameters } = this.#context;
    const { degree, primes } = parameters;
    const shape = this.#keyShape();
    const none = seal.ComprModeType.none;
    using bin = new Bin();
    const generator = bin.keep(new seal.KeyGenerator(context, this.#secret));
    const parts: Uint8Array[] = [];
    const open = bin.keep(generator.createPublicKeySerializable());
    parts.push(packSeeded(readCipher(open.saveToArray(none), shape), degree, primes));
    if (this.plan.relinearises) {
      const relin = bin.keep(generator.createRelinKeysSerializable());
      parts.push(packKeys(readKeys(relin.saveToArray(none), 1, shape), degree, primes));
    }
    if (this.plan.rotations.length > 0) {
      const steps = Int32Array.from(this.plan.rotations);
      const galois = bin.keep(generator.createGaloisKeysSerializableWithSteps(steps));
      parts.push(packKeys(readKeys(galois.saveToArray(none), degree, shape), degree, primes));
    }
    this.#sent = 0;
    osRandom.fill(this.#session);
    return this.#message('keys', parts);
  }

  /**
   * Encrypts one set of inputs, each flattened.
   *
   * @throws {CloisterError} `INPUT_MISMATCH`, `SHAPE_MISMATCH`; `INVALID_ARGUMENT` when a number is not finite or too large for the plan.
   */
  encrypt(inputs: PlainValues): Uint8Array {
    this.#assertOpen();
    const { seal, context, ids, parameters } = this.#context;
    const { degree, primes, scale, levels } = parameters;
    const shape: CipherShape = { id: idBytes(ids[levels]!), degree, primes: levels + 1, scale };
    using encoder = new seal.CKKSEncoder(context);
    const encryptor = this.#encrypting();
    const parts = this.plan.inputs.map(port => {
      const values = inputs[port.name];
      if (values === undefined) throw new CloisterError('INPUT_MISMATCH', `input ${port.name} is missing`);
      const slots = packSlots(toPort(port), values, degree / 2);
      if (!slots.every(value => Math.abs(value) < 2 ** 20))
        throw new CloisterError('INVALID_ARGUMENT', `input ${port.name} holds a number that is not below 2^20 in size`);
      using plain = new seal.Plaintext();
      encoder.encode(slots, scale, plain);
      using cipher = encryptor.encryptSymmetricSerializable(plain);
      return packSeeded(readCipher(cipher.saveToArray(seal.ComprModeType.none), shape), degree, primes.slice(0, -1));
    });
    this.#sent++;
    return this.#message('request', parts);
  }

  /**
   * Decrypts the reply to the latest request.
   *
   * @throws {CloisterError} `HE_INVALID_MESSAGE` when it is malformed, or the reply to another request or session.
   */
  decrypt(reply: Uint8Array): Answer {
    this.#assertOpen();
    const { seal, context, ids, parameters } = this.#context;
    const { degree, primes } = parameters;
    const { output } = messageSizes(this.plan);
    const expected = { kind: 'reply', plan: this.#digest } as const;
    const opened = openEnvelope(
      reply,
      expected,
      this.plan.outputs.map(() => output),
    );
    const mine = opened.session.every((byte, i) => byte === this.#session[i]);
    if (!mine || opened.number !== this.#sent || this.#sent === 0)
      throw new CloisterError('HE_INVALID_MESSAGE', `the reply is not to request ${this.#sent} of this session`);
    using decryptor = new seal.Decryptor(context, this.#secret);
    using encoder = new seal.CKKSEncoder(context);
    const outputs: Record<string, Float64Array> = {};
    this.plan.outputs.forEach((port, i) => {
      const shape = { id: idBytes(ids[0]!), degree, primes: 1, scale: port.scale };
      using cipher = load(
        context,
        new seal.Ciphertext(),
        writeCipher(unpackWhole(opened.parts[i]!, degree, primes[0]!), shape),
      );
      using plain = new seal.Plaintext();
      decryptor.decrypt(cipher, plain);
      outputs[port.name] = unpackSlots(toPort(port), encoder.decodeFloat64(plain) as Float64Array);
    });
    return { outputs, head: headOf(this.plan, outputs) };
  }

  /** The secret key, to be kept encrypted: whoever has it decrypts everything. */
  secretKey(): Uint8Array {
    this.#assertOpen();
    return this.#secret.saveToArray(this.#context.seal.ComprModeType.none) as Uint8Array;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#bin[Symbol.dispose]();
    this.#context[Symbol.dispose]();
  }

  #newKey(): SecretKey {
    using generator = new this.#context.seal.KeyGenerator(this.#context.context);
    return generator.secretKey();
  }

  #readKey(bytes: Uint8Array): SecretKey {
    const { degree, bits } = this.plan;
    const size = 16 + 32 + 8 + 8 + 16 + 8 + 8 * degree * bits.length;
    if (bytes.length !== size)
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `a secret key of these parameters has ${size} bytes, got ${bytes.length}`,
      );
    try {
      return load(this.#context.context, new this.#context.seal.SecretKey(), bytes);
    } catch (error) {
      throw sealError(error, 'INVALID_ARGUMENT', 'not a secret key of these parameters');
    }
  }

  /** SEAL wants a public key for this too, which takes a while: it is made once. */
  #encrypting(): Encryptor {
    if (this.#encryptor === undefined) {
      const { seal, context } = this.#context;
      using generator = new seal.KeyGenerator(context, this.#secret);
      using open = generator.createPublicKey();
      this.#encryptor = this.#bin.keep(new seal.Encryptor(context, open, this.#secret));
    }
    return this.#encryptor;
  }

  #keyShape(): CipherShape {
    const { context, parameters } = this.#context;
    using id = context.keyParmsId();
    return { id: idBytes(id), degree: parameters.degree, primes: parameters.primes.length, scale: 1 };
  }

  #message(kind: 'keys' | 'request', parts: readonly Uint8Array[]): Uint8Array {
    return sealEnvelope({ kind, plan: this.#digest, session: this.#session, number: this.#sent }, parts);
  }

  #assertOpen(): void {
    if (this.#closed) throw new CloisterError('CLOSED', 'the client is closed');
  }
}

function headOf(plan: ClientPlan, outputs: Record<string, Float64Array>): Record<string, Float64Array> {
  return Object.fromEntries(
    plan.outputs.map(({ name, shape }) => [
      name,
      plan.head.reduce((values, step) => applyHead(step, values, shape.at(-1) ?? 1), outputs[name]!),
    ]),
  );
}

/** One step of the head, along rows of `width`. */
function applyHead({ op }: HeadStep, values: Float64Array, width: number): Float64Array {
  if (op === 'Sigmoid') return values.map(value => 1 / (1 + Math.exp(-value)));
  const rows = Array.from({ length: values.length / width }, (_, r) => values.subarray(r * width, (r + 1) * width));
  if (op === 'ArgMax') return Float64Array.from(rows, row => row.indexOf(Math.max(...row)));
  const soft = rows.map(row => {
    const most = Math.max(...row);
    const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0));
    return row.map(value => (op === 'Softmax' ? Math.exp(value - most - total) : value - most - total));
  });
  return Float64Array.from(soft.flatMap(row => [...row]));
}
