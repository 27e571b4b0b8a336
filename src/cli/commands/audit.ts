/**
 * `cloister audit …`: the log, checked and read without opening the service.
 * @module
 */
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import type { Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { Command, Option } from 'commander';
import { CloisterError, isoTime } from '../../base/index.ts';
import {
  type AuditRecord,
  checkExtension,
  compareAudits,
  type ExportFormat,
  exportAudit,
  type LogComparison,
  proveAudit,
  type RevealedRecord,
  readAudit,
  revealAudit,
  tailAudit,
  verifyAudit,
  verifyAudits,
  verifyAuditWitnesses,
  verifyBundleFile,
  verifyReceiptFile,
  type WitnessedLogVerdict,
} from '../../service/index.ts';
import { EXIT_CODES } from '../exit-codes.ts';
import { filterOf, takesFilter } from '../filter.ts';
import { readKey } from '../keys.ts';
import { dirOption, jsonOption, parseNumber } from '../options.ts';
import { emit, paint, printable, say, startProgress, table, toJsonLine } from '../output.ts';
import { continueCommand, eraseCommand, rotateCommand } from './audit-erase.ts';
import { serveCommand } from './audit-serve.ts';
import { demandedWitnesses, witnessCommand, witnessOption } from './audit-witness.ts';

interface ShowOptions {
  dir: string;
  from?: string;
  limit: string;
  personal?: boolean;
  json: boolean;
}

/** Builds the command with its subcommands. */
export function auditCommand(): Command {
  return new Command('audit')
    .description('verify and read the audit log, offline; have it witnessed; erase a person from it')
    .addCommand(verifyCommand())
    .addCommand(showCommand())
    .addCommand(proveCommand())
    .addCommand(consistencyCommand())
    .addCommand(diffCommand())
    .addCommand(exportCommand())
    .addCommand(tailCommand())
    .addCommand(serveCommand())
    .addCommand(witnessCommand())
    .addCommand(eraseCommand())
    .addCommand(rotateCommand())
    .addCommand(continueCommand())
    .addCommand(chainCommand());
}

function verifyCommand(): Command {
  return new Command('verify')
    .description(
      'check every record, the tree, the checkpoint and its signature; or one receipt; or proof bundles alone',
    )
    .argument('[bundle]', 'check the proof bundles in this file, which needs no log; see `audit prove`')
    .addOption(dirOption())
    .addOption(keyOption())
    .option('--receipt <file>', 'check this receipt instead of the whole log')
    .addOption(
      witnessOption(
        'demand that this witness has cosigned it; once for each, all of them, or one file with a policy (C2SP tlog-policy), such as two of three',
      ),
    )
    .addOption(jsonOption())
    .action(
      async (
        bundle: string | undefined,
        options: { dir: string; key?: string; receipt?: string; witness?: readonly string[]; json: boolean },
      ) => {
        const key = options.key === undefined ? {} : { key: await readKey('--key', options.key) };
        if (bundle !== undefined && options.receipt !== undefined)
          throw new CloisterError('INVALID_ARGUMENT', 'expected a bundle or --receipt, got both');
        if (options.witness !== undefined && (bundle ?? options.receipt) !== undefined)
          throw new CloisterError('INVALID_ARGUMENT', '--witness goes with a log, not with a bundle or a receipt');
        if (bundle !== undefined) {
          const verdict = await verifyBundleFile(bundle, key);
          judge(options.json, verdict, verdict.ok ? bundlesHold(verdict) : `line ${verdict.line}: ${verdict.message}`);
          if (verdict.ok && options.key === undefined)
            say(`the key is the one in the file, ${printable(verdict.key)}: compare it, or pass --key`);
          return;
        }
        if (options.receipt !== undefined) {
          const verdict = await verifyReceiptFile(options.receipt, { dir: options.dir, ...key });
          judge(options.json, verdict, verdict.ok ? `the receipt verifies: record ${verdict.index}` : verdict.message);
          return;
        }
        const demanded = options.witness && (await demandedWitnesses(options.witness));
        const progress = startProgress('records');
        const verdict = await verifyAudit(options.dir, {
          ...key,
          onProgress: (done, total) => progress.update(done, total),
        });
        progress.end();
        const said = verdict.ok
          ? `${verdict.size.toLocaleString('en')} records verify; root ${verdict.root}`
          : `record ${verdict.index}: ${verdict.kind}: ${verdict.message}`;
        if (demanded === undefined || !verdict.ok) return judge(options.json, verdict, said);
        const witnesses = await verifyAuditWitnesses(options.dir, demanded, key);
        const both = { ...verdict, ok: witnesses.ok, witnesses };
        judge(options.json, both, `${said}; ${saidOf(witnesses)}`);
      },
    );
}

function saidOf(verdict: WitnessedLogVerdict): string {
  if (!verdict.ok) return `witnesses: ${verdict.message}`;
  const by = verdict.witnessed.map(({ witness, time }) =>
    time === 0 ? witness : `${witness} at ${isoTime(1000 * time)}`,
  );
  return `the first ${verdict.witnessedSize.toLocaleString('en')} were witnessed by ${by.join(' and ')}`;
}

function bundlesHold({ origin, records }: { readonly origin: string; readonly records: number }): string {
  return `${records.toLocaleString('en')} ${records === 1 ? 'record is' : 'records are'} in the log ${origin}`;
}

function proveCommand(): Command {
  return new Command('prove')
    .description('print a proof that a record is in the log: a bundle on one line, for `audit verify BUNDLE`')
    .argument('<seq>', 'number of the record')
    .addOption(dirOption())
    .addOption(jsonOption())
    .action(async (seq: string, options: { dir: string }) => {
      const index = parseNumber('SEQ', seq);
      if (!Number.isSafeInteger(index) || index < 0)
        throw new CloisterError('INVALID_ARGUMENT', `SEQ: expected the number of a record, from 0, got ${seq}`);
      process.stdout.write(`${toJsonLine(await proveAudit(options.dir, index))}\n`);
    });
}

function consistencyCommand(): Command {
  return new Command('consistency')
    .description('check that the log extends a checkpoint that was kept: nothing before it was changed or taken out')
    .argument('<checkpoint>', 'file with the earlier checkpoint, a copy of DIR/audit/checkpoint')
    .addOption(dirOption())
    .addOption(keyOption())
    .addOption(jsonOption())
    .action(async (file: string, options: { dir: string; key?: string; json: boolean }) => {
      const key = options.key === undefined ? {} : { key: await readKey('--key', options.key) };
      const verdict = await checkExtension(options.dir, file, key);
      const said = verdict.ok
        ? `the log of ${verdict.size.toLocaleString('en')} records extends the checkpoint of ${verdict.from.toLocaleString('en')}`
        : `${verdict.kind}: ${verdict.message}`;
      judge(options.json, verdict, said);
    });
}

function diffCommand(): Command {
  return new Command('diff')
    .description('compare two logs, or a log and its backup: the same, one extends the other, or where they part')
    .argument('<first>', 'directory of a cloister or of a log')
    .argument('<second>', 'another')
    .addOption(keyOption())
    .addOption(jsonOption())
    .action(async (first: string, second: string, options: { key?: string; json: boolean }) => {
      const key = options.key === undefined ? {} : { key: await readKey('--key', options.key) };
      const comparison = await compareAudits(first, second, key);
      judge(
        options.json,
        { ...comparison, ok: comparison.kind === 'same' || comparison.kind === 'extends' },
        describe(comparison),
      );
    });
}

function describe(comparison: LogComparison): string {
  switch (comparison.kind) {
    case 'same':
      return `the same ${comparison.sizes[0].toLocaleString('en')} records`;
    case 'extends': {
      const { longer, sizes } = comparison;
      return `the ${longer} extends the other by ${Math.abs(sizes[0] - sizes[1]).toLocaleString('en')} of ${Math.max(...sizes).toLocaleString('en')} records`;
    }
    case 'forked':
      return `forked: record ${comparison.index} is the first that differs`;
    case 'unrelated':
      return `two logs with keys of their own: ${comparison.origins.join(' and ')}`;
    case 'invalid':
      return `the ${comparison.which} does not verify: record ${comparison.index}: ${comparison.tamper}: ${comparison.message}`;
    default:
      return comparison satisfies never;
  }
}

const keyOption = (): Option =>
  new Option(
    '--key <vkey|file>',
    "the log's public key as the auditor knows it; default: the one beside the log, or in the bundle",
  );

/** Prints a verdict; one that says no is exit code 3. */
function judge(json: boolean, verdict: { readonly ok: boolean }, said: string): void {
  emit(json, verdict, () => `${verdict.ok ? paint('green', '✓') : paint('red', '✗')} ${printable(said)}`);
  process.exitCode = verdict.ok ? EXIT_CODES.ok : EXIT_CODES.verification;
}

function showCommand(): Command {
  return takesFilter(new Command('show'))
    .description('list records')
    .addOption(dirOption())
    .option('--from <index>', 'from this record on; default: the last ones')
    .option('--limit <n>', 'at most this many', '100')
    .option('--personal', 'with the personal data that belong to them, checked against what the records commit to')
    .addOption(jsonOption())
    .action(async (words: string[], options: ShowOptions) => {
      const limit = parseNumber('--limit', options.limit);
      if (!Number.isInteger(limit) || limit < 1) {
        throw new CloisterError('INVALID_ARGUMENT', `--limit: expected a whole number from 1, got ${options.limit}`);
      }
      let records: AuditRecord[] = [];
      const query = {
        from: options.from === undefined ? 0 : parseNumber('--from', options.from),
        limit: options.from === undefined ? undefined : limit,
        filter: filterOf(words),
      };
      for await (const record of readAudit(options.dir, query)) {
        records.push(record);
        if (records.length >= 2 * limit) records = records.slice(-limit);
      }
      records = records.slice(-limit);
      if (options.personal) return showPersonal(options, await revealAudit(options.dir, records));
      emit(options.json, records, () => table(COLUMNS, records.map(cellsOf)));
    });
}

const COLUMNS = ['seq', 'time', 'actor', 'action', 'object', 'decision', 'purpose'];

/** Records with personal data; where some are not those that were kept, the exit code says so. */
function showPersonal({ json }: ShowOptions, revealed: readonly RevealedRecord[]): void {
  if (revealed.some(({ personal }) => personal.kind === 'damaged')) process.exitCode = EXIT_CODES.verification;
  emit(json, revealed, () =>
    table(
      [...COLUMNS, 'personal'],
      revealed.map(({ record, personal }) => [...cellsOf(record), personalOf(personal)]),
    ),
  );
}

function personalOf(verdict: RevealedRecord['personal']): string {
  switch (verdict.kind) {
    case 'opened':
      return printable(
        [verdict.subject, ...Object.entries(verdict.fields).map(([name, text]) => `${name}: ${text}`)].join('; '),
      );
    case 'erased':
      return paint('dim', 'erased');
    case 'damaged':
      return paint('red', `damaged: ${verdict.reason}`);
    case 'none':
      return '–';
    default:
      return verdict satisfies never;
  }
}

/** A record as a row for people. */
function cellsOf(record: AuditRecord): string[] {
  return [
    String(record.seq),
    isoTime(record.time),
    printable(record.actor),
    record.action,
    `${record.object.kind} ${printable(record.object.id).replace(/^(sha256:[0-9a-f]{12})[0-9a-f]+$/, '$1…')}`,
    record.decision.outcome === 'allow' ? 'allow' : paint('red', `refuse ${record.decision.reason ?? ''}`),
    printable(record.purpose ?? '–'),
  ];
}

function chainCommand(): Command {
  return new Command('chain')
    .description('check logs that continue one another: every record of each, and that nothing is missing between them')
    .argument('<log...>', 'their directories, the oldest first')
    .addOption(keyOption())
    .addOption(jsonOption())
    .action(async (logs: string[], options: { key?: string; json: boolean }) => {
      const key = options.key === undefined ? {} : { key: await readKey('--key', options.key) };
      const progress = startProgress('records');
      const verdict = await verifyAudits(logs, { ...key, onProgress: progress.update });
      progress.end();
      const said = verdict.ok
        ? `${logs.length} logs continue one another: ${verdict.logs.map(({ size }) => size.toLocaleString('en')).join(' + ')} records`
        : `${logs[verdict.log]}: record ${verdict.index}: ${verdict.kind}: ${verdict.message}`;
      judge(options.json, verdict, said);
    });
}

function exportCommand(): Command {
  return takesFilter(new Command('export'))
    .description('write records for other programs')
    .addOption(dirOption())
    .addOption(
      new Option(
        '--format <name>',
        'JSON Lines in full, CSV for spreadsheets, or OCSF API Activity events as JSON Lines',
      )
        .choices(['jsonl', 'csv', 'ocsf'] satisfies ExportFormat[])
        .default('jsonl'),
    )
    .option('--out <file>', 'write here; default: to stdout')
    .option('--proofs <file>', 'write a proof bundle for each record here, for `audit verify FILE`')
    .addOption(new Option('--json', 'report an error as JSON'))
    .action(async (words: string[], options: { dir: string; format: ExportFormat; out?: string; proofs?: string }) => {
      const { dir, format, out, proofs } = options;
      const records = exportAudit(dir, { format, filter: filterOf(words), proofs: proofs !== undefined });
      const first = await records.next(); // what is wrong is found out before a file is made
      await using lines = out === undefined ? undefined : await openOutput('--out', out);
      await using bundles = proofs === undefined ? undefined : await openOutput('--proofs', proofs);
      let proved = 0;
      for (let next = first; !next.done; next = await records.next()) {
        const { line, bundle } = next.value;
        await writeLine(lines?.stream ?? process.stdout, line);
        if (bundles === undefined || bundle === undefined) continue;
        await writeLine(bundles.stream, bundle);
        proved++;
      }
      if (proofs !== undefined) say(`${proved.toLocaleString('en')} records, each with a proof`);
    });
}

/** A new file, or an old one emptied, for its owner alone. */
async function openOutput(option: string, file: string): Promise<{ readonly stream: Writable } & AsyncDisposable> {
  const stream = createWriteStream(file, { mode: 0o600 });
  try {
    await once(stream, 'open');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
    throw new CloisterError('INVALID_ARGUMENT', `${option}: cannot write ${file}: ${code}`, { file }, { cause });
  }
  return {
    stream,
    async [Symbol.asyncDispose]() {
      stream.end();
      await finished(stream);
    },
  };
}

async function writeLine(stream: Writable, line: string): Promise<void> {
  if (!stream.write(`${line}\n`)) await once(stream, 'drain');
}

function tailCommand(): Command {
  return takesFilter(new Command('tail'))
    .description('list the last records, and with -f those that come')
    .addOption(dirOption())
    .option('-f, --follow', 'wait for more, until Ctrl-C')
    .option('--last <n>', 'begin with this many', '10')
    .addOption(new Option('--json', 'one JSON value a line'))
    .action(async (words: string[], options: { dir: string; follow?: boolean; last: string; json?: boolean }) => {
      const last = parseNumber('--last', options.last);
      if (!Number.isSafeInteger(last) || last < 0)
        throw new CloisterError('INVALID_ARGUMENT', `--last: expected a whole number, got ${options.last}`);
      const stop = new AbortController();
      if (options.follow) process.once('SIGINT', () => stop.abort());
      const { follow } = options;
      for await (const record of tailAudit(options.dir, { last, filter: filterOf(words), follow, signal: stop.signal }))
        await writeLine(process.stdout, options.json ? toJsonLine(record) : cellsOf(record).join('  '));
    });
}
