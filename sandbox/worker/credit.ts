/**
 * Credit: how many messages a worker may send during one call before the supervisor has dealt with the earlier ones.
 *
 * A call may carry messages of its guest, JSON values, from the worker to the supervisor, in frames with the call's id and the header
 * `{"message": …}`, without payload. The request says in `credit` how many messages and how many bytes of their headers may come at
 * first, and in `messages` and `messageBytes` how many may come in all. As they are dealt with, the supervisor renews the credit by
 * frames `{"op":"credit","messages":n,"bytes":n}` with the same id. A worker without credit waits; one that sends nevertheless
 * has broken the protocol.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import { limitError } from '../limit-error.ts';
import type { Limits } from '../limits.ts';
import { count, isRecord } from '../untrusted.ts';
import type { BlockingChannel } from './channel.ts';
import { encodeText, type Frame, ProtocolViolation } from './frames.ts';

/** Bytes of the header of one message. */
export const MAX_MESSAGE_BYTES = 65_536;

/** What is under way at once, at most. */
const WINDOW: Credit = { messages: 64, bytes: 4 * MAX_MESSAGE_BYTES };

const NONE: Credit = { messages: 0, bytes: 0 };

/** A number of messages, and of bytes of their headers. */
export interface Credit {
  readonly messages: number;
  readonly bytes: number;
}

/** Takes one message. While a promise of it is not settled, the message counts as under way. */
export type OnMessage = (message: unknown) => void | Promise<void>;

/** The limits that messages are held to. */
export type MessageLimits = Pick<Limits, 'messages' | 'messageBytes'>;

/** The supervisor's side of one call: deals with messages, renews credit, and holds the worker to it. */
export class Inbox {
  readonly #onMessage: OnMessage;
  readonly #renew: (credit: Credit) => void;
  readonly #fail: (error: unknown) => void;
  readonly #underWay = new Set<Promise<void>>();
  /** What the worker may still send now, and what will still be granted in all. */
  #left: Credit;
  #ungranted: Credit;
  /** Dealt with, and not yet granted anew. */
  #owed: Credit = NONE;

  /**
   * @param renew - Sends a frame of credit.
   * @param fail - Hears what `onMessage` throws: the call has failed.
   */
  constructor(
    limits: MessageLimits,
    onMessage: OnMessage,
    renew: (credit: Credit) => void,
    fail: (error: unknown) => void,
  ) {
    const all = { messages: limits.messages, bytes: limits.messageBytes };
    this.#onMessage = onMessage;
    this.#renew = renew;
    this.#fail = fail;
    this.#left = least(all, WINDOW);
    this.#ungranted = minus(all, this.#left);
  }

  /** What the request says of messages. */
  static header({ messages, messageBytes }: MessageLimits): object {
    return { messages, messageBytes, credit: least({ messages, bytes: messageBytes }, WINDOW) };
  }

