/**
 * A plugin at work: what it is asked and what it answers, by its kind, checked on this side of the walls.
 * @module
 */
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import type { Facts } from '../../src/graph/index.ts';
import { DTYPES, type DType, type Tensor } from '../../src/tensor/index.ts';
import type { Uses } from '../lending/lending.ts';
import { packTensors, unpackTensors } from '../tensors.ts';
import { isRecord, isSafeName, type ModelSummary, refuseGuest } from '../untrusted.ts';
import type { PluggedIn, PluginAnswer, PlugRequest } from '../walls.ts';
import type { Bounds } from './bounds.ts';
import type { PluginDefinition, PluginOperator } from './definition.ts';
import type { AdmittedPlugin } from './registry.ts';
import { sendPlugin } from './sent.ts';

/** What {@link Sandbox.plug} may be told. */
export interface PlugOptions {
  /** Hears each line that the plugin logs: printable, without line feeds. The capability `log` has to be lent. */
  readonly onLine?: (line: string) => void;
  /** For whom it works, and whose values it will see: a worker serves one plugin for one tenant. Default the empty text. */
  readonly tenant?: string;
}

/** How a plugin is asked by whoever checks it. */
export interface ProbeOptions {
  /** The first tensor is there by every name that the plugin looks for. */
  readonly anyName?: boolean;
}

/** Which backend a policy chose. */
export interface BackendChoice {
  readonly backend: string;
  /** Why it is the default, where the policy failed or named none that is offered. */
  readonly failure?: CloisterError;
}

/** One version of a plugin, and how many calls to it are not over. */
interface Serving {
  readonly admitted: AdmittedPlugin;
  readonly plugged: PluggedIn;
  calls: number;
  idle: (() => void) | undefined;
}

/** What opens a version of a plugin behind walls. */
export type Plug = (request: PlugRequest) => Promise<PluggedIn>;

/**
 * A plugin in a worker of its own. Calls are served one after the other. A plugin that fails loses its worker, with whatever state it
 * had; the next call is served by a fresh one. Close it.
 */
export class WorkingPlugin implements AsyncDisposable {
  readonly #plug: Plug;
  readonly #with: Required<PlugOptions>;
  #serving: Serving;
  #reloading: Promise<unknown> = Promise.resolve();
  readonly #retiring = new Set<Serving>();
  #closed = false;

  private constructor(plug: Plug, options: Required<PlugOptions>, serving: Serving) {
    this.#plug = plug;
    this.#with = options;
    this.#serving = serving;
  }

  /** @internal Call `sandbox.plug`. */
  static async open(plug: Plug, admitted: AdmittedPlugin, options: PlugOptions): Promise<WorkingPlugin> {
    const complete = { onLine: () => {}, tenant: '', ...options };
    return new WorkingPlugin(plug, complete, await open(plug, admitted, complete));
  }

  /** Name and version. */
  get id(): string {
    const { name, version } = this.#serving.admitted.manifest;
    return `${name}@${version}`;
  }

  /** `sha256:…` of the package. */
  get digest(): string {
    return this.#serving.admitted.digest;
  }

  /** What it says it defines: checked for form, not for truth. */
  get definition(): PluginDefinition {
    return this.#serving.plugged.definition;
  }

  /** What it used of what it is lent, since its worker was started. */
  get uses(): Uses {
    return this.#serving.plugged.uses;
  }

  /** The most MiB that its worker held beyond an empty one. Undefined where the system does not tell. */
  get peakMb(): number | undefined {
    return this.#serving.plugged.peakMb;
  }

