/**
 * The pipeline: the only place that knows the order of stages. Each stage takes the type that the one before returns, and no
 * other code can make a value of those types, so the order cannot be swapped.
 *
 * ```
 * Decoded ─▶ Planned ─▶ Reserved ─▶ Computed ─▶ Released ─▶ Recorded ─▶ reply
 * ```
 *
 * What the budget refuses skips from `reserve` to `Recorded`: a refusal is recorded before the caller hears of it. What throws is
 * recorded as a failure, with its code and nothing else.
 * @module
 */
import type { Charge, Ledger, Refusal, Replay } from '../../privacy/budget/index.ts';
import type { AdditiveMechanism, Noised, Prediction, Private, Rho, Statistic } from '../../privacy/dp/index.ts';
import type { AuditEvent, AuditLog, PersonalData, Receipt } from '../../sandbox/audit/index.ts';
import type { PluginKind, ProfileRunOptions, SandboxedModel } from '../../sandbox/index.ts';
import {
  CloisterError,
  canonicalJson,
  decodeUtf8,
  encodeUtf8,
  type Json,
  type Measure,
  type MicroEpsilon,
  osRandom,
  spendOf,
} from '../base/index.ts';
import type { NamedTensors, Profile, RequestOptions, ServedExecutable } from '../engine/index.ts';
import type { LabelledColumns, LabelledRow } from '../graph/index.ts';
import { toMaps } from '../graph/maps.ts';
import type { Transaction } from '../store/index.ts';
import { type BufferDType, Tensor } from '../tensor/index.ts';
import { decodeInputs, type InputValues } from './inputs.ts';
import { commitOutputs, commitProfile } from './output-commitment.ts';
import type { Policy } from './policy.ts';
import { startSha256 } from './sha256.ts';

/** One record of a release: whose it is, and what the model is run on. */
export interface ReleaseRecord {
  /** Names the person (or other unit) whose records these are. Compared as it is; never recorded. */
  readonly subject: string;
  readonly inputs: InputValues;
}

/** Who asks, and why. Recorded as given. */
export interface Origin {
  readonly actor: string;
  readonly purpose: string;
  /** Joins the records of one request in the log. */
  readonly request: string;
  /** Trace id of the caller, where there is one. */
  readonly trace?: string;
  /** The person whom a run is about. */
  readonly personal?: PersonalData;
}

/** A request for a statistic over records. */
export interface ReleaseRequest {
  readonly records: Iterable<ReleaseRecord> | AsyncIterable<ReleaseRecord>;
  readonly statistic: Statistic;
  /** Pure differential-privacy loss: Laplace noise. This or `rho`. */
  readonly epsilon?: number;
  /** zCDP loss: Gaussian noise. For scopes that count in `zcdp`, `rdp`, `gdp` (as mu squared, twice as much) or, with `delta`, `approx`. */
  readonly rho?: number;
  /** In an `approx` scope: the delta at which `rho` is charged. */
  readonly delta?: number;
  readonly scope: string;
  /** The blocks of data that `records` come from, where the scope has limits by block. */
  readonly blocks?: readonly string[];
  /**
   * Names these data, as they are now: a version, a digest. An answer to the same request on them that was released before is given
   * again, free.
   */
  readonly dataset?: string;
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
}

/** What the stages work with. */
export interface PipelineContext {
  readonly policy: Policy;
  /** `sha256:…` of the policy's canonical spelling. */
  readonly policyDigest: string;
  /** The layers of protection that are active. */
  readonly layers: readonly string[];
  readonly ledger: Ledger;
  readonly log: AuditLog;
  /** Writes the head of the log into a transaction of the store: the anchor against rollback. */
  readonly anchor: (tx: Transaction) => Promise<void>;
  readonly model: SandboxedModel;
  /**
   * The model behind the scheduler, where there is one: what runs go through. Releases do not: a record whose run was refused would be
   * missing from the statistic without a word.
   */
  readonly served?: ServedExecutable;
  /** `sha256:…` of the model file. */
  readonly modelDigest: string;
  readonly plugins: readonly LoadedPlugin[];
  /** Aborted when the model or its cloister is being closed. */
  readonly closed: AbortSignal;
}

