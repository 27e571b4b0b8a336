/**
 * `cloister audit serve`: the review page, for the person at this machine.
 * @module
 */
import { Command } from 'commander';
import { CloisterError } from '../../base/index.ts';
import { AUDIT_PORT, serveAudit } from '../../web/index.ts';
import { dirOption, jsonOption, parseNumber } from '../options.ts';
import { emit, say } from '../output.ts';

/** Builds the command. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('open a page to search and verify the log in a browser; on this machine alone, until Ctrl-C')
    .addOption(dirOption())
    .option('--port <n>', 'port on 127.0.0.1; 0 takes a free one', String(AUDIT_PORT))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
The address that is printed works once: its token becomes a cookie of the browser that opens it. The browser does the verifying,
from the tiles and the checkpoint. It remembers what it saw of a log for this address: keep the port, and a log that was rolled
back or forked is noticed on the next visit.`,
    )
    .action(async (options: { dir: string; port: string; json: boolean }) => {
      const port = parseNumber('--port', options.port);
      await using server = await serveAudit(options.dir, { port });
      emit(options.json, { url: server.url, port: server.port }, () => server.url);
      say('open it in a browser; Ctrl-C ends');
      server.ready().catch((error: unknown) => {
        const why = error instanceof CloisterError ? error.message : String(error);
        say(`no filters: the log cannot be indexed: ${why}`);
      });
      await new Promise<void>(resolve => {
        process.once('SIGINT', resolve);
        process.once('SIGTERM', resolve);
      });
    });
}
