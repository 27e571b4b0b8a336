/**
 * The requests of one priority class that wait: a bounded queue in which tenants share by weight.
 *
 * Self-clocked fair queueing: a request is due at its cost over its tenant's weight after the one before it of the same tenant was,
 * in virtual time, and the one that is due first is served next. Virtual time is when the request that was served last was due; a
 * tenant that had nothing waiting begins there, so that nobody saves up, and each newcomer begins later than those before, so that no
 * stream of them holds up the others. Between two tenants that both have something waiting all the time, what was served, over their
 * weights, differs by no more than one request of each.
 *
 * @see Golestani 1994, A self-clocked fair queueing scheme for broadband applications; for dropping from the longest queue: RFC 8290
 *   section 4.1.
 * @module
 */
import { LinkedList, type Place } from './linked-list.ts';

/** What the queue has to know of a request. */
export interface Waiting {
  readonly tenant: string;
  /** Order of arrival, over all classes. */
  readonly order: number;
  /** What serving it adds to its tenant's virtual time, before weighting. */
  readonly cost: number;
  /** Requests of one lane, those for one executable, stay in order even where others of their tenant cannot start. */
  readonly lane: number;
  /** Requests of one group may run as one batch; undefined for one that runs alone. */
  readonly group: string | undefined;
  readonly rows: number;
}

/** A tenant's requests, and when the last one that was served was due, in virtual time. */
interface Flow<T> {
  readonly weight: number;
  readonly queue: LinkedList<T>;
  /** The same requests once more, by lane; no lane is empty. */
  readonly lanes: Map<number, LinkedList<T>>;
  served: number;
}

/** Requests that may run as one batch, by flow, each in order. */
interface Group<T> {
  rows: number;
  readonly lists: Map<Flow<T>, LinkedList<T>>;
}

interface Places<T> {
  readonly flow: Flow<T>;
  readonly place: Place<T>;
  readonly inLane: Place<T>;
  readonly inGroup: Place<T> | undefined;
}

/** A bounded queue with fair shares. */
export class FairQueue<T extends Waiting> {
  readonly #capacity: number;
  readonly #weightOf: (tenant: string) => number;
  readonly #flows = new Map<string, Flow<T>>(); // also of tenants that have nothing waiting and were served ahead of the others
  readonly #groups = new Map<string, Group<T>>();
  readonly #places = new Map<T, Places<T>>();
  #virtualTime = 0;

  constructor(capacity: number, weightOf: (tenant: string) => number) {
    this.#capacity = capacity;
    this.#weightOf = weightOf;
  }

  get size(): number {
    return this.#places.size;
  }

  /** How many tenants are kept. */
  get flows(): number {
    return this.#flows.size;
  }