/** A plugin that a model was loaded with. */
export interface LoadedPlugin {
  /** Name and version. */
  readonly id: string;
  readonly kind: PluginKind;
  /** `sha256:…` of the package. */
  readonly digest: string;
}

/** What a run is told beside who asks. */
export type RunRequest = Pick<RequestOptions, 'priority' | 'timeoutMs' | 'signal'>;

declare const stage: unique symbol;

interface Stage<Name extends string> {
  readonly [stage]: Name;
}

type Work =
  | { readonly kind: 'run'; readonly inputs: NamedTensors; readonly request: RunRequest }
  | { readonly kind: 'profile'; readonly inputs: NamedTensors; readonly options: ProfileRunOptions }
  | { readonly kind: 'release'; readonly request: ReleaseRequest; readonly loss: Loss };

/** How much a release may tell, and so which noise it gets. */
type Loss = { readonly epsilon: MicroEpsilon } | { readonly rho: Rho };

/** The request has the right form. For a run, its inputs are tensors of the model's types. */
export interface Decoded extends Stage<'Decoded'> {
  readonly origin: Origin;
  readonly work: Work;
}

/** The policy allows it, and says under which rule it may leave. */
export interface Planned extends Stage<'Planned'> {
  readonly decoded: Decoded;
  /** For a release: what makes it the same request, and what adds its noise. */
  readonly rule: { readonly requestDigest: string; readonly mechanism: AdditiveMechanism } | undefined;
}

/** What it costs is durably charged (or nothing is). From here on, private bytes may be read. */
export interface Reserved extends Stage<'Reserved'> {
  readonly planned: Planned;
  readonly hold: Charge | Replay | undefined;
}

/** The model has run. `raw` never leaves this module but through {@link release}. */
export interface Computed extends Stage<'Computed'> {
  readonly reserved: Reserved;
  readonly raw:
    | { readonly kind: 'outputs'; readonly outputs: NamedTensors }
    | { readonly kind: 'profile'; readonly profile: Profile }
    | { readonly kind: 'answer'; readonly answer: Private<readonly number[]> }
    | { readonly kind: 'replay'; readonly replay: Replay };
}

/** What may leave exists, and the raw result is gone. For a release, the noised bytes are durable. */
export interface Released extends Stage<'Released'> {
  readonly origin: Origin;
  readonly outcome: // The salt opens the record's commitment to the outputs; the caller alone gets it.
    | {
        readonly kind: 'outputs';
        readonly outputs: NamedTensors;
        readonly maps: OutputMaps;
        readonly salt: Buffer;
      }
    | { readonly kind: 'profile'; readonly profile: Profile; readonly salt: Buffer }
    | {
        readonly kind: 'released';
        readonly scope: string;
        readonly mechanism: string;
        readonly bytes: Uint8Array;
        readonly replayed: boolean;
      };
}

/** The log has it, durably. The only thing that {@link reply} takes. */
export interface Recorded extends Stage<'Recorded'> {
  readonly receipt: Receipt;
  readonly outcome: Released['outcome'] | { readonly kind: 'refused'; readonly refusal: Refusal };
}

/** What outputs with labelled columns say, by name: one map from label to score for each row. */
export type OutputMaps = Readonly<Record<string, readonly LabelledRow[]>>;

/** The answer to a run. The caller owns the tensors. */
export interface RunReply {
  readonly outputs: NamedTensors;
  /** The outputs that stand for maps (`summary.outputs` has their labels), once more as maps. */
  readonly maps: OutputMaps;
  /** Opens the record's commitment to the outputs, see `verifyOutputs`. Hexadecimal; kept nowhere else. */
  readonly outputSalt: string;
  readonly receipt: Receipt;
}

/** The answer to a request for a profile. */
export interface ProfileReply {
  readonly profile: Profile;
  /** Opens the record's commitment to the profile. Hexadecimal; kept nowhere else. */
  readonly profileSalt: string;
  readonly receipt: Receipt;
}

