/**
 * Records with personal data, and the erasure of a subject: what joins a log with the data beside it.
 *
 * An erasure goes by steps, each durable before the next, and whatever step a crash comes after, the next start finishes it:
 *
 * 1. `erasing/…` is made: from here on nobody is shown the data;
 * 2. the key is overwritten and removed, then what led from the subject to it;
 * 3. a record says that a subject was erased, by a commitment whose salt is kept nowhere;
 * 4. `erasing/…` is removed.
 *
 * A crash before step 1 leaves everything as it was.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import * as z from '../../src/base/zod.ts';
import type { LogDirectory } from './directory.ts';
import { type ErasedBy, type Erasure, type PersonalData, PersonalStore } from './personal.ts';
import type { RecordQuery } from './read.ts';
import { type AuditEvent, type AuditRecord, auditEventSchema } from './record.ts';
import type { Receipt } from './verify.ts';

/** What an erasure needs of its log. */
interface HostLog {
  head(): { readonly size: number };
  append(event: AuditEvent): Promise<Receipt>;
  records(query: RecordQuery): AsyncIterable<AuditRecord>;
}

/** The personal data of an open log. */
export class PersonalLog {
  readonly #store: PersonalStore;
  readonly #log: HostLog;
  /** Appends that are under way. */
  readonly #active = new Set<Promise<unknown>>();
  /** The erasure that is under way, if one is: it waits for the appends before it, and those after it wait for it. */
  #erasing: Promise<unknown> = Promise.resolve();

  constructor(directory: LogDirectory, log: HostLog) {
    this.#store = new PersonalStore(directory);
    this.#log = log;
  }

  /** Appends a record with commitments to the data, which are durable before the record is. */
  append(event: AuditEvent, data: PersonalData): Promise<Receipt> {
    const appended = this.#erasing.then(async () => {
      const commitments = await this.#store.keep(data, event.commitments);
      return this.#log.append({ ...event, commitments });
    });
    const settled = appended.catch(() => undefined).finally(() => this.#active.delete(settled));
    this.#active.add(settled);
    return appended;
  }

  /** Erases a subject; undefined when the log has no data of theirs. */
  erase(subject: string, by: ErasedBy): Promise<Receipt | undefined> {
    const before = [...this.#active];
    const erased = this.#erasing.then(async () => {
      await Promise.all(before);
      // What the log would refuse later must be refused now: nothing that was decided may be stopped.
      const checked = auditEventSchema.safeParse(eventOf({ ...by, commitment: `sha256:${'0'.repeat(64)}` }));
      if (!checked.success)
        throw new CloisterError('INVALID_ARGUMENT', `who erases, and why: ${z.prettifyError(checked.error)}`);
      const erasure = this.#store.decide(subject, by, this.#log.head().size);
      return erasure && (await this.#finish(erasure));
    });
    this.#erasing = erased.catch(() => undefined);
    return erased;
  }

  /** Resolves when what is under way has ended. */
  async settled(): Promise<void> {
    await Promise.all([this.#erasing, ...this.#active]);
  }

  /** Finishes the erasures that a crash interrupted. */
  async resume(): Promise<void> {
    for (const erasure of this.#store.pending()) await this.#finish(erasure, await this.#isRecorded(erasure));
  }

  close(): void {
    this.#store.close();
  }

  async #finish(erasure: Erasure, recorded = false): Promise<Receipt | undefined> {
    try {
      this.#store.destroy(erasure);
      const receipt = recorded ? undefined : await this.#log.append(eventOf(erasure));
      this.#store.settle(erasure);
      return receipt;
    } catch (error) {
      this.#store.stop(error); // the next start finishes it; until then nothing may be kept under a key that goes
      throw error;
    }
  }

  async #isRecorded({ from, commitment }: Erasure): Promise<boolean> {
    for await (const _ of this.#log.records({ from, action: 'erase', object: commitment, limit: 1 })) return true;
    return false;
  }
}

function eventOf({ actor, purpose, commitment: id }: ErasedBy & { readonly commitment: string }): AuditEvent {
  const object = { kind: 'subject', id } as const;
  const event = { actor, action: 'erase', object, decision: { outcome: 'allow' } } as const;
  return purpose === undefined ? event : { ...event, purpose };
}