  /**
   * What a processor makes of tensors before or after a model; `tensors` itself where it does not define the method. Names, dtypes and
   * shapes are the plugin's choice; that elements fit them is checked.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is no processor; `GUEST_FAILED`, `LIMIT_EXCEEDED`, `WORKER_CRASHED`, `CLOSED`.
   */
  async map(method: 'before' | 'after', tensors: NamedTensors, { anyName }: ProbeOptions = {}): Promise<NamedTensors> {
    return await this.#call(async ({ plugged }) => {
      if (!ofKind(plugged.definition, 'processor').methods.includes(method)) return tensors;
      const { heads, parts } = packTensors(tensors);
      const { header, payload } = await plugged.ask('call', { method, tensors: heads, anyName }, parts);
      return unpackTensors(header['tensors'], payload);
    });
  }

  /**
   * The backend that a policy takes for a model, out of `backends`. What it says is a claim: a name that is not offered, and any
   * failure, leave the first of `backends`, which is the default.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is no policy or nothing is offered; `CLOSED`.
   */
  async choose(summary: ModelSummary, backends: readonly string[]): Promise<BackendChoice> {
    const [initial] = backends;
    if (initial === undefined) throw new CloisterError('INVALID_ARGUMENT', 'choose: no backend is offered');
    return await this.#call(async ({ plugged }) => {
      ofKind(plugged.definition, 'policy');
      try {
        const { header } = await plugged.ask('call', { method: 'choose', summary, backends }, []);
        const { choice } = header;
        if (!isSafeName(choice) || !backends.includes(choice)) {
          throw refuseGuest('choose', `one of ${backends.join(', ')}`, choice);
        }
        return { backend: choice };
      } catch (error) {
        if (!isCloisterError(error) || error.code === 'CLOSED') throw error;
        return { backend: initial, failure: error };
      }
    });
  }

  /** The bounds of a statistic. @throws {CloisterError} `INVALID_ARGUMENT` when it is no statistic. */
  get bounds(): Bounds {
    return ofKind(this.definition, 'statistic').bounds;
  }

  /**
   * What one record contributes to a statistic: as many numbers as its bounds say, each clipped to them here, whatever the plugin says.
   * Undefined when the plugin fails on the record or answers in another form: an error would be a release. Each record meets the plugin
   * in a fresh guest, so that what one contributes depends on no other.
   *
   * How long it takes depends on the record, and the caller must not let anybody see that.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is no statistic; `CLOSED`; never because of a record.
   */
  async contribute(outputs: NamedTensors): Promise<readonly number[] | undefined> {
    const { bounds } = this;
    try {
      // Not a number counts as the lowest.
      return (await this.claim(outputs)).map(value =>
        Number.isNaN(value) ? bounds.low : Math.min(bounds.high, Math.max(bounds.low, value)),
      );
    } catch (error) {
      if (!isCloisterError(error) || error.code === 'CLOSED') throw error;
      return undefined;
    }
  }

  /**
   * What a statistic says that one record contributes, before it is clipped: for checks, as it may be anything.
   *
   * @throws {CloisterError} as {@link map}.
   */
  async claim(outputs: NamedTensors, { anyName }: ProbeOptions = {}): Promise<readonly number[]> {
    const { heads, parts } = packTensors(outputs);
    return await this.#call(async ({ plugged }) => {
      const { length } = ofKind(plugged.definition, 'statistic').bounds;
      const { payload } = await plugged.ask('call', { method: 'contribute', tensors: heads, anyName }, parts);
      if (payload.length !== 8 * length) throw refuseGuest('contribute', `${length} numbers`, payload.length / 8);
      const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
      return Array.from({ length }, (_, i) => view.getFloat64(8 * i, true));
    });
  }

  /**
   * Runs one operator of a plugin alone, by its shape rule and its kernel: for checks. `attributes` as a node has them.
   *
   * @returns Undefined where the operator refuses the inputs.
   * @throws {CloisterError} `SHAPE_MISMATCH`, `DTYPE_MISMATCH` when the kernel does not keep to the shape rule; `INVALID_ARGUMENT` when it
   *   has no such operator; as {@link map}.
   */
  async kernel(
    operator: PluginOperator,
    attributes: Readonly<Record<string, unknown>>,
    inputs: readonly Tensor[],
  ): Promise<readonly Tensor[] | undefined> {
    const { heads, parts } = packTensors(Object.fromEntries(inputs.map((tensor, i) => [`x${i}`, tensor])));
    const answer = await this.#operator('kernel', operator, { attributes, tensors: heads }, parts);
    if (answer === undefined) return undefined;
    return Object.values(unpackTensors(answer.header['tensors'], answer.payload));
  }

  /**
   * What the shape rule of one operator says of inputs, whose sizes may be names: for checks.
   *
   * @returns Undefined where the operator refuses the inputs.
   * @throws {CloisterError} as {@link kernel}.
   */
  async facts(
    operator: PluginOperator,
    attributes: Readonly<Record<string, unknown>>,
    inputs: readonly Facts[],
  ): Promise<readonly Facts[] | undefined> {
    const answer = await this.#operator('facts', operator, { attributes, inputs }, []);
    return answer && parseFacts(answer.header['facts']);
  }

  /**
   * Puts another version in its place: it is opened beside the old one, which serves until the new one is ready; calls that began before
   * are answered by the old one, which is closed after them. When the new version does not open, the old one goes on.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it is of another name or kind; what `sandbox.plug` throws.
   */
  async reload(admitted: AdmittedPlugin): Promise<void> {
    this.#assertOpen();
    const { name, kind } = this.#serving.admitted.manifest;
    if (admitted.manifest.name !== name || admitted.manifest.kind !== kind) {
      throw new CloisterError('INVALID_ARGUMENT', `reload: expected a version of ${name}, of kind ${kind}`);
    }
    // One after the other: the last that was asked for is the one that serves.
    const turn = this.#reloading.then(async () => {
      const fresh = await open(this.#plug, admitted, this.#with);
      if (this.#closed) {
        await fresh.plugged.close();
        this.#assertOpen();
      }
      const old = this.#serving;
      this.#serving = fresh;
      this.#retiring.add(old);
      void retire(old).finally(() => this.#retiring.delete(old));
    });
    this.#reloading = turn.catch(() => {});
    await turn;
  }

  /** Ends its workers. Later calls throw `CLOSED`. Harmless twice. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([this.#serving, ...this.#retiring].map(({ plugged }) => plugged.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Asks one operator alone; undefined where its shape rule refuses. */
  async #operator(
    ask: string,
    { domain, name, since }: PluginOperator,
    header: object,
    parts: readonly Uint8Array[],
  ): Promise<PluginAnswer | undefined> {
    return await this.#call(async ({ plugged }) => {
      ofKind(plugged.definition, 'operator');
      const answer = await plugged.ask(ask, { domain, operator: name, opset: since, ...header }, parts);
      return answer.header['refused'] === undefined ? answer : undefined;
    });
  }

  async #call<T>(body: (serving: Serving) => Promise<T>): Promise<T> {
    this.#assertOpen();
    const serving = this.#serving;
    serving.calls++;
    try {
      return await body(serving);
    } finally {
      serving.calls--;
      if (serving.calls === 0) serving.idle?.();
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new CloisterError('CLOSED', `the plugin ${this.id} is closed`);
  }
}