/** The answer to a release: a noised value, or a refusal by the budget. Both are recorded, and have a receipt. */
export type ReleaseReply =
  | (Noised<readonly number[]> & {
      readonly scope: string;
      /** Whether this is the stored answer to an earlier request with the same key. */
      readonly replayed: boolean;
      readonly receipt: Receipt;
    })
  | (Refusal & { readonly receipt: Receipt });

/**
 * Stage 1 of a run.
 *
 * @throws {CloisterError} `INPUT_MISMATCH`, `DTYPE_MISMATCH`, `SHAPE_MISMATCH`, `INVALID_ARGUMENT`, as {@link decodeInputs}.
 */
export function decodeRun(
  context: PipelineContext,
  inputs: InputValues,
  origin: Origin,
  request: RunRequest = {},
): Decoded {
  const { priority, timeoutMs } = request;
  if (!context.served && (priority ?? timeoutMs) !== undefined) {
    const message = 'priority and timeoutMs need a scheduler: open the cloister with the option scheduling';
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  const tensors = decodeInputs(inputs, context.model.summary.inputs);
  return { origin, work: { kind: 'run', inputs: tensors, request } } as Decoded;
}

/**
 * Stage 1 of a profile.
 *
 * @throws {CloisterError} as {@link decodeRun}.
 */
export function decodeProfile(
  context: PipelineContext,
  inputs: InputValues,
  options: ProfileRunOptions,
  origin: Origin,
): Decoded {
  const tensors = decodeInputs(inputs, context.model.summary.inputs);
  return { origin, work: { kind: 'profile', inputs: tensors, options } } as Decoded;
}

/**
 * Stage 1 of a release. Looks at parameters alone: no record is read. The request is copied: what the caller changes in it
 * later changes nothing here.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` on an epsilon that is no amount; `INVALID_ARGUMENT` on records that cannot be
 *   iterated, or something that is no statistic.
 */
export function decodeRelease(given: ReleaseRequest, origin: Origin): Decoded {
  const request = Object.freeze({ ...given });
  const { records, statistic } = request;
  const loss = lossOf(request);
  const iterable =
    typeof records === 'object' && records !== null && (Symbol.asyncIterator in records || Symbol.iterator in records);
  if (!iterable)
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `records: expected an (async) iterable of { subject, inputs }, got ${typeof records}`,
    );
  if (typeof statistic?.start !== 'function' || typeof statistic.schema !== 'object') {
    const message = `statistic: expected one made by histogram or count, got ${statistic === null ? 'null' : typeof statistic}`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  return { origin, work: { kind: 'release', request, loss } } as Decoded;
}

/**
 * Stage 2: the policy.
 *
 * @throws {CloisterError} `POLICY_REFUSED` when raw outputs may not leave, or a release goes through plugins; `UNKNOWN_SCOPE`; `UNSUPPORTED_MODEL`,
 *   `SHAPE_MISMATCH` when the statistic is not one of this model's output; `GUEST_FAILED`, `LIMIT_EXCEEDED` … when a release is
 *   asked of a model that does not even run on zeros; `ABORTED`.
 */
export async function plan(context: PipelineContext, decoded: Decoded): Promise<Planned> {
  const { work } = decoded;
  if (work.kind !== 'release') {
    if (context.policy.rawOutputs === 'refuse') {
      const what = work.kind === 'run' ? 'raw outputs' : 'profiles, whose times depend on the inputs,';
      throw new CloisterError(
        'POLICY_REFUSED',
        `${what} may not leave under this policy: set rawOutputs to 'allow', or release a statistic`,
      );
    }
    return { decoded, rule: undefined } as unknown as Planned;
  }
  const { request, loss } = work;
  if (!Object.hasOwn(context.policy.budgets, request.scope)) {
    const scopes = Object.keys(context.policy.budgets);
    const message = `expected a scope of the policy (${scopes.join(', ') || 'it has none'}), got ${JSON.stringify(String(request.scope).slice(0, 200))}`;
    throw new CloisterError('UNKNOWN_SCOPE', message, { scopes });
  }
  // Code that sees every record can carry something from one to the next, and then no bound on what one of them changes holds.
  const carrier = context.plugins.find(({ kind }) => kind !== 'policy');
  if (carrier !== undefined) {
    const message = `a model with the plugin ${carrier.id} makes no releases: load it without operators and processors of plugins`;
    throw new CloisterError('POLICY_REFUSED', message, { plugin: carrier.id });
  }
  const { statistic } = request;
  checkOutputs(context.model, statistic);
  const mechanism = await mechanismOf(statistic, loss, context.policy.budgets[request.scope]?.measure);
  await probe(context.model);
  if (request.signal?.aborted) throw new CloisterError('ABORTED', 'the release was cancelled; nothing was charged');
  const canonical = canonicalJson({
    model: context.modelDigest,
    statistic: statistic.schema,
    scope: request.scope,
    ...('epsilon' in loss ? { cost: loss.epsilon } : { rho: loss.rho }),
    ...(request.blocks && { blocks: [...new Set(request.blocks)].sort() }),
    ...(request.dataset !== undefined && { dataset: request.dataset }),
    ...(Object.keys(context.model.dims ?? {}).length > 0 && { dims: { ...context.model.dims } }),
  });
  const requestDigest = startSha256().update(canonical).digest('hex');
  return { decoded, rule: { requestDigest, mechanism } } as unknown as Planned;
}

/**
 * Stage 3: the charge, durable in the ledger and in the log; or the recorded refusal. Under a log that takes no more records
 * nothing is charged; when it fails between the two, the charge stays spent and its key is told so.
 */
export async function reserve(context: PipelineContext, planned: Planned): Promise<Reserved | Recorded> {
  const { origin, work } = planned.decoded;
  const { rule } = planned;
  if (work.kind !== 'release' || !rule) return { planned, hold: undefined } as unknown as Reserved;
  const { request } = work;
  const budget = context.policy.budgets[request.scope];
  const hold = await context.ledger.spend(
    {
      scope: request.scope,
      event: rule.mechanism.event,
      requestDigest: rule.requestDigest,
      sameAnswer: request.dataset !== undefined,
      ...(request.delta !== undefined && { delta: request.delta }),
      ...(request.blocks && { blocks: request.blocks }),
      ...(budget?.perTenant && { tenant: origin.actor }),
      ...(request.idempotencyKey !== undefined && { idempotencyKey: request.idempotencyKey }),
    },
    {
      within: async tx => {
        assertUnclosed(context);
        context.log.assertOpen();
        await context.anchor(tx);
      },
    },
  );
  if (hold.kind === 'refused') {
    const receipt = await context.log.append({
      ...eventOf(context, origin),
      action: 'refuse',
      object: { kind: 'scope', id: hold.scope },
      decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' },
      budget: { ...budgetOf(hold), before: hold.spentAfter, after: hold.spentAfter },
      commitments: { ledger: `sha256:${hold.entryDigest}` },
    });
    return { receipt, outcome: { kind: 'refused', refusal: hold } } as unknown as Recorded;
  }
  const reserved = { planned, hold } as unknown as Reserved;
  if (hold.kind === 'charged') {
    try {
      await context.log.append({
        ...eventOf(context, origin),
        action: 'charge',
        object: { kind: 'scope', id: hold.scope },
        decision: { outcome: 'allow' },
        budget: { ...budgetOf(hold), before: hold.spentBefore, after: hold.spentAfter },
        commitments: { ledger: `sha256:${hold.entryDigest}` },
      });
    } catch (error) {
      await abandon(context, reserved).catch(() => undefined);
      throw error;
    }
  }
  return reserved;
}

/**
 * Stage 4: the model runs. For a release, a record that fails contributes nothing (`docs/adr/0007-silent-records.md`).
 *
 * @throws {CloisterError} for a run, what the sandbox throws and what the scheduler refuses with; for a release, `ABORTED`, `CLOSED` when the model is closed meanwhile
 *   (the rest of the records would silently be missing), and whatever the iterable throws.
 */
export async function compute(context: PipelineContext, reserved: Reserved): Promise<Computed> {
  const { work, origin } = reserved.planned.decoded;
  if (work.kind === 'run') {
    const { inputs, request } = work;
    const { model, served } = context;
    const outputs = served
      ? await served.run(inputs, { ...request, tenant: origin.actor })
      : await model.run(inputs, request.signal ? { signal: request.signal } : {});
    return { reserved, raw: { kind: 'outputs', outputs } } as unknown as Computed;
  }
  if (work.kind === 'profile') {
    const profile = await context.model.profile(work.inputs, work.options);
    return { reserved, raw: { kind: 'profile', profile } } as unknown as Computed;
  }
  if (reserved.hold?.kind === 'replay')
    return { reserved, raw: { kind: 'replay', replay: reserved.hold } } as unknown as Computed;
  const { request } = work;
  const { statistic } = request;
  const tally = statistic.start();
  const assertGoing = (): void => {
    assertUnclosed(context);
    if (request.signal?.aborted)
      throw new CloisterError('ABORTED', 'the release was cancelled; its charge stays spent');
  };
  const admits = admission(context, reserved.hold as Charge);
  const going = AbortSignal.any([context.closed, ...(request.signal ? [request.signal] : [])]);
  for await (const entry of request.records) {
    assertGoing();
    const { subject, prediction } = await predict(context.model, entry, going);
    assertGoing(); // a model that was closed under a record has not failed on it
    if (await admits(subject)) statistic.accumulate(tally, subject as string, prediction);
  }
  assertGoing();
  return { reserved, raw: { kind: 'answer', answer: statistic.finish(tally) } } as unknown as Computed;
}

/**
 * Where a request ends that failed between its charge and its release: the charge stays spent, and a request that waits for the
 * same key is told so at once.
 */
export async function abandon(context: PipelineContext, reserved: Reserved): Promise<void> {
  if (reserved.hold?.kind === 'charged') await context.ledger.forfeit(reserved.hold);
}

/** Stage 5: noise is added, once, and the noised bytes become durable. */
export async function release(context: PipelineContext, computed: Computed): Promise<Released> {
  const { planned, hold } = computed.reserved;
  const { origin } = planned.decoded;
  const { raw } = computed;
  if (raw.kind === 'outputs') {
    const maps = mapsOf(context.model, raw.outputs);
    return { origin, outcome: { ...raw, maps, salt: newSalt() } } as unknown as Released;
  }
  if (raw.kind === 'profile') return { origin, outcome: { ...raw, salt: newSalt() } } as unknown as Released;
  if (raw.kind === 'replay') {
    const { scope, output } = raw.replay;
    const mechanism = planned.rule!.mechanism.event.kind;
    const outcome = { kind: 'released', scope, mechanism, bytes: output, replayed: true } as const;
    return { origin, outcome } as unknown as Released;
  }
  const charge = hold as Charge;
  const { mechanism } = planned.rule!;
  const noised = mechanism.release(raw.answer);
  const bytes = encodeUtf8(canonicalJson(noised as unknown as Json));
  await context.ledger.release(charge, bytes, { within: context.anchor });
  const { scope } = charge;
  const outcome = { kind: 'released', scope, mechanism: mechanism.event.kind, bytes, replayed: false } as const;
  return { origin, outcome } as unknown as Released;
}

/** Stage 6: the leaf is durable, and the receipt exists. */
export async function record(context: PipelineContext, released: Released): Promise<Recorded> {
  const { origin, outcome } = released;
  const common = { ...eventOf(context, origin), decision: { outcome: 'allow' } as const };
  const receipt = await context.log.append({ ...common, ...entryOf(context, outcome) }, { personal: origin.personal });
  return { receipt, outcome } as unknown as Recorded;
}

function entryOf(
  context: PipelineContext,
  outcome: Released['outcome'],
): Pick<AuditEvent, 'action' | 'object' | 'commitments' | 'measures' | 'output' | 'mechanism'> {
  const object = { kind: 'model', id: context.modelDigest } as const;
  switch (outcome.kind) {
    case 'outputs':
      return { action: 'run', object, commitments: { output: commitOutputs(outcome.outputs, outcome.salt) } };
    case 'profile': {
      const commitments = { profile: commitProfile(outcome.profile, outcome.salt) };
      return { action: 'run', object, commitments, measures: { calls: outcome.profile.runs + 1 } };
    }
    case 'released': {
      const output = digestOf(outcome.bytes);
      return {
        action: 'release',
        object: { kind: 'scope', id: outcome.scope },
        output,
        mechanism: outcome.mechanism,
      };
    }
    default:
      return outcome satisfies never;
  }
}

/** The last step: what the caller gets. */
export function reply(recorded: Recorded): RunReply | ProfileReply | ReleaseReply {
  const { outcome, receipt } = recorded;
  if (outcome.kind === 'outputs') {
    const { outputs, maps, salt } = outcome;
    return { outputs, maps, outputSalt: salt.toString('hex'), receipt };
  }
  if (outcome.kind === 'profile')
    return { profile: outcome.profile, profileSalt: outcome.salt.toString('hex'), receipt };
  if (outcome.kind === 'refused') return { ...outcome.refusal, receipt };
  const noised = JSON.parse(decodeUtf8(outcome.bytes)) as Noised<readonly number[]>;
  return { ...noised, scope: outcome.scope, replayed: outcome.replayed, receipt };
}

/** What every record of a request says. */
export function eventOf(
  { policy, policyDigest, layers, model, modelDigest, plugins }: PipelineContext,
  { actor, purpose, request, trace }: Origin,
): Omit<AuditEvent, 'action' | 'object' | 'decision'> {
  return {
    actor,
    purpose,
    request,
    ...(trace !== undefined && { trace }),
    policy: policyDigest,
    model: modelDigest,
    ...(plugins.length > 0 && { plugins: plugins.map(plugin => plugin.digest) }),
    isolation: policy.isolation,
    layers,
    backend: model.backend,
  };
}

/** @throws {CloisterError} `CLOSED` when the model or its cloister is closed, or being closed. */
export function assertUnclosed({ closed }: PipelineContext): void {
  if (closed.aborted) throw new CloisterError('CLOSED', 'the model is closed');
}

/**
 * A statistic is of one output; a model with several has to be cut first. And where it is of scores, the output must be able
 * to hold as many: otherwise every record would fail, silently, after the charge.
 */
function checkOutputs(model: SandboxedModel, statistic: Statistic): void {
  const { outputs } = model.summary;
  const names = outputs.map(output => output.name);
  if (names.length !== 1) {
    throw new CloisterError(
      'UNSUPPORTED_MODEL',
      `a statistic needs a model with one output, this one has ${names.length}: ${names.join(', ')}`,
    );
  }
  const classes = statistic.schema['classes'] ?? statistic.schema['length'];
  if (typeof classes !== 'number') return;
  const { shape } = outputs[0]!;
  const fixed = shape.reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : product), 1);
  if (classes % fixed === 0 && (classes === fixed || shape.some(dim => typeof dim === 'string'))) return;
  const message = `the statistic is over ${classes} ${'classes' in statistic.schema ? 'classes' : 'elements'}, and the model's output ${names[0]} is [${shape.join(',')}]`;
  throw new CloisterError('SHAPE_MISMATCH', message, { classes, shape });
}

