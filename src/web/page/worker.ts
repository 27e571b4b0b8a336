/**
 * The worker: fetches files of the log and checks them. It believes nothing that the server says about them.
 * @module
 */
import './no-eval.ts';
import { toBase64 } from '../../base/bytes.ts';
import { type CheckedLog, openCheckedLog } from '../check/log-check.ts';
import type { FetchFile } from '../check/tile-tree.ts';
import type { Asked, Questions, Told } from './messages.ts';
import { hashLeaves, verifierFor } from './web-crypto.ts';

let log: CheckedLog | undefined;
let fetchFile: FetchFile = async () => undefined;

addEventListener('message', ({ data }: MessageEvent<Asked>) => {
  answer(data).then(
    answer => tell({ id: data.id, answer }),
    (error: unknown) => tell({ id: data.id, error: error instanceof Error ? error.message : String(error) }),
  );
});

async function answer(asked: Asked): Promise<Questions[keyof Questions]['answer']> {
  switch (asked.question) {
    case 'open':
      return await open(asked.ask);
    case 'rows':
      return await rows(asked.ask.seqs);
    case 'proof':
      return (await opened().proof(asked.ask.seq)).map(toBase64);
    case 'checkAll':
      return await opened().checkAll(atIntervals(done => tell({ id: asked.id, done })));
    default:
      return asked satisfies never;
  }
}

async function open({ base, knowledge }: Questions['open']['ask']): Promise<Questions['open']['answer']> {
  fetchFile = fetchFrom(base);
  const [note, vkey] = await Promise.all([fetchFile('checkpoint'), fetchFile('vkey')]);
  if (note === undefined || vkey === undefined) return { checkable: false };
  const key = new TextDecoder().decode(vkey);
  const found = await openCheckedLog(note, key, knowledge, { fetchFile, hashLeaves, verifierFor });
  log = found.log;
  return { head: found.head, failure: found.failure, checkable: log !== undefined };
}

async function rows(seqs: readonly number[]): Promise<Questions['rows']['answer']> {
  const bundles = Map.groupBy(seqs, seq => Math.floor(seq / 256));
  const found = await Promise.all([...bundles].map(([number, wanted]) => opened().records(number, wanted)));
  return found.flat();
}

function opened(): CheckedLog {
  if (log === undefined) throw new Error('there is no signed root to check against');
  return log;
}

/** Passes on what is told at most ten times a second: each time the page is drawn. */
function atIntervals(told: (done: number) => void): (done: number) => void {
  let next = 0;
  return done => {
    const now = performance.now();
    if (now < next) return;
    next = now + 100;
    told(done);
  };
}

/** Files as they are now: a copy that the browser kept would hide a change. */
function fetchFrom(base: string): FetchFile {
  return async path => {
    const response = await fetch(new URL(`log/${path}`, base), { cache: 'no-store', redirect: 'error' });
    if (response.status === 404) return undefined;
    if (!response.ok) throw new Error(`the server answers ${response.status} for ${path}`);
    return new Uint8Array(await response.arrayBuffer());
  };
}

function tell(told: Told): void {
  postMessage(told);
}
