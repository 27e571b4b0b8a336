/**
 * `cloister audit serve`: the review page for the person at this machine. It listens on the loopback interface alone, and answers
 * nobody who has not come with the token that was printed.
 * @module
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { CloisterError } from '../base/index.ts';
import { auditHandler, SECURITY_HEADERS } from './audit-handler.ts';

/** What {@link serveAudit} may be told. */
export interface ServeOptions {
  /**
   * Port on the loopback interface; 0 takes a free one. Default 8477. The page remembers what it saw of a log for its address, so a
   * port that stays the same is what lets it notice a rollback.
   */
  readonly port?: number | undefined;
}

/** A page that is being served. */
export interface AuditServer extends AsyncDisposable {
  /** The address to open, with a token that works once. */
  readonly url: string;
  readonly port: number;
  /** Waits until filters can be answered, and returns how many records the index has. */
  ready(): Promise<number>;
  close(): Promise<void>;
}

/** The port of the review page unless another is asked for. */
export const AUDIT_PORT = 8477;

/**
 * Serves the review page of the log in `dir` on 127.0.0.1. The token in `url` is taken once: it becomes a cookie (HttpOnly,
 * SameSite=Strict) of the browser that opens it. Requests with another `Host` are refused, so that no name that is pointed at this
 * machine opens the page.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log in `dir`, or the port is taken or no port; `MISSING_DEPENDENCY` when
 *   the page was not built; `STORE_FAILED`.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * await using server = await serveAudit('./cloister-data', { port: 0 });
 * const reply = await fetch(server.url, { redirect: 'manual' });
 * reply.status; // 303
 * const again = await fetch(server.url, { redirect: 'manual' });
 * again.status; // 401
 * ```
 */
export async function serveAudit(dir: string, options: ServeOptions = {}): Promise<AuditServer> {
  const { port: wanted = AUDIT_PORT } = options;
  if (!Number.isInteger(wanted) || wanted < 0 || wanted > 65_535)
    throw new CloisterError('INVALID_ARGUMENT', `port: expected a whole number from 0 to 65535, got ${wanted}`);
  const pages = await auditHandler(dir);
  let token: string | undefined = randomBytes(32).toString('base64url');
  const session = randomBytes(32).toString('base64url');
  let port = wanted;

  const server = createServer((request, response) => {
    const { url = '/' } = request;
    if (!isOurHost(request.headers.host, port)) return say(response, 421, 'this page is served as 127.0.0.1 alone\n');
    const given = /^\/\?token=([\w-]{1,128})$/.exec(url)?.[1];
    if (given !== undefined && token !== undefined && same(given, token)) {
      token = undefined;
      response.setHeader('Set-Cookie', `${cookieName(port)}=${session}; HttpOnly; SameSite=Strict; Path=/`);
      response.setHeader('Location', './');
      return say(response, 303, 'opened\n');
    }
    if (!isOpen(request, port, session)) return say(response, 401, CLOSED);
    if (given !== undefined) {
      response.setHeader('Location', './');
      return say(response, 303, 'open already\n');
    }
    void pages.handle(request, response);
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  server.maxConnections = 64;
  try {
    port = await listen(server, wanted);
  } catch (error) {
    await pages.close();
    throw error;
  }
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise<void>(resolve => server.close(() => resolve()));
    await pages.close();
  };
  return {
    url: `http://127.0.0.1:${port}/?token=${token}`,
    port,
    ready: () => pages.ready(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function listen(server: ReturnType<typeof createServer>, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE' ? `port ${port} is taken; choose another` : `cannot listen: ${error.code}`;
      reject(new CloisterError('INVALID_ARGUMENT', `port: ${why}`, { port }, { cause: error }));
    });
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/** A name that somebody points at 127.0.0.1 must not open the page (DNS rebinding). */
function isOurHost(host: string | undefined, port: number): boolean {
  return host === `127.0.0.1:${port}` || host === `localhost:${port}`;
}

function isOpen(request: IncomingMessage, port: number, session: string): boolean {
  const cookies = (request.headers.cookie ?? '').split(/;\s*/);
  const prefix = `${cookieName(port)}=`;
  const held = cookies.find(cookie => cookie.startsWith(prefix));
  return held !== undefined && same(held.slice(prefix.length), session);
}

/** Cookies do not tell ports apart, so their names do. */
function cookieName(port: number): string {
  return `cloister-audit-${port}`;
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function say(response: ServerResponse, status: number, text: string): void {
  for (const [name, value] of Object.entries(SECURITY_HEADERS)) response.setHeader(name, value);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Cache-Control', 'no-store');
  response.writeHead(status);
  response.end(text);
}

const CLOSED =
  'Open the address that `cloister audit serve` printed. Its token works once; start the command again for another.\n';