/** What a record says of a scope, whatever was done to it. */
function budgetOf({ scope, limitScalar, measure }: Charge | Refusal): {
  scope: string;
  limit: number;
  measure: Measure;
} {
  return { scope, limit: limitScalar, measure };
}

/**
 * How much a release is asked to tell.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` unless it is an epsilon or a rho in range.
 */
function lossOf({ epsilon, rho }: ReleaseRequest): Loss {
  if ((epsilon === undefined) === (rho === undefined)) {
    const came = epsilon === undefined ? 'neither' : 'both';
    throw new CloisterError('DP_INVALID_PARAMETER', `a release is asked for with epsilon or with rho, got ${came}`);
  }
  if (rho === undefined) return { epsilon: spendOf(epsilon as number) };
  if (typeof rho !== 'number' || !(rho >= 2 ** -60 && rho <= 1e6)) {
    const came = typeof rho === 'number' ? String(rho) : typeof rho;
    throw new CloisterError('DP_INVALID_PARAMETER', `rho is a number from 2^-60 to 1e6, got ${came}`);
  }
  return { rho: rho as Rho };
}

/** What adds the noise: Laplace for an epsilon, Gaussian for a rho. Only losses of continuous Gaussian noise add up in mu squared. */
async function mechanismOf(statistic: Statistic, loss: Loss, measure: Measure | undefined): Promise<AdditiveMechanism> {
  const { gaussianMechanism, laplaceMechanism, roundedGaussianMechanism } = await import('../../privacy/dp/index.ts');
  const { sensitivity, squaredL2Sensitivity, cells, grid } = statistic;
  if ('epsilon' in loss) return laplaceMechanism({ sensitivity, cells, grid, cost: loss.epsilon });
  // A float is up to half an ulp above the decimal that it was written as; by an ulp less, it costs what was written and no unit more.
  const rho = Math.max(2 ** -60, loss.rho * (1 - 2 ** -52)) as Rho;
  const gaussian = measure === 'gdp' ? roundedGaussianMechanism : gaussianMechanism;
  return gaussian({ squaredL2Sensitivity, cells, grid, rho });
}

