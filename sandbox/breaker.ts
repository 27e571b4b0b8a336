/**
 * The circuit breaker: what ended several workers in a row is refused for a while, then tried with one request.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';

/** How many workers may end in a row, with no request answered between, before requests are refused. */
const MAX_FAILURES = 5;
/** How long they are refused, at first and at most: twice as long each time. */
const REFUSAL_MS = 500;
const MAX_REFUSAL_MS = 30_000;
/** When to come again while one request is tried. */
const PROBE_MS = 50;

/** Where a breaker stands. */
export type BreakerState =
  | { readonly kind: 'closed'; readonly failures: number }
  | { readonly kind: 'open'; readonly failures: number; readonly retryAfterMs: number }
  | { readonly kind: 'half-open'; readonly failures: number };

/**
 * Counts the workers that something ended in a row, and refuses it when they are too many: closed, it lets everything in; open,
 * nothing; half-open, one request at a time, on which it depends what comes next.
 */
export class Breaker {
  readonly #what: string;
  readonly #now: () => number;
  #failures = 0;
  /** How often it opened since it was last closed. */
  #trips = 0;
  #openUntil: number | undefined;
  #probing = false;
  #cause: CloisterError | undefined;

  /**
   * @param what - What is refused, for messages.
   * @param now - Milliseconds that only go forward.
   */
  constructor(what: string, now: () => number = () => performance.now()) {
    this.#what = what;
    this.#now = now;
  }

  get state(): BreakerState {
    const failures = this.#failures;
    if (this.#openUntil === undefined) return { kind: 'closed', failures };
    const retryAfterMs = Math.ceil(this.#openUntil - this.#now());
    return retryAfterMs > 0 ? { kind: 'open', failures, retryAfterMs } : { kind: 'half-open', failures };
  }

  /**
   * Lets one request in, which has to {@link leave}.
   *
   * @returns Whether it is the one on which it depends what comes next.
   * @throws {CloisterError} `GUEST_REFUSED` with `detail.retryAfterMs`.
   */
  enter(): boolean {
    const { kind, ...state } = this.state;
    if (kind === 'closed') return false;
    if (kind === 'half-open' && !this.#probing) {
      this.#probing = true;
      return true;
    }
    const retryAfterMs = 'retryAfterMs' in state ? state.retryAfterMs : PROBE_MS;
    const message = `${this.#what} ended ${this.#failures} workers in a row; it is refused, try again in ${retryAfterMs} ms`;
    const detail = { failures: this.#failures, retryAfterMs };
    throw new CloisterError('GUEST_REFUSED', message, detail, { cause: this.#cause });
  }

  /** The request is over, however it ended: without a verdict, the next one is tried. */
  leave(probe: boolean): void {
    if (probe) this.#probing = false;
  }

  /** A request was answered. */
  succeeded(): void {
    this.#failures = 0;
    this.#trips = 0;
    this.#openUntil = undefined;
    this.#cause = undefined;
  }

  /** A worker was ended. */
  failed(cause: CloisterError): void {
    this.#failures++;
    if (this.#failures >= MAX_FAILURES || this.#probing) this.#open(cause);
  }

  /** Several workers were ended where nobody had asked anything of them yet. */
  failedToLoad(cause: CloisterError): void {
    this.#failures++;
    this.#open(cause);
  }

  #open(cause: CloisterError): void {
    if (this.state.kind === 'open') return; // a request that was let in before it opened
    this.#openUntil = this.#now() + Math.min(MAX_REFUSAL_MS, REFUSAL_MS * 2 ** this.#trips);
    this.#trips++;
    this.#cause = cause;
  }
}