async function open(plug: Plug, admitted: AdmittedPlugin, options: Required<PlugOptions>): Promise<Serving> {
  const plugged = await plug({ ...options, plugin: sendPlugin(admitted), limits: admitted.limits });
  return { admitted, plugged, calls: 0, idle: undefined };
}

async function retire(serving: Serving): Promise<void> {
  if (serving.calls > 0) await new Promise<void>(resolve => (serving.idle = resolve));
  await serving.plugged.close();
}

function ofKind<K extends PluginDefinition['kind']>(
  definition: PluginDefinition,
  kind: K,
): Extract<PluginDefinition, { kind: K }> {
  if (definition.kind === kind) return definition as Extract<PluginDefinition, { kind: K }>;
  throw new CloisterError('INVALID_ARGUMENT', `a plugin of kind ${definition.kind} is no ${kind}`);
}

function parseFacts(value: unknown): readonly Facts[] {
  if (!Array.isArray(value)) throw refuseGuest('facts', 'a list', value);
  return value.map((facts: unknown) => {
    const shape = isRecord(facts) ? facts['shape'] : undefined;
    const dtype = isRecord(facts) ? facts['dtype'] : undefined;
    if (typeof dtype !== 'string' || !Object.hasOwn(DTYPES, dtype)) throw refuseGuest('facts', 'a dtype', dtype);
    const isDim = (dim: unknown): boolean => isSafeName(dim) || (Number.isSafeInteger(dim) && (dim as number) >= 0);
    if (!Array.isArray(shape) || !shape.every(isDim)) throw refuseGuest('facts', 'a shape', shape);
    return { dtype: dtype as DType, shape: shape as (number | string)[] };
  });
}