/**
 * Whether a subject still has budget of its own, where the policy gives each some. Each subject is debited once for a charge. Those
 * who have nothing left contribute nothing, and nobody is told.
 */
function admission({ policy, ledger }: PipelineContext, charge: Charge): (subject: unknown) => Promise<boolean> {
  if (policy.budgets[charge.scope]?.perSubject === undefined) return async () => true;
  const asked = new Map<string, boolean>();
  return async subject => {
    if (typeof subject !== 'string') return true; // no statistic counts it
    const known = asked.get(subject);
    if (known !== undefined) return known;
    const [admitted = false] = await ledger.admit(charge, [subject]);
    asked.set(subject, admitted);
    return admitted;
  };
}

/**
 * Runs the model on zeros: whatever can fail without private data shall fail before anything is charged for it. Symbolic
 * dimensions are 1.
 */
async function probe(model: SandboxedModel): Promise<void> {
  const zeros = model.summary.inputs.map(({ name, dtype, shape }) => {
    const sizes = shape.map(dim => (typeof dim === 'number' ? dim : 1));
    return [name, Tensor.zeros(dtype, sizes)] as const;
  });
  await model.run(Object.fromEntries(zeros), {});
}

/**
 * Whose the record is, and the elements of the model's one output for it; `undefined` where the record or the model fails: an
 * error would tell about the record.
 */
