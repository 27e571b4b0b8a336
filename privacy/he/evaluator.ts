/**
 * Carrying out a plan on ciphertexts. What it holds decrypts nothing.
 * @module
 */
import type { Ciphertext, GaloisKeys, Plaintext, RelinKeys } from 'node-seal';
import { CloisterError } from '../../src/base/index.ts';
import type { HePlan, HeStep } from './plan/plan.ts';
import { Bin, type Context, openContext, type Seal, sealError } from './seal.ts';
import { lastUses } from './simulate.ts';

/** Keys that compute and do not decrypt. */
export interface EvaluationKeys {
  readonly relin: RelinKeys | undefined;
  readonly galois: GaloisKeys | undefined;
}

/** How far a run is. */
export interface HeProgress {
  readonly step: number;
  readonly steps: number;
  readonly layer: string | undefined;
}

/** What {@link HeExecutable.run} may be told. */
export interface HeRunOptions {
  /** Cancels at the next step. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: HeProgress) => void) | undefined;
}

/** A plan ready to run on one evaluator. */
export interface HeExecutable extends Disposable {
  /** The context that its keys and ciphertexts belong to. */
  readonly context: Context;
  /**
   * Computes the output ciphertexts, in the order of the plan's outputs; the caller owns them. Inputs are read and kept by the caller.
   *
   * @throws {CloisterError} `ABORTED`; `CLOSED`; `INPUT_MISMATCH` when inputs or keys are missing.
   */
  run(inputs: readonly Ciphertext[], keys: EvaluationKeys, options?: HeRunOptions): Promise<readonly Ciphertext[]>;
}

/** The seam of evaluators: SEAL on WebAssembly here, native ones elsewhere. */
export interface HeEvaluator {
  readonly name: string;
  prepare(plan: HePlan): Promise<HeExecutable>;
}

/** SEAL's own evaluator. */
export function sealEvaluator(seal: Seal): HeEvaluator {
  return { name: 'node-seal', prepare: async plan => new SealExecutable(seal, plan) };
}

class SealExecutable implements HeExecutable {
  readonly context: Context;
  readonly #plan: HePlan;
  readonly #seal: Seal;
  readonly #bin = new Bin();
  readonly #plains: readonly Plaintext[];
  readonly #last: readonly (readonly number[])[];
  #closed = false;

  constructor(seal: Seal, plan: HePlan) {
    this.#seal = seal;
    this.#plan = plan;
    this.#last = lastUses(plan);
    this.context = openContext(seal, plan.parameters);
    try {
      this.#plains = this.#encode();
    } catch (error) {
      this[Symbol.dispose]();
      throw sealError(error, 'INVALID_ARGUMENT', 'the weights cannot be encoded');
    }
  }

  #encode(): readonly Plaintext[] {
    const { seal, context, ids } = this.context;
    using encoder = new seal.CKKSEncoder(context);
    using evaluator = new seal.Evaluator(context);
    const slots = this.#plan.parameters.degree / 2;
    const spread = new Float64Array(slots);
    return this.#plan.plains.map(({ values, scale, level }) => {
      for (let s = 0; s < slots; s += values.length) spread.set(values, s);
      const plain = this.#bin.keep(new seal.Plaintext());
      encoder.encode(spread, scale, plain);
      evaluator.plainModSwitchToInplace(plain, ids[level]!);
      return plain;
    });
  }

  async run(
    inputs: readonly Ciphertext[],
    keys: EvaluationKeys,
    { signal, onProgress }: HeRunOptions = {},
  ): Promise<readonly Ciphertext[]> {
    if (this.#closed) throw new CloisterError('CLOSED', 'the encrypted model is closed');
    const { steps, outputs, rotations, relinearises, layers } = this.#plan;
    const needed = this.#plan.inputs.length;
    if (inputs.length !== needed)
      throw new CloisterError('INPUT_MISMATCH', `the plan has ${needed} inputs, got ${inputs.length}`);
    if ((rotations.length > 0 && keys.galois === undefined) || (relinearises && keys.relin === undefined))
      throw new CloisterError('INPUT_MISMATCH', 'the plan rotates or relinearises, and the keys for it are missing');
    using bin = new Bin();
    using evaluator = new this.#seal.Evaluator(this.context.context);
    const made: Ciphertext[] = [];
    const kept = new Set(outputs.map(({ cipher }) => cipher));
    let yielded = performance.now();
    for (const [id, step] of steps.entries()) {
      if (signal?.aborted)
        throw new CloisterError('ABORTED', 'the encrypted run was cancelled', {}, { cause: signal.reason });
      made[id] = step.op === 'input' ? inputs[step.input]! : bin.keep(new this.#seal.Ciphertext());
      this.#carryOut(evaluator, step, made, keys, made[id]);
      for (const dead of this.#last[id]!) if (!kept.has(dead)) bin.drop(made[dead]!);
      onProgress?.({ step: id + 1, steps: steps.length, layer: layers[step.layer] });
      if (performance.now() - yielded > 20) {
        await new Promise(resolve => setTimeout(resolve)); // timers and aborts happen in between
        if (this.#closed) throw new CloisterError('CLOSED', 'the encrypted model was closed during a run');
        yielded = performance.now();
      }
    }
    return outputs.map(({ cipher }) => made[cipher]!.copy());
  }

  #carryOut(
    evaluator: InstanceType<Seal['Evaluator']>,
    step: HeStep,
    made: readonly Ciphertext[],
    { relin, galois }: EvaluationKeys,
    to: Ciphertext,
  ): void {
    const x = step.op === 'input' ? to : made[step.of]!;
    switch (step.op) {
      case 'input':
        break;
      case 'rotate':
        evaluator.rotateVector(x, step.steps, galois!, to);
        break;
      case 'multiplyPlain':
        evaluator.multiplyPlain(x, this.#plains[step.plain]!, to);
        break;
      case 'addPlain':
        evaluator.addPlain(x, this.#plains[step.plain]!, to);
        break;
      case 'add':
        evaluator.add(x, made[step.by]!, to);
        break;
      case 'multiply':
        if (step.of === step.by) evaluator.square(x, to);
        else evaluator.multiply(x, made[step.by]!, to);
        break;
      case 'relinearise':
        evaluator.relinearize(x, relin!, to);
        break;
      case 'rescale':
        evaluator.rescaleToNext(x, to);
        to.setScale(step.scale); // the plan's own number, so that what is added has the very same scale
        break;
      case 'modSwitch':
        evaluator.cipherModSwitchToNext(x, to);
        break;
      default:
        step satisfies never;
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#bin[Symbol.dispose]();
    this.context[Symbol.dispose]();
  }
}
