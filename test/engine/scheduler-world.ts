/**
 * A world for schedulers in which time stands still unless it is told to go on, and executables take as long as they are told.
 * @module
 */
import { CloisterError, isCloisterError, type Timers } from '../../src/base/index.ts';
import type { NamedTensors, Runnable } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

/** Lets everything that promises have under way come to rest. */
export const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

interface Alarm {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Timers that go off when time is moved on, in order; those of one moment in the order in which they were set. */
export class FakeTimers implements Timers {
  #now = 0;
  #order = 0;
  readonly #alarms = new Set<Alarm>();

  now(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): () => void {
    if (!(delayMs >= 0)) throw new Error(`a delay of ${delayMs}`);
    const alarm = { at: this.#now + delayMs, order: this.#order++, callback };
    this.#alarms.add(alarm);
    return () => this.#alarms.delete(alarm);
  }

  /** How many are set. */
  get pending(): number {
    return this.#alarms.size;
  }

  /** Moves on by `ms`. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    await settled();
    while (this.#step(until)) await settled();
    this.#now = until;
  }

  /** Moves on until no timer is left. @throws when that takes more than `limit` of them. */
  async exhaust(limit = 100_000): Promise<void> {
    await settled();
    for (let i = 0; this.#step(Number.POSITIVE_INFINITY); i++) {
      if (i > limit) throw new Error('the timers do not come to an end');
      await settled();
    }
  }

  #step(until: number): boolean {
    let first: Alarm | undefined;
    for (const alarm of this.#alarms)
      if (!first || alarm.at < first.at || (alarm.at === first.at && alarm.order < first.order)) first = alarm;
    if (!first || first.at > until) return false;
    this.#alarms.delete(first);
    this.#now = Math.max(this.#now, first.at);
    first.callback();
    return true;
  }
}

/** What a request of a test does when it runs. */
export interface Behaviour {
  readonly runMs?: number;
  /** Its run throws, and so does that of a batch in which it is. */
  readonly fails?: boolean;
  /** Its run does not end early when it is cancelled. */
  readonly deaf?: boolean;
}

/** One call of the executable. */
export interface Call {
  readonly ids: readonly number[];
  readonly at: number;
  endedAt: number | undefined;
}

/**
 * Doubles `x` of (rows, 2), whose first column names the request that the row is of: so a test sees who runs with whom. Takes as long
 * as the slowest of them.
 */
export class FakeExecutable implements Runnable {
  readonly calls: Call[] = [];
  readonly #timers: FakeTimers;
  readonly #behaviours = new Map<number, Behaviour>();
  onCall: (call: Call) => void = () => {};
  onEnd: (call: Call) => void = () => {};

  constructor(timers: FakeTimers) {
    this.#timers = timers;
  }

  /** The input of a request that behaves like this. */
  input(id: number, behaviour: Behaviour = {}, rows = 1): { readonly x: Tensor } {
    this.#behaviours.set(id, behaviour);
    return {
      x: Tensor.from(
        'f64',
        [rows, 2],
        Float64Array.from({ length: 2 * rows }, (_, i) => (i % 2 ? i : id)),
      ),
    };
  }

  async run(inputs: NamedTensors, { signal }: { readonly signal?: AbortSignal } = {}): Promise<NamedTensors> {
    const x = inputs['x']!;
    const column = (x.toArray() as number[][]).map(row => row[0]!);
    const ids = column.filter((id, i) => column.indexOf(id) === i);
    const call: Call = { ids, at: this.#timers.now(), endedAt: undefined };
    this.calls.push(call);
    this.onCall(call);
    const behaviours = ids.map(id => this.#behaviours.get(id)!);
    const runMs = Math.max(...behaviours.map(behaviour => behaviour.runMs ?? 1));
    const { promise, resolve } = Promise.withResolvers<void>();
    const cancel = this.#timers.after(runMs, resolve);
    if (!behaviours.some(({ deaf }) => deaf))
      signal?.addEventListener('abort', () => {
        cancel();
        resolve();
      });
    await promise;
    call.endedAt = this.#timers.now();
    this.onEnd(call);
    if (signal?.aborted) throw new CloisterError('ABORTED', 'the run was cancelled');
    if (behaviours.some(({ fails }) => fails)) throw new Error(`thrown by ${ids}`);
    return {
      y: Tensor.from(
        'f64',
        [...x.shape],
        Float64Array.from(x.elements() as Float64Array, value => 2 * value),
      ),
    };
  }
}

/** How a promise ended: `'ok'`, the code of a CloisterError, or the message of another error. */
export async function endingOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'ok';
  } catch (error) {
    return isCloisterError(error) ? error.code : (error as Error).message;
  }
}

/** A promise that is watched, so that a test sees whether it has ended without waiting for it. */
export interface Watched {
  ending: string | undefined;
  /** How often it ended. */
  times: number;
}

/** Watches `promise`. */
export function watch(promise: Promise<unknown>): Watched {
  const watched: Watched = { ending: undefined, times: 0 };
  void endingOf(promise).then(ending => {
    watched.ending = ending;
    watched.times++;
  });
  return watched;
}