async function predict(
  model: SandboxedModel,
  record: ReleaseRecord,
  signal: AbortSignal,
): Promise<{ readonly subject: unknown; readonly prediction: Prediction | undefined }> {
  let subject: unknown;
  try {
    subject = record.subject;
    // Whether this record is answered must not depend on what another one did to the model.
    const outputs = await model.run(decodeInputs(record.inputs, model.summary.inputs), { independent: true, signal });
    const output = Object.values(outputs)[0];
    // A label in words is no number to aggregate: the record contributes nothing.
    return { subject, prediction: output?.dtype === 'string' ? undefined : (output as Tensor<BufferDType>)?.values() };
  } catch {
    return { subject, prediction: undefined };
  }
}

/** The outputs that stand for maps. Where an output has not the shape that its labels need, the tensor alone is given. */
function mapsOf(model: SandboxedModel, outputs: NamedTensors): OutputMaps {
  const labelled = model.summary.outputs.flatMap(({ name, labels }) => {
    const tensor = outputs[name];
    if (labels === undefined || tensor?.shape.at(-1) !== labels.length || tensor.shape.length > 2) return [];
    return [[name, toMaps(tensor, { labels } as LabelledColumns)] as const];
  });
  return Object.fromEntries(labelled);
}

/** `sha256:…` over the parts in order. */
export function digestOf(...parts: readonly (string | Uint8Array)[]): string {
  const hash = startSha256();
  for (const part of parts) hash.update(part);
  return `sha256:${hash.digest('hex')}`;
}

function newSalt(): Buffer {
  const salt = Buffer.alloc(16);
  osRandom.fill(salt);
  return salt;
}
