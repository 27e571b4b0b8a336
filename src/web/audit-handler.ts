/**
 * The review page of a log over HTTP: the page, the files of the log as they are, and queries that say which records a filter asks
 * for. It reads alone; whether a record is genuine the page finds out by itself, from the files.
 *
 * | path | answer |
 * |---|---|
 * | `/`, `/assets/…` | the page |
 * | `/log/checkpoint`, `/log/vkey`, `/log/seal/<epoch>`, `/log/tile/…` | files of the log (C2SP tlog-tiles) |
 * | `/api/status` | how many records are indexed, JSON |
 * | `/api/seqs?filter=&now=` | sequence numbers, ascending, as uint32 little-endian |
 * | `/api/histogram?filter=&now=&buckets=` | counts over time, JSON |
 * | `/api/budgets` | charges and refusals of each scope, JSON |
 * | `/api/values?key=&prefix=` | suggestions for a qualifier, JSON |
 * | `/api/export?filter=&now=&format=` | `jsonl`, `csv`, `ocsf`, or `bundles`: proofs for `cloister audit verify FILE` |
 * @module
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { CloisterError } from '../base/index.ts';
import { readAssets } from './assets.ts';
import { type Answer, type AuditQueries, openQueries } from './audit-queries.ts';
import { readLogFile } from './log-files.ts';

/** The review page of one log, to be mounted in a server. */
export interface AuditHandler extends AsyncDisposable {
  /**
   * Answers a request whose path, without `prefix`, is one of the page; never rejects. Who may ask is for the caller to say.
   *
   * @param prefix - Path at which the page is mounted, without a slash at its end; '' by default.
   */
  handle(request: IncomingMessage, response: ServerResponse, prefix?: string): Promise<void>;
  /** Waits until the query index has caught up with the log, and returns how many records it has. */
  ready(): Promise<number>;
  close(): Promise<void>;
}

/**
 * Opens the review page of the log in `dir`, the directory of a cloister or of a log alone. Writes nothing there but the query index,
 * and where that is not possible keeps the index in memory.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log; `MISSING_DEPENDENCY` when the page was not built; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await using pages = await auditHandler('./cloister-data');
 * await pages.ready(); // 2
 * ```
 */
export async function auditHandler(dir: string): Promise<AuditHandler> {
  const assets = await readAssets();
  const queries = await openQueries(dir);
  return {
    async handle(request, response, prefix = '') {
      for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
      try {
        await answer(request, response, prefix);
      } catch (error) {
        fail(request, response, error);
      }
    },
    ready: () => queries.ready(),
    close: () => queries.close(),
    [Symbol.asyncDispose]: () => queries.close(),
  };

  async function answer(request: IncomingMessage, response: ServerResponse, prefix: string): Promise<void> {
    const { method, url = '/' } = request;
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      return end(request, response, 405, { body: 'only GET and HEAD\n' });
    }
    if (url.length > URL_LIMIT) return end(request, response, 414, { body: 'the address is too long\n' });
    const mark = url.indexOf('?');
    const path = mark < 0 ? url : url.slice(0, mark);
    if (!path.startsWith(`${prefix}/`)) return end(request, response, 404, NOTHING);
    const place = path.slice(prefix.length + 1);
    const asset = assets.get(place);
    if (asset !== undefined) {
      return end(request, response, 200, { body: asset.bytes, type: asset.type, immutable: asset.immutable });
    }
    if (place.startsWith('log/')) {
      const file = await readLogFile(queries.logDirectory, place.slice(4));
      if (file === undefined) return end(request, response, 404, NOTHING);
      return end(request, response, 200, { body: file.bytes, type: file.type, immutable: file.immutable });
    }
    if (place.startsWith('api/')) {
      const found = await ask(queries, place.slice(4), new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)));
      if (found !== undefined) return await send(request, response, found);
    }
    end(request, response, 404, NOTHING);
  }
}

async function ask(queries: AuditQueries, name: string, asked: URLSearchParams): Promise<Answer | undefined> {
  switch (name) {
    case 'status':
      return queries.status();
    case 'seqs':
      return await queries.seqs(asked);
    case 'histogram':
      return await queries.histogram(asked);
    case 'budgets':
      return await queries.budgets();
    case 'values':
      return await queries.values(asked);
    case 'export':
      return await queries.export(asked);
    default:
      return undefined;
  }
}

/** Sends an answer of any length without holding more of it than the socket takes. */
async function send(request: IncomingMessage, response: ServerResponse, answer: Answer): Promise<void> {
  if (answer.lines === undefined) return end(request, response, 200, answer);
  const lines = answer.lines[Symbol.asyncIterator]();
  const first = await lines.next(); // what is wrong is found out before the answer begins
  writeHead(response, 200, answer);
  if (request.method === 'HEAD') {
    await lines.return?.();
    response.end();
    return;
  }
  let pending = '';
  try {
    for (let next = first; !next.done && !response.destroyed; next = await lines.next()) {
      pending += `${next.value}\n`;
      if (pending.length < CHUNK) continue;
      if (!response.write(pending)) await drained(response);
      pending = '';
    }
  } catch {
    response.destroy(); // a cut answer: the client sees that it is not whole
    return;
  } finally {
    await lines.return?.();
  }
  response.end(pending);
}

const CHUNK = 65_536;

function drained(response: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

function end(request: IncomingMessage, response: ServerResponse, status: number, answer: Answer): void {
  const body = typeof answer.body === 'string' ? Buffer.from(answer.body) : (answer.body ?? Buffer.alloc(0));
  response.setHeader('Content-Length', body.length);
  writeHead(response, status, answer);
  response.end(request.method === 'HEAD' ? undefined : body);
}

function writeHead(response: ServerResponse, status: number, answer: Answer): void {
  response.setHeader('Content-Type', answer.type ?? 'text/plain; charset=utf-8');
  response.setHeader('Cache-Control', answer.immutable ? 'private, max-age=31536000, immutable' : 'no-store');
  if (answer.file !== undefined) response.setHeader('Content-Disposition', `attachment; filename="${answer.file}"`);
  response.writeHead(status);
}

/** Tells a caller what was wrong with the question; of what is wrong inside it tells the code and no path. */
function fail(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const code = error instanceof CloisterError ? error.code : 'STORE_FAILED';
  const asked = code === 'INVALID_ARGUMENT' || code === 'AUDIT_INVALID';
  const message = asked
    ? (error as CloisterError).message
    : 'the log or its index cannot be read; the server has the details';
  const detail = asked ? (error as CloisterError).detail : {};
  const body = JSON.stringify({ error: { code, message, detail } });
  end(request, response, code === 'INVALID_ARGUMENT' ? 400 : 500, { body, type: 'application/json' });
}

/** Characters that the address of a request may have: room for a filter of 4,096 characters, escaped. */
const URL_LIMIT = 15_000;

const NOTHING: Answer = { body: 'there is nothing here\n' };

/**
 * Nothing from elsewhere, nothing inline, no frame around it, no address in a `Referer`. The page makes its one worker through the
 * trusted-types policy `worker`; text never becomes markup.
 */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types worker",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Permissions-Policy': 'camera=(), geolocation=(), microphone=()',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
};
