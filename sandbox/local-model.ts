/**
 * A model of the calling process: isolations `isolate` and `none`.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { NamedTensors, Profile } from '../src/engine/index.ts';
import { bindInputs } from './binding.ts';
import { limitError } from './limit-error.ts';
import type { Limits } from './limits.ts';
import { digestModel, type FixedDims, type ModelFiles } from './model-files.ts';
import { profileInPieces } from './profiling.ts';
import type { ShownForm } from './shown.ts';
import type { ModelReport, Optimisation } from './untrusted.ts';
import type { ProfileRunOptions, SandboxedModel } from './walls.ts';

/** What runs a model here. */
export interface LocalExecutable {
  readonly report: ModelReport;
  /** @param outputBytes - The most bytes of all outputs, for whoever can tell before it computes. */
  run(inputs: NamedTensors, outputBytes: number): NamedTensors | Promise<NamedTensors>;
  show(form: ShownForm, outputBytes: number): string | Promise<string>;
  profile(inputs: NamedTensors, runs: number, warm: boolean, outputBytes: number): Promise<Profile>;
  passes(): Promise<Optimisation>;
  close(): void;
}

/** What a local model is made of. */
export interface LocalModelOptions {
  readonly name: string;
  readonly limits: Limits;
  readonly files: ModelFiles;
  readonly dims: FixedDims;
  readonly executable: LocalExecutable;
  /** Called once, after the executable is closed. */
  readonly release: () => void;
}

/** Gives an executable the manners of {@link SandboxedModel}. */
export class LocalModel implements SandboxedModel {
  readonly name: string;
  readonly summary: ModelReport['summary'];
  readonly backend: ModelReport['backend'];
  readonly why: string;
  readonly digest: string;
  readonly dims: FixedDims;
  readonly #limits: Limits;
  readonly #executable: LocalExecutable;
  readonly #release: () => void;
  #closed = false;

  constructor({ name, limits, files, dims, executable, release }: LocalModelOptions) {
    this.name = name;
    this.digest = digestModel(files);
    this.dims = dims;
    this.#limits = limits;
    this.#executable = executable;
    this.#release = release;
    ({ summary: this.summary, backend: this.backend, why: this.why } = executable.report);
  }

  get memory(): ModelReport['memory'] {
    return this.#executable.report.memory;
  }

  async run(inputs: NamedTensors, { signal }: { readonly signal?: AbortSignal } = {}): Promise<NamedTensors> {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    if (signal?.aborted) throw new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal.reason });
    bindInputs(this.summary.inputs, inputs);
    const outputs = await this.#executable.run(inputs, this.#limits.outputBytes);
    let bytes = 0;
    for (const name in outputs) bytes += outputs[name]!.bytes().length;
    if (bytes > this.#limits.outputBytes) throw limitError('outputBytes', this.#limits.outputBytes, bytes);
    return outputs;
  }

  async show(form: ShownForm): Promise<string> {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    return this.#executable.show(form, this.#limits.outputBytes);
  }

  async profile(inputs: NamedTensors, options: ProfileRunOptions = {}): Promise<Profile> {
    bindInputs(this.summary.inputs, inputs);
    const { outputBytes } = this.#limits;
    const request = (runs: number, warm: boolean): Promise<Profile> => {
      if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
      return this.#executable.profile(inputs, runs, warm, outputBytes);
    };
    return profileInPieces(async (runs, warm) => request(runs, warm), options);
  }

  async passes(): Promise<Optimisation> {
    if (this.#closed) throw new CloisterError('CLOSED', `the model ${this.name} is closed`);
    return this.#executable.passes();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#executable.close();
    this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