  /** @throws {ProtocolViolation} when the worker had no credit for it, or it is larger than a message may be. */
  take({ header, headerBytes, payload }: Frame): void {
    const one = { messages: 1, bytes: headerBytes };
    if (payload.length > 0 || one.bytes > MAX_MESSAGE_BYTES) throw new ProtocolViolation('a message is too large');
    if (!covers(this.#left, one)) throw new ProtocolViolation('a message for which there was no credit');
    this.#left = minus(this.#left, one);
    try {
      const done = this.#onMessage(header['message']);
      if (done === undefined) this.#settle(one);
      else this.#wait(done, one);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Resolves when nothing is under way any more. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay);
  }

  /** Whether nothing is under way. */
  get isSettled(): boolean {
    return this.#underWay.size === 0;
  }

  #wait(done: Promise<void>, one: Credit): void {
    const settled: Promise<void> = done
      .then(() => this.#settle(one), this.#fail)
      .finally(() => this.#underWay.delete(settled));
    this.#underWay.add(settled);
  }

  /** Grants anew in halves of the window: a frame for each message would cost more than the message. */
  #settle(one: Credit): void {
    this.#owed = plus(this.#owed, one);
    if (this.#owed.messages * 2 < WINDOW.messages && this.#owed.bytes * 2 < WINDOW.bytes) return;
    const granted = least(this.#owed, this.#ungranted);
    this.#owed = NONE;
    if (granted.messages === 0 && granted.bytes === 0) return;
    this.#ungranted = minus(this.#ungranted, granted);
    this.#left = plus(this.#left, granted);
    this.#renew(granted);
  }
}

/** The worker's side of one call: sends messages while there is credit, and waits when there is none. */
export class Outbox {
  readonly #channel: BlockingChannel;
  readonly #id: number;
  readonly #limits: MessageLimits;
  readonly #exceed: (error: CloisterError) => never;
  #left: Credit = NONE;
  #sent: Credit = NONE;

  /**
   * @param channel - Brings nothing but credit until the call is answered.
   * @param exceed - Answers the call with an error, and ends whatever runs in it: a guest that floods is not to go on.
   * @throws {CloisterError} `GUEST_FAILED` when the request's credit is none.
   */
  constructor(channel: BlockingChannel, { id, header }: Frame, exceed: (error: CloisterError) => never) {
    this.#channel = channel;
    this.#id = id;
    this.#exceed = exceed;
    if (isRecord(header['credit'])) this.#left = parseCredit(header['credit']);
    this.#limits = {
      messages: count(header['messages'] ?? 0, 'messages'),
      messageBytes: count(header['messageBytes'] ?? 0, 'messageBytes'),
    };
  }

  /**
   * Sends one JSON value to whoever made the call. Returns when it is on its way; holds the calling thread while there is no credit.
   * At the limits `messages` and `messageBytes` the call ends with `LIMIT_EXCEEDED`, and this never returns.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `message` is no JSON value, or has more than {@link MAX_MESSAGE_BYTES} bytes.
   */
  send(message: unknown): void {
    const value = JSON.stringify(message);
    if (value === undefined)
      throw new CloisterError('INVALID_ARGUMENT', `a message is a JSON value, not ${typeof message}`);
    const text = `{"message":${value}}`;
    const one = { messages: 1, bytes: Buffer.byteLength(text) };
    if (one.bytes > MAX_MESSAGE_BYTES) {
      const why = `a message has at most ${MAX_MESSAGE_BYTES} bytes, this one has ${one.bytes}`;
      throw new CloisterError('INVALID_ARGUMENT', why, { bytes: one.bytes, allowed: MAX_MESSAGE_BYTES });
    }
    const { messages, messageBytes } = this.#limits;
    const sent = plus(this.#sent, one);
    if (sent.messages > messages) this.#exceed(limitError('messages', messages, sent.messages));
    if (sent.bytes > messageBytes) this.#exceed(limitError('messageBytes', messageBytes, sent.bytes));
    while (!covers(this.#left, one)) this.#receive();
    this.#left = minus(this.#left, one);
    this.#sent = sent;
    this.#channel.writeWhole(encodeText(this.#id, text, 0));
  }

  #receive(): void {
    const frame = this.#channel.read();
    if (frame === undefined) throw new ProtocolViolation('the channel ended');
    if (frame.id !== this.#id || !isCredit(frame.header)) throw new ProtocolViolation('expected credit');
    this.#left = plus(this.#left, parseCredit(frame.header));
  }
}

/** Whether a frame renews credit. One that comes after the answer was sent is of no meaning, and no request. */
export function isCredit(header: Frame['header']): boolean {
  return header['op'] === 'credit';
}

function parseCredit(value: Readonly<Record<string, unknown>>): Credit {
  return { messages: count(value['messages'], 'credit.messages'), bytes: count(value['bytes'], 'credit.bytes') };
}

function plus(a: Credit, b: Credit): Credit {
  return { messages: a.messages + b.messages, bytes: a.bytes + b.bytes };
}

function minus(a: Credit, b: Credit): Credit {
  return { messages: a.messages - b.messages, bytes: a.bytes - b.bytes };
}

function least(a: Credit, b: Credit): Credit {
  return { messages: Math.min(a.messages, b.messages), bytes: Math.min(a.bytes, b.bytes) };
}

function covers(credit: Credit, one: Credit): boolean {
  return credit.messages >= one.messages && credit.bytes >= one.bytes;
}
