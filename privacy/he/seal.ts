/**
 * SEAL on WebAssembly: loading it, contexts, and letting go of what it holds.
 *
 * Objects of SEAL live in memory that no collector frees. Every one is made with `using`, or belongs to a {@link Bin}.
 * @module
 */
import type { EncryptionParameters, MainModule, ParmsIdType, SEALContext } from 'node-seal';
import { CloisterError } from '../../src/base/index.ts';
import type { HeParameters } from './plan/parameters.ts';
import { assertSecure } from './security.ts';

/** The module of node-seal. */
export type Seal = MainModule;

let loading: Promise<Seal> | undefined;

/** How to find the WebAssembly file: the address of node-seal's `seal_throws.wasm`. Node finds it by itself. */
export interface SealOptions {
  readonly wasmUrl?: string;
}

/**
 * Loads SEAL, once.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` when node-seal is not installed.
 */
export function loadSeal({ wasmUrl }: SealOptions = {}): Promise<Seal> {
  loading ??= load(wasmUrl).catch((cause: unknown) => {
    loading = undefined;
    throw new CloisterError(
      'MISSING_DEPENDENCY',
      'encrypted inference needs node-seal 7 on Node 22 or later: npm install node-seal@7',
      { install: 'npm install node-seal@7' },
      { cause },
    );
  });
  return loading;
}

async function load(wasmUrl: string | undefined): Promise<Seal> {
  const { default: initialize } = await import('node-seal');
  return initialize(wasmUrl === undefined ? {} : { locateFile: () => wasmUrl });
}

/** Something that holds memory of SEAL. */
interface Held {
  delete(): void;
}

/** Objects of SEAL that are let go together. */
export class Bin implements Disposable {
  readonly #held = new Set<Held>();

  keep<T extends Held>(object: T): T {
    this.#held.add(object);
    return object;
  }

  drop(object: Held): void {
    if (this.#held.delete(object)) object.delete();
  }

  /** How many objects are held: 0 after all went well. */
  get size(): number {
    return this.#held.size;
  }

  [Symbol.dispose](): void {
    for (const object of this.#held) object.delete();
    this.#held.clear();
  }
}

/** A context with what every role needs of it. */
export interface Context extends Disposable {
  readonly seal: Seal;
  readonly parameters: HeParameters;
  readonly context: SEALContext;
  /** By level: the id that SEAL gives to the modulus of that many primes. */
  readonly ids: readonly ParmsIdType[];
}

/**
 * Makes the context of `parameters`.
 *
 * @throws {CloisterError} `HE_INSECURE_PARAMETERS`; `INVALID_ARGUMENT` when SEAL finds other primes for them, or none.
 */
export function openContext(seal: Seal, parameters: HeParameters): Context {
  assertSecure(
    parameters.degree,
    parameters.bits.reduce((sum, bits) => sum + bits, 0),
  );
  const bin = new Bin();
  try {
    const context = bin.keep(makeContext(seal, parameters));
    const ids: ParmsIdType[] = [];
    // The chain goes from all data primes down to one.
    let data = bin.keep(context.firstContextData());
    for (let level = parameters.levels; level >= 0; level--) {
      ids[level] = bin.keep(data.parmsId());
      if (level > 0) data = bin.keep(data.nextContextData());
    }
    return { seal, parameters, context, ids, [Symbol.dispose]: () => bin[Symbol.dispose]() };
  } catch (error) {
    bin[Symbol.dispose]();
    throw sealError(error, 'INVALID_ARGUMENT', 'the parameters make no context');
  }
}

function makeContext(seal: Seal, { degree, bits, primes }: HeParameters): SEALContext {
  using parameters: EncryptionParameters = new seal.EncryptionParameters(seal.SchemeType.ckks);
  parameters.setPolyModulusDegree(degree);
  using modulus = seal.CoeffModulus.Create(degree, Int32Array.from(bits));
  for (let i = 0; i < modulus.size(); i++) {
    using prime = modulus.get(i)!;
    if (prime.value() !== primes[i])
      throw new CloisterError('INVALID_ARGUMENT', `prime ${i} is ${prime.value()} in SEAL, ${primes[i]} in the plan`);
  }
  parameters.setCoeffModulus(modulus);
  const context = new seal.SEALContext(parameters, true, seal.SecLevelType.tc128);
  if (!context.parametersSet()) {
    context.delete();
    throw new CloisterError('INVALID_ARGUMENT', 'SEAL refuses the parameters');
  }
  return context;
}

/** An error of SEAL, which is a bare WebAssembly exception, as one of ours. Ours pass through. */
export function sealError(
  cause: unknown,
  code: 'INVALID_ARGUMENT' | 'HE_INVALID_MESSAGE',
  what: string,
): CloisterError {
  if (cause instanceof CloisterError) return cause;
  const said = (cause as { message?: unknown } | undefined)?.message;
  const why = Array.isArray(said) ? said.join(': ') : typeof said === 'string' ? said : 'no reason given';
  return new CloisterError(code, `${what}: ${why.slice(0, 200)}`, {}, { cause });
}
