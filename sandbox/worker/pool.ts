/**
 * The pool: workers that were started before anybody needs one.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import type { Confinement } from '../confinement/confinement.ts';
import { type WorkerCommand, WorkerProcess } from './process.ts';

const REFILL_MS = 100;

/** Workers that wait, started, for whoever comes next. They do not keep the caller's event loop alive, and none comes back. */
export class WorkerPool {
  readonly #size: number;
  readonly #command: WorkerCommand | undefined;
  readonly #confinement: Confinement | undefined;
  readonly #warm: WorkerProcess[] = [];
  readonly #taken = new Set<WorkerProcess>();
  #refilling: NodeJS.Timeout | undefined;
  #closed = false;

  /**
   * @param size - How many workers wait; 0 starts each when it is asked for.
   * @param confinement - How far the operating system confines them. Undefined: not at all.
   */
  constructor(size: number, command?: WorkerCommand, confinement?: Confinement) {
    this.#size = size;
    this.#command = command;
    this.#confinement = confinement;
    this.#fill();
  }

  /**
   * A worker that nobody else has or had. It may still be starting; one that died while it waited is passed over.
   *
   * @param domain - The trust domain that it serves from now until its end: see {@link WorkerProcess.claim}.
   */
  take(domain: string): WorkerProcess {
    if (this.#closed) throw new CloisterError('CLOSED', 'the sandbox is closed');
    let worker = this.#warm.shift();
    while (worker !== undefined && !worker.isAlive) worker = this.#warm.shift();
    worker ??= this.#spawn();
    const taken = worker;
    taken.claim(domain);
    this.#taken.add(taken);
    void taken.exited.then(() => this.#taken.delete(taken));
    return taken;
  }

  /** Starts what is missing, a little later: a newcomer is not to compete for the processor with the run that comes next. */
  refill(): void {
    this.#refilling ??= setTimeout(() => this.#fill(), REFILL_MS).unref();
  }

  /** Starts what is missing, and resolves when every waiting worker has greeted or died. */
  async settled(): Promise<void> {
    this.#fill();
    await Promise.allSettled(this.#warm.map(worker => worker.greeted()));
  }

  /** Ends all workers, taken ones too, and waits until nothing of them is left. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#refilling);
    const all = [...this.#warm.splice(0), ...this.#taken];
    await Promise.all(all.map(worker => worker.close()));
  }

  #fill(): void {
    clearTimeout(this.#refilling);
    this.#refilling = undefined;
    while (!this.#closed && this.#warm.length < this.#size) this.#warm.push(this.#spawn());
  }

  #spawn(): WorkerProcess {
    return new WorkerProcess(this.#command, this.#confinement);
  }
}
