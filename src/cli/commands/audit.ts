/**
 * `cloister audit verify|show`: the log, checked and read without opening the service.
 * @module
 */
import { Command } from 'commander';
import { CloisterError } from '../../base/index.ts';
import { readRegularFile } from '../../service/files.ts';
import {
  AUDIT_ACTIONS,
  type AuditAction,
  type AuditRecord,
  readAudit,
  verifyAudit,
  verifyReceiptFile,
} from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { dirOption, jsonOption, parseNumber } from '../options.ts';
import { emit, paint, printable, startProgress, table } from '../output.ts';

interface ShowOptions {
  dir: string;
  from?: string;
  limit: string;
  action?: string;
  actor?: string;
  json: boolean;
}

/** Builds the command with its subcommands. */
export function auditCommand(): Command {
  return new Command('audit')
    .description('verify and read the audit log, offline')
    .addCommand(verifyCommand())
    .addCommand(showCommand());
}

function verifyCommand(): Command {
  return new Command('verify')
    .description('check every record, the tree, the checkpoint and its signature; or one receipt')
    .addOption(dirOption())
    .option('--key <vkey|file>', "the log's public key as the auditor knows it; default: the one beside the log")
    .option('--receipt <file>', 'check this receipt instead of the whole log')
    .addOption(jsonOption())
    .action(async (options: { dir: string; key?: string; receipt?: string; json: boolean }) => {
      const key = options.key === undefined ? undefined : await readKey(options.key);
      if (options.receipt !== undefined) {
        const verdict = await verifyReceiptFile(options.receipt, { dir: options.dir, ...(key ? { key } : {}) });
        emit(options.json, verdict, () =>
          verdict.ok
            ? `${paint('green', '✓')} the receipt verifies: record ${verdict.index}`
            : `${paint('red', '✗')} ${printable(verdict.message)}`,
        );
        process.exitCode = verdict.ok ? EXIT_CODES.ok : EXIT_CODES.verification;
        return;
      }
      const progress = startProgress('records');
      const verdict = await verifyAudit(options.dir, {
        ...(key ? { key } : {}),
        onProgress: (done, total) => progress.update(done, total),
      });
      progress.end();
      emit(options.json, verdict, () =>
        verdict.ok
          ? `${paint('green', '✓')} ${verdict.size.toLocaleString('en')} records verify; root ${verdict.root}`
          : `${paint('red', '✗')} record ${verdict.index}: ${verdict.kind}: ${printable(verdict.message)}`,
      );
      process.exitCode = verdict.ok ? EXIT_CODES.ok : EXIT_CODES.verification;
    });
}

/** Bytes of a file with a key, at most. */
const KEY_LIMIT_BYTES = 65_536;

/** A key may be given as text or as the name of a file that holds it. */
async function readKey(option: string): Promise<string> {
  if (/^[^+\s]+\+[0-9a-f]{8}\+/.test(option)) return option;
  try {
    return new TextDecoder().decode(await readRegularFile(option, KEY_LIMIT_BYTES)).trim();
  } catch (cause) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `--key: neither a verifier key (name+hash+base64) nor a readable file: ${option}`,
      {},
      { cause },
    );
  }
}

function showCommand(): Command {
  return new Command('show')
    .description('list records')
    .addOption(dirOption())
    .option('--from <index>', 'from this record on; default: the last ones')
    .option('--limit <n>', 'at most this many', '100')
    .option('--action <name>', 'only this action (load, run, charge, release, refuse …)')
    .option('--actor <name>', 'only this actor')
    .addOption(jsonOption())
    .action(async (options: ShowOptions) => {
      const limit = parseNumber('--limit', options.limit);
      if (!Number.isInteger(limit) || limit < 1) {
        throw new CloisterError('INVALID_ARGUMENT', `--limit: expected a whole number from 1, got ${options.limit}`);
      }
      let records: AuditRecord[] = [];
      const query = {
        from: options.from === undefined ? 0 : parseNumber('--from', options.from),
        limit: options.from === undefined ? undefined : limit,
        action: options.action === undefined ? undefined : parseAction(options.action),
        actor: options.actor,
      };
      for await (const record of readAudit(options.dir, query)) {
        records.push(record);
        if (records.length >= 2 * limit) records = records.slice(-limit);
      }
      records = records.slice(-limit);
      emit(options.json, records, () =>
        table(
          ['seq', 'time', 'actor', 'action', 'object', 'decision', 'purpose'],
          records.map(record => [
            String(record.seq),
            new Date(record.time).toISOString(),
            printable(record.actor),
            record.action,
            `${record.object.kind} ${printable(record.object.id).replace(/^(sha256:[0-9a-f]{12})[0-9a-f]+$/, '$1…')}`,
            record.decision.outcome === 'allow' ? 'allow' : paint('red', `refuse ${record.decision.reason ?? ''}`),
            printable(record.purpose ?? '–'),
          ]),
        ),
      );
    });
}

function parseAction(text: string): AuditAction {
  const action = AUDIT_ACTIONS.find(known => known === text);
  if (action) return action;
  throw new CloisterError(
    'INVALID_ARGUMENT',
    `--action: expected one of ${AUDIT_ACTIONS.join(', ')}, got ${JSON.stringify(text)}`,
  );
}
