/**
 * A service in memory whose medium fails on command: the pipeline over a store and a log directory that can break.
 * @module
 */
import { type Ledger, openLedger, type ScopeState } from '../../privacy/budget/index.ts';
import { type AuditLog, openDirectory } from '../../sandbox/audit/log.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import type { SandboxedModel } from '../../sandbox/index.ts';
import { systemClock } from '../../src/base/index.ts';
import { ledgerBudgets } from '../../src/service/budgets.ts';
import { Model } from '../../src/service/cloister.ts';
import { readAnchor, writeAnchor } from '../../src/service/directory.ts';
import { count, parsePolicy, type ReleaseRecord, type ReleaseRequest } from '../../src/service/index.ts';
import type { BudgetInput } from '../../src/service/policy.ts';
import { memoryStore, type Store } from '../../src/store/index.ts';
import { MemoryDirectory } from '../audit/memory-directory.ts';
import { FaultyStore, Holders } from '../budget/faults.ts';

export const SCOPE = 'ward';
export const COST = 500_000;
export const DIGEST: string = `sha256:${'0'.repeat(64)}`;

/** One life of the service, from its start to a crash or the end. */
export interface Life {
  readonly model: Model;
  readonly log: AuditLog;
  readonly ledger: Ledger;
  readonly faulty: FaultyStore;
  scope(): Promise<ScopeState>;
  records(): Promise<AuditRecord[]>;
}

/** What outlives a process: the store, the log's directory, and who has died. */
export class World {
  readonly store: Store = memoryStore();
  readonly holders: Holders = new Holders();
  directory: MemoryDirectory = new MemoryDirectory();

  /** Starts the service on what is left, as `openCloister` does. */
  async start({
    run = echo,
    digest = DIGEST,
    budget = { epsilon: 2 },
  }: {
    run?: SandboxedModel['run'];
    digest?: string;
    budget?: BudgetInput;
  } = {}): Promise<Life> {
    const policy = parsePolicy({ rawOutputs: 'refuse', budgets: { [SCOPE]: budget } });
    const { store, directory } = this;
    const faulty = new FaultyStore(store);
    const log = await openDirectory(directory, { anchor: await readAnchor(store), checkpointMs: 3_600_000 });
    const ledger = await openLedger({
      store: faulty,
      clock: systemClock,
      budgets: await ledgerBudgets(policy),
      liveness: this.holders.next(),
      duplicateWaitMs: 100,
    });
    await store.transaction(tx => writeAnchor(tx, log.head()));
    const model = new Model({
      policy,
      policyDigest: DIGEST,
      layers: [],
      ledger,
      log,
      anchor: tx => writeAnchor(tx, log.head()),
      model: stub(run),
      modelDigest: digest,
      plugins: [],
      closed: new AbortController().signal,
    });
    return {
      ...{ model, log, ledger, faulty },
      scope: () => readScope(store),
      records: async () => {
        const all: AuditRecord[] = [];
        for await (const record of readDirectory(this.directory, {})) all.push(record);
        return all;
      },
    };
  }

  /** The process dies and the power goes: what was not durable is lost, or by chance kept. */
  crash(loss: 'lost' | 'kept'): void {
    this.holders.kill();
    this.directory = this.directory.afterPowerLoss(loss);
  }
}

/** A count of one subject at epsilon 0.5. */
export function request(more: Partial<ReleaseRequest> = {}): ReleaseRequest {
  return { records: [record('a')], statistic: count({ of: 'subjects' }), epsilon: 0.5, scope: SCOPE, ...more };
}

export function record(subject: string): ReleaseRecord {
  return { subject, inputs: { x: new Float32Array(1) } };
}

const echo: SandboxedModel['run'] = async inputs => ({ y: inputs['x']! });

function stub(run: SandboxedModel['run']): SandboxedModel {
  const value = (name: string) => ({ name, dtype: 'f32', shape: [1] });
  const summary = { inputs: [value('x')], outputs: [value('y')] };
  return { name: 'stub', summary, backend: 'reference', run, close: async () => {} } as unknown as SandboxedModel;
}

/** Past the ledger, which may be broken. */
async function readScope(store: Store): Promise<ScopeState> {
  const row = await store.transaction(tx => tx.get('budget.scope', SCOPE));
  return JSON.parse(new TextDecoder().decode(row!.value)) as ScopeState;
}
