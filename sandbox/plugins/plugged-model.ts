/**
 * A model with plugins: operators in its guest, a policy that is asked for its backend, processors around its runs.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import type { NamedTensors, Profile } from '../../src/engine/index.ts';
import type {
  LoadRequest,
  ModelHealth,
  ProfileRunOptions,
  ReloadOptions,
  RunOptions,
  SandboxedModel,
  Walls,
} from '../walls.ts';
import type { AdmittedPlugin } from './registry.ts';
import { sendPlugin } from './sent.ts';
import { WorkingPlugin } from './working-plugin.ts';

/**
 * Loads a model with plugins: each processor and policy in a worker of its own, operators in the model's.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is a statistic among them, or a second policy; what `plug` and `load` throw.
 */
export async function loadPlugged(
  walls: Walls,
  request: LoadRequest,
  plugins: readonly AdmittedPlugin[],
): Promise<SandboxedModel> {
  const ofKind = (kind: string): readonly AdmittedPlugin[] => plugins.filter(({ manifest }) => manifest.kind === kind);
  const [[policy, ...others], [statistic]] = [ofKind('policy'), ofKind('statistic')];
  if (statistic !== undefined) {
    const message = `${statistic.manifest.name} is a statistic, which is no part of a model: open it with plug`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  if (others.length > 0) throw new CloisterError('INVALID_ARGUMENT', 'a model has one policy at most');
  const { tenant } = request;
  const plug = (admitted: AdmittedPlugin): Promise<WorkingPlugin> =>
    WorkingPlugin.open(plugRequest => walls.plug(plugRequest), admitted, { tenant });
  const operators = ofKind('operator').map(sendPlugin);
  const inGuest = (interpret: string | undefined): LoadRequest['plugins'] =>
    operators.length > 0 || interpret !== undefined ? { plugins: operators, interpret } : undefined;
  await using opened = new AsyncDisposableStack();
  const processors: WorkingPlugin[] = [];
  for (const processor of ofKind('processor')) processors.push(opened.use(await plug(processor)));
  let model = await walls.load({ ...request, plugins: inGuest(undefined) });
  opened.defer(() => model.close());
  let why: string | undefined;
  if (policy !== undefined) {
    await using asked = await plug(policy);
    const backends = model.backend === 'native' ? ['native', 'reference'] : ['reference'];
    const { backend, failure } = await asked.choose(model.summary, backends);
    if (backend !== model.backend) {
      await model.close();
      model = await walls.load({ ...request, plugins: inGuest(`the policy ${asked.id} chose it`) });
    }
    why =
      failure === undefined
        ? `${model.why}; ${asked.id} chose it`
        : `${model.why}; the policy ${asked.id} failed (${failure.code})`;
  }
  if (processors.length === 0 && why === undefined) {
    opened.move();
    return model;
  }
  return new PluggedModel(model, processors, why, opened.move());
}

/** A model whose inputs and outputs go through processors. */
class PluggedModel implements SandboxedModel {
  readonly #model: SandboxedModel;
  readonly #processors: readonly WorkingPlugin[];
  readonly #why: string | undefined;
  readonly #resources: AsyncDisposableStack;

  constructor(
    model: SandboxedModel,
    processors: readonly WorkingPlugin[],
    why: string | undefined,
    resources: AsyncDisposableStack,
  ) {
    this.#model = model;
    this.#processors = processors;
    this.#why = why;
    this.#resources = resources;
  }

  get name(): string {
    return this.#model.name;
  }

  get tenant(): string {
    return this.#model.tenant;
  }

  get summary(): SandboxedModel['summary'] {
    return this.#model.summary;
  }

  get backend(): SandboxedModel['backend'] {
    return this.#model.backend;
  }

  get why(): string {
    return this.#why ?? this.#model.why;
  }

  get digest(): string {
    return this.#model.digest;
  }

  get dims(): SandboxedModel['dims'] {
    return this.#model.dims;
  }

  get memory(): SandboxedModel['memory'] {
    return this.#model.memory;
  }

  async run(inputs: NamedTensors, options: RunOptions = {}): Promise<NamedTensors> {
    let values = await this.#model.run(await this.#before(inputs), options);
    for (const processor of this.#processors.toReversed()) values = await processor.map('after', values);
    return values;
  }

  reload(model: Uint8Array, options?: ReloadOptions): Promise<void> {
    return this.#model.reload(model, options);
  }

  health(): ModelHealth {
    return this.#model.health();
  }

  show(form: Parameters<SandboxedModel['show']>[0]): Promise<string> {
    return this.#model.show(form);
  }

  async profile(inputs: NamedTensors, options?: ProfileRunOptions): Promise<Profile> {
    return await this.#model.profile(await this.#before(inputs), options);
  }

  passes(): ReturnType<SandboxedModel['passes']> {
    return this.#model.passes();
  }

  async close(): Promise<void> {
    await this.#resources.disposeAsync();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #before(inputs: NamedTensors): Promise<NamedTensors> {
    let values = inputs;
    for (const processor of this.#processors) values = await processor.map('before', values);
    return values;
  }
}