  /**
   * Adds `request` at the end of its tenant's queue. When the class is full, the newest request of the tenant with the most waiting
   * for its weight has to go; that is `request` itself unless its tenant has less than another. A tenant that has less than its share
   * of the places waiting thus always finds one.
   *
   * @returns The request that has to go, which is no longer in the queue; undefined where there was room.
   */
  add(request: T): T | undefined {
    let dropped: T | undefined;
    if (this.size >= this.#capacity) {
      dropped = this.#surplus(request);
      if (dropped === request) return request;
      this.remove(dropped);
    }
    const flow = this.#flowOf(request.tenant);
    if (flow.queue.size === 0) flow.served = Math.max(flow.served, this.#virtualTime);
    const place = flow.queue.push(request);
    const inLane = getOrAdd(flow.lanes, request.lane, () => new LinkedList<T>()).push(request);
    this.#places.set(request, { flow, place, inLane, inGroup: this.#join(request, flow) });
    return dropped;
  }

  /** Takes out a request that is in the queue, as if it had never been there. */
  remove(request: T): void {
    const { flow, place, inLane, inGroup } = this.#places.get(request)!;
    this.#places.delete(request);
    flow.queue.remove(place);
    const lane = flow.lanes.get(request.lane)!;
    lane.remove(inLane);
    if (lane.size === 0) flow.lanes.delete(request.lane);
    if (inGroup) this.#leave(request, flow, inGroup);
    // Whoever finds an empty queue waits for nobody: what others were served before does not matter any more.
    if (this.size === 0) {
      this.#flows.clear();
      this.#virtualTime = 0;
    }
  }

  /** Takes out a request that is served now, and counts it in its tenant's share. */
  take(request: T): void {
    const { flow } = this.#places.get(request)!;
    this.#virtualTime = Math.max(this.#virtualTime, dueOf(flow, request));
    this.#charge(request, flow);
    this.#forget();
  }

  /**
   * Takes out a request that may run with `head`, which was taken before: of those that fit and are the next of their tenants, the one
   * that is due first.
   */
  takeCompanion(head: T, fits: (request: T) => boolean): T | undefined {
    const group = head.group === undefined ? undefined : this.#groups.get(head.group);
    if (!group) return undefined;
    let best: Candidate<T> | undefined;
    for (const [flow, { first: request }] of group.lists)
      if (request && fits(request)) best = earlier(best, { flow, request, due: dueOf(flow, request) });
    if (!best) return undefined;
    this.#charge(best.request, best.flow);
    this.#forget();
    return best.request;
  }

  /** How many rows wait that may run as one batch with `request`, its own among them. */
  groupRows(request: T): number {
    return request.group === undefined ? request.rows : (this.#groups.get(request.group)?.rows ?? 0);
  }

  /**
   * The requests of which one is to be served next, the first that can be: of the tenant whose turn it is the oldest, then the oldest of
   * its other lanes; then those of the other tenants.
   */
  *heads(): Generator<T> {
    const first = this.#first();
    if (!first) return;
    yield first; // mostly this one is served, and the others need not be sorted
    const tenants = [...this.#flows.values()].flatMap(flow => {
      const request = flow.queue.first;
      return request ? [{ flow, request, due: dueOf(flow, request) }] : [];
    });
    for (const { flow } of tenants.sort(byDue)) {
      const heads = Array.from(flow.lanes.values(), lane => lane.first!);
      for (const request of heads.sort((a, b) => a.order - b.order)) if (request !== first) yield request;
    }
  }

  /** All requests, in no particular order. */
  all(): T[] {
    return [...this.#places.keys()];
  }

  /** The oldest request of the tenant whose turn it is. Written out: it is looked for at every start, among all tenants. */
  #first(): T | undefined {
    let first: T | undefined;
    let firstDue = Number.POSITIVE_INFINITY;
    for (const flow of this.#flows.values()) {
      const request = flow.queue.first;
      if (!request) continue;
      const due = dueOf(flow, request);
      if (first && (due > firstDue || (due === firstDue && request.order > first.order))) continue;
      first = request;
      firstDue = due;
    }
    return first;
  }

  #flowOf(tenant: string): Flow<T> {
    const make = (): Flow<T> => ({
      weight: this.#weightOf(tenant),
      queue: new LinkedList(),
      lanes: new Map(),
      served: 0,
    });
    return getOrAdd(this.#flows, tenant, make);
  }

  /** Of a full queue and `arriving`: the request that has to go. */
  #surplus(arriving: T): T {
    const own = this.#flows.get(arriving.tenant);
    let most = ((own?.queue.size ?? 0) + 1) / (own?.weight ?? this.#weightOf(arriving.tenant));
    let surplus = arriving;
    for (const flow of this.#flows.values()) {
      const load = flow.queue.size / flow.weight;
      if (flow !== own && load > most) {
        most = load;
        surplus = flow.queue.last!;
      }
    }
    return surplus;
  }

  #charge(request: T, flow: Flow<T>): void {
    flow.served = dueOf(flow, request);
    this.remove(request);
  }

  #join(request: T, flow: Flow<T>): Place<T> | undefined {
    if (request.group === undefined) return undefined;
    const group = getOrAdd(this.#groups, request.group, () => ({ rows: 0, lists: new Map() }));
    const list = getOrAdd(group.lists, flow, () => new LinkedList());
    group.rows += request.rows;
    return list.push(request);
  }

  #leave(request: T, flow: Flow<T>, place: Place<T>): void {
    const group = this.#groups.get(request.group!)!;
    const list = group.lists.get(flow)!;
    list.remove(place);
    group.rows -= request.rows;
    if (list.size === 0) group.lists.delete(flow);
    if (group.lists.size === 0) this.#groups.delete(request.group!);
  }

  /** Drops tenants that have nothing waiting and are not ahead of the others: they would begin anew just so. */
  #forget(): void {
    if (this.#flows.size <= 2 * this.size + 16) return;
    for (const [tenant, flow] of this.#flows)
      if (flow.queue.size === 0 && flow.served <= this.#virtualTime) this.#flows.delete(tenant);
  }
}

interface Candidate<T> {
  readonly flow: Flow<T>;
  readonly request: T;
  readonly due: number;
}

function dueOf<T extends Waiting>(flow: Flow<T>, request: T): number {
  return flow.served + request.cost / flow.weight;
}

/** The one that is due first; of two that are due together, the older. */
function byDue<T extends Waiting>(a: Candidate<T>, b: Candidate<T>): number {
  return a.due - b.due || a.request.order - b.request.order;
}

function earlier<T extends Waiting>(best: Candidate<T> | undefined, other: Candidate<T>): Candidate<T> {
  return best && byDue(best, other) <= 0 ? best : other;
}

function getOrAdd<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
