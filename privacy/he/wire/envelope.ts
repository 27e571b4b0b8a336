/**
 * What client and server send each other. Pure.
 *
 * | offset | bytes | content |
 * |---|---|---|
 * | 0 | 4 | `CHE1` |
 * | 4 | 1 | kind: 1 keys, 2 request, 3 reply |
 * | 5 | 32 | digest of the client's part of the plan: parameters, packing, model |
 * | 37 | 16 | session |
 * | 53 | 8 | number of the request in its session, from 1; 0 for keys |
 * | 61 | | parts, one after the other, of the lengths that the plan says: nothing is left to the sender |
 *
 * All numbers are little-endian. A message has exactly one length: any other is refused before anything else is looked at.
 * @module
 */
import { CloisterError, concatBytes, decodeUtf8, encodeUtf8, equalBytes } from '../../../src/base/index.ts';

const MAGIC = encodeUtf8('CHE1');
/** Bytes before the parts. */
export const ENVELOPE_BYTES = 61;
/** Bytes of the name of a session. */
export const SESSION_BYTES = 16;

const KINDS = { keys: 1, request: 2, reply: 3 } as const;

/** Kinds of message. */
export type MessageKind = keyof typeof KINDS;

/** Who sends what, for which plan. */
export interface Envelope {
  readonly kind: MessageKind;
  /** SHA-256 of what both sides have agreed on, 32 bytes. */
  readonly plan: Uint8Array;
  readonly session: Uint8Array;
  readonly number: number;
}

export function sealEnvelope({ kind, plan, session, number }: Envelope, parts: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(ENVELOPE_BYTES);
  head.set(MAGIC);
  head[4] = KINDS[kind];
  head.set(plan, 5);
  head.set(session, 37);
  new DataView(head.buffer).setBigUint64(53, BigInt(number), true);
  return concatBytes(head, ...parts);
}

/**
 * Opens a message of one kind for one plan.
 *
 * @param lengths - Bytes of each part, which follow from the plan.
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when it is of another length, kind, version or plan.
 */
export function openEnvelope(
  message: Uint8Array,
  expected: Pick<Envelope, 'kind' | 'plan'>,
  lengths: readonly number[],
): { readonly session: Uint8Array; readonly number: number; readonly parts: readonly Uint8Array[] } {
  const size = lengths.reduce((sum, length) => sum + length, ENVELOPE_BYTES);
  if (!(message instanceof Uint8Array) || message.length !== size)
    throw invalid(`a message of ${size} bytes is due, got ${message?.length ?? typeof message}`);
  if (!equalBytes(message.subarray(0, 4), MAGIC)) throw invalid(`not a message of version 1: ${printable(message)}`);
  if (message[4] !== KINDS[expected.kind])
    throw invalid(`a message of kind ${expected.kind} is due, got kind ${message[4]}`);
  if (!equalBytes(message.subarray(5, 37), expected.plan))
    throw invalid('the message is for another model, or for other parameters: fetch the plan again');
  const number = new DataView(message.buffer, message.byteOffset).getBigUint64(53, true);
  if (number > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid('the number of the request is over 2^53');
  let at = ENVELOPE_BYTES;
  const parts = lengths.map(length => {
    at += length;
    return message.subarray(at - length, at);
  });
  return { session: message.slice(37, 53), number: Number(number), parts };
}

function printable(message: Uint8Array): string {
  try {
    return JSON.stringify(decodeUtf8(message.subarray(0, 4)));
  } catch {
    return 'other bytes';
  }
}

function invalid(why: string): CloisterError {
  return new CloisterError('HE_INVALID_MESSAGE', why);
}
