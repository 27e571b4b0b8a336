/**
 * A proxy before a PostgreSQL server that can be told to fail: to cut the connection around a commit, or to change a word of a
 * statement on its way.
 * @module
 */
import net from 'node:net';

/** What the proxy does to the next commit: it never reaches the server, or its answer never comes back. */
export type Cut = 'before' | 'after';

export interface Proxy extends AsyncDisposable {
  readonly url: string;
  /** Cuts the connection at the next COMMIT of a transaction that wrote something. */
  cutNextCommit(when: Cut): void;
  /** Refuses connections from now on, and cuts those that are open; or takes them again. */
  away(away: boolean): void;
  /** Replaces a word of every statement by another; it is padded to the length of the first. */
  replace(word: string, by: string): void;
}

export async function openProxy(url: string): Promise<Proxy> {
  const target = new URL(url);
  const sockets = new Set<net.Socket>();
  let cut: Cut | undefined;
  let isAway = false;
  let replaced: readonly [string, string] | undefined;
  const server = net.createServer(client => {
    if (isAway) {
      client.destroy();
      return;
    }
    const upstream = net.connect(Number(target.port || 5432), target.hostname);
    let muted = false;
    let wrote = false;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', end).on('close', () => {
        sockets.delete(socket);
        end();
      });
    }
    client.on('data', chunk => {
      let text = chunk.toString('latin1');
      wrote ||= text.includes('cloister write');
      if (wrote && cut !== undefined && text.includes('COMMIT\0')) {
        if (cut === 'before') end();
        muted = cut === 'after';
        cut = undefined;
      }
      if (replaced) text = text.replaceAll(replaced[0], replaced[1].padEnd(replaced[0].length));
      if (!upstream.destroyed) upstream.write(Buffer.from(text, 'latin1'));
    });
    upstream.on('data', chunk => {
      if (muted) end();
      else client.write(chunk);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const proxied = new URL(url);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as net.AddressInfo).port);
  return {
    url: proxied.href,
    cutNextCommit(when) {
      cut = when;
    },
    away(away) {
      isAway = away;
      if (away) for (const socket of sockets) socket.destroy();
    },
    replace(word, by) {
      replaced = [word, by];
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
