/**
 * What a client has to know of a plan: parameters, packing, keys and the head; nothing of the weights. Pure.
 * @module
 */
import { CloisterError, canonicalJson, encodeUtf8, type Json } from '../../src/base/index.ts';
import { sha256 } from '../../src/base/sha256.ts';
import * as z from '../../src/base/zod.ts';
import type { HeParameters } from './plan/parameters.ts';
import type { HePlan, Port } from './plan/plan.ts';
import { contextPrimes } from './primes.ts';
import { assertSecure } from './security.ts';

/** A step that the client computes after decryption, on each row of the answer. */
export interface HeadStep {
  readonly op: 'Softmax' | 'LogSoftmax' | 'Sigmoid' | 'ArgMax';
}

/** The client's part of a plan. Plain JSON; `parseClientPlan` checks one that a server sent. */
export interface ClientPlan {
  readonly v: 1;
  readonly degree: number;
  readonly bits: readonly number[];
  readonly scaleBits: number;
  readonly inputs: readonly ClientPort[];
  /** Outputs, with the scale of their ciphertexts. */
  readonly outputs: readonly (ClientPort & { readonly scale: number })[];
  readonly rotations: readonly number[];
  readonly relinearises: boolean;
  readonly head: readonly HeadStep[];
  /** `sha256:` and 64 hexadecimal digits: the model, as the server names it. */
  readonly model: string;
  /** The error that the plan predicts for an output, in the unit of the output. */
  readonly error: number;
}

/** A {@link Port} as JSON. */
export interface ClientPort {
  readonly name: string;
  readonly shape: readonly number[];
  readonly period: number;
  readonly place: readonly number[];
  readonly gather?: readonly number[] | undefined;
}

const size = z.number().int().min(1).max(1_048_576);
const slot = z.number().int().min(0).max(16_383);
const port = {
  name: z.string().min(1).max(256),
  shape: z.array(size).max(8),
  period: z
    .number()
    .int()
    .refine(period => period >= 1 && period <= 16_384 && Number.isInteger(Math.log2(period)), 'a power of two'),
  place: z.array(slot).min(1).max(16_384),
  gather: z.array(z.number().int().min(-1).max(1_048_575)).max(16_384).optional(),
};

const schema: z.ZodType<ClientPlan> = z.strictObject({
  v: z.literal(1),
  degree: z.union([z.literal(4096), z.literal(8192), z.literal(16_384), z.literal(32_768)]),
  bits: z.array(z.number().int().min(20).max(60)).min(2).max(40),
  scaleBits: z.number().int().min(20).max(50),
  inputs: z.array(z.strictObject(port)).min(1).max(16),
  outputs: z
    .array(
      z.strictObject({
        ...port,
        scale: z
          .number()
          .positive()
          .max(2 ** 120),
      }),
    )
    .min(1)
    .max(16),
  rotations: z.array(z.number().int().min(1).max(16_383)).max(1024),
  relinearises: z.boolean(),
  head: z.array(z.strictObject({ op: z.enum(['Softmax', 'LogSoftmax', 'Sigmoid', 'ArgMax']) })).max(4),
  model: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  error: z.number().nonnegative(),
});

/**
 * Checks a plan that came from elsewhere. A client that follows it encrypts under parameters that it has found secure by itself.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when it does not fit its schema or contradicts itself; `HE_INSECURE_PARAMETERS`.
 */
export function parseClientPlan(input: unknown): ClientPlan {
  const result = schema.safeParse(input);
  if (!result.success)
    throw new CloisterError('HE_INVALID_MESSAGE', `a plan does not fit its schema: ${z.prettifyError(result.error)}`);
  const plan = result.data;
  assertSecure(
    plan.degree,
    plan.bits.reduce((sum, bits) => sum + bits, 0),
  );
  const slots = plan.degree / 2;
  for (const { name, shape, period, place, gather } of [...plan.inputs, ...plan.outputs] as readonly ClientPort[]) {
    const elements = shape.reduce((all, extent) => all * extent, 1);
    const fits =
      period <= slots &&
      place.every(at => at < period) &&
      new Set(place).size === place.length &&
      place.length === (gather?.length ?? elements) &&
      (gather ?? []).every(from => from < elements);
    if (!fits) throw new CloisterError('HE_INVALID_MESSAGE', `the packing of ${name} contradicts itself`, { name });
  }
  if (plan.rotations.some((steps, i) => steps >= slots || (i > 0 && steps <= plan.rotations[i - 1]!)))
    throw new CloisterError('HE_INVALID_MESSAGE', 'rotations are distinct, ascending and below the number of slots');
  return plan;
}

/** The client's part of `plan`. */
export function clientPlanOf(
  plan: HePlan,
  about: { readonly model: string; readonly head: readonly HeadStep[]; readonly error: number },
): ClientPlan {
  const { degree, bits, scale } = plan.parameters;
  return {
    v: 1,
    degree,
    bits,
    scaleBits: Math.log2(scale),
    inputs: plan.inputs.map(portOf),
    outputs: plan.outputs.map(output => ({ ...portOf(output), scale: plan.steps[output.cipher]!.scale })),
    rotations: plan.rotations,
    relinearises: plan.relinearises,
    ...about,
  };
}

function portOf({ name, shape, layout, gather }: Port): ClientPort {
  const { period, place } = layout;
  return { name, shape, period, place: [...place], ...(gather && { gather: [...gather] }) };
}

/** The parameters that a plan names. */
export function parametersOf({ degree, bits, scaleBits }: ClientPlan): HeParameters {
  return {
    scheme: 'ckks',
    degree,
    bits,
    primes: contextPrimes(degree, bits),
    scale: 2 ** scaleBits,
    levels: bits.length - 2,
  };
}

/** A port of the client's plan as packing needs it. */
export function toPort({ name, shape, period, place, gather }: ClientPort): Port {
  return {
    name,
    shape,
    layout: { period, place: Int32Array.from(place), clean: false },
    ...(gather && { gather: Int32Array.from(gather) }),
  };
}

/** What both sides put on their messages: equal digests mean equal parameters, packing and model. */
export function planDigest(plan: ClientPlan): Uint8Array {
  return sha256(encodeUtf8(canonicalJson(plan as unknown as Json)));
}
