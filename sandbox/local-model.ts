/**
 * A model of the calling process: isolations `isolate` and `none`.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';
import type { NamedTensors, Profile } from '../src/engine/index.ts';
import { bindInputs } from './binding.ts';
import { assertUnaborted, type GivenModel, takeModel } from './given-model.ts';
import { limitError } from './limit-error.ts';
import { digestModel, type FixedDims, type ModelFiles } from './model-files.ts';
import { profileInPieces } from './profiling.ts';
import type { ShownForm } from './shown.ts';
import type { ModelReport, Optimisation } from './untrusted.ts';
import type {
  LoadRequest,
  ModelHealth,
  ProfileRunOptions,
  ReloadOptions,
  RunOptions,
  SandboxedModel,
} from './walls.ts';

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

/** A model as it was loaded. */
export interface LocalVersion {
  readonly executable: LocalExecutable;
  readonly files: ModelFiles;
  readonly dims: FixedDims;
  /** Called once, after the executable is closed. */
  readonly release: () => void;
}

/** What a local model is made of. */
export interface LocalModelOptions extends Pick<LoadRequest, 'name' | 'tenant' | 'limits'> {
  /** Loads a version of it. */
  readonly load: (given: GivenModel) => LocalVersion | Promise<LocalVersion>;
  /** Called once, when the model is closed. */
  readonly closed: (model: LocalModel) => void;
}

/** A version, and the calls to it that are not over. */
interface Serving extends LocalVersion {
  readonly digest: string;
  calls: number;
  retired: boolean;
}

/** Gives executables the manners of {@link SandboxedModel}. */
export class LocalModel implements SandboxedModel {
  readonly name: string;
  readonly tenant: string;
  readonly #options: LocalModelOptions;
  #version: Serving;
  #reloading: Promise<unknown> = Promise.resolve();
  #closed = false;

  private constructor(options: LocalModelOptions, version: LocalVersion) {
    this.name = options.name;
    this.tenant = options.tenant;
    this.#options = options;
    this.#version = serving(version);
  }

  /** @throws what `load` throws. */
  static async open(options: LocalModelOptions, given: GivenModel): Promise<LocalModel> {
    return new LocalModel(options, await options.load(given));
  }

  get summary(): ModelReport['summary'] {
    return this.#version.executable.report.summary;
  }

  get backend(): ModelReport['backend'] {
    return this.#version.executable.report.backend;
  }

  get why(): string {
    return this.#version.executable.report.why;
  }

  get memory(): ModelReport['memory'] {
    return this.#version.executable.report.memory;
  }

  get digest(): string {
    return this.#version.digest;
  }

  get dims(): FixedDims {
    return this.#version.dims;
  }

  health(): ModelHealth {
    return Object.freeze({ breaker: Object.freeze({ kind: 'closed', failures: 0 }), quarantined: 0, restarts: 0 });
  }

  async run(inputs: NamedTensors, { signal }: RunOptions = {}): Promise<NamedTensors> {
    const { outputBytes } = this.#options.limits;
    return await this.#call(async executable => {
      assertUnaborted(signal);
      bindInputs(executable.report.summary.inputs, inputs);
      const outputs = await executable.run(inputs, outputBytes);
      let bytes = 0;
      for (const name in outputs) bytes += outputs[name]!.bytes().length;
      if (bytes > outputBytes) throw limitError('outputBytes', outputBytes, bytes);
      return outputs;
    });
  }

  async show(form: ShownForm): Promise<string> {
    return await this.#call(executable => executable.show(form, this.#options.limits.outputBytes));
  }

  async profile(inputs: NamedTensors, options: ProfileRunOptions = {}): Promise<Profile> {
    const { outputBytes } = this.#options.limits;
    return await this.#call(executable => {
      bindInputs(executable.report.summary.inputs, inputs);
      const request = async (runs: number, warm: boolean): Promise<Profile> => {
        if (this.#closed) throw this.#closedError();
        return executable.profile(inputs, runs, warm, outputBytes);
      };
      return profileInPieces(request, options);
    });
  }

  async passes(): Promise<Optimisation> {
    return await this.#call(executable => executable.passes());
  }

  async reload(model: Uint8Array, options: ReloadOptions = {}): Promise<void> {
    if (this.#closed) throw this.#closedError();
    const given = takeModel(model, options, this.#options.limits, this.dims);
    // One after the other: the last that was asked for is the one that serves.
    const turn = this.#reloading.then(async () => {
      const fresh = await this.#options.load(given);
      if (this.#closed || options.signal?.aborted) {
        end(fresh);
        if (this.#closed) throw this.#closedError();
        assertUnaborted(options.signal);
      }
      const old = this.#version;
      this.#version = serving(fresh);
      retire(old);
    });
    this.#reloading = turn.catch(() => {});
    await turn;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    end(this.#version);
    this.#options.closed(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #call<T>(of: (executable: LocalExecutable) => T | Promise<T>): Promise<T> {
    if (this.#closed) throw this.#closedError();
    const version = this.#version;
    version.calls++;
    try {
      return await of(version.executable);
    } finally {
      version.calls--;
      if (version.retired) retire(version);
    }
  }

  #closedError(): CloisterError {
    return new CloisterError('CLOSED', `the model ${this.name} is closed`);
  }
}

function serving(version: LocalVersion): Serving {
  return { ...version, digest: digestModel(version.files), calls: 0, retired: false };
}

/** Ends a version when every call to it is over. */
function retire(version: Serving): void {
  version.retired = true;
  if (version.calls === 0) end(version);
}

function end({ executable, release }: LocalVersion): void {
  executable.close();
  release();
}
