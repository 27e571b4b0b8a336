/**
 * Tables of results in a page of Markdown, one for each suite, rewritten where they stand.
 * @module
 */
import type { Machine } from './machine.ts';
import { formatNumber, formatRatio, formatTarget, isHeld, type Row, summariseHeld } from './rows.ts';

/**
 * Puts the rows of each suite between `<!-- bench SUITE -->` and `<!-- /bench SUITE -->` of `page`, in place of what is there, or at its
 * end where it has no such marks. Everything else stays.
 */
export function replaceTables(page: string, machine: Machine, rows: readonly Row[]): string {
  let text = page;
  for (const suite of new Set(rows.map(row => row.suite))) {
    const [open, close] = [`<!-- bench ${suite} -->`, `<!-- /bench ${suite} -->`];
    const block = `${open}\n${formatTable(
      machine,
      rows.filter(row => row.suite === suite),
    )}\n${close}`;
    const [start, end] = [text.indexOf(open), text.indexOf(close)];
    if (start >= 0 && end > start) text = text.slice(0, start) + block + text.slice(end + close.length);
    else text = `${text.trimEnd()}\n\n${block}\n`;
  }
  return text;
}

function formatTable(machine: Machine, rows: readonly Row[]): string {
  const header = ['case', 'unit', 'ours', 'peer', 'ratio', 'best ratio', 'held to', 'met'];
  const lines = rows.map(row => [
    row.case,
    row.unit,
    formatNumber(row.ours),
    formatNumber(row.peer),
    formatRatio(row.ratio),
    formatRatio(row.bestRatio),
    formatTarget(row.holdTo),
    { true: 'yes', false: '**no**', undefined: '' }[`${isHeld(row)}`],
  ]);
  const format = (cells: readonly string[]): string =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const peers = [...new Set(rows.filter(row => row.peer !== null).map(row => row.peerName))];
  const held = summariseHeld(rows);
  const notes = rows.filter(row => row.note !== undefined).flatMap(row => wrap(`- ${row.case}: ${row.note}`, '  '));
  return [
    ...wrap(
      `${sentence(machine)}${peers.length > 0 ? ` Peer: ${peers.join('; ')}.` : ''}${held === undefined ? '' : ` ${held}.`}`,
    ),
    '',
    format(header),
    `|${header.map((_, i) => (i < 2 || i > 5 ? '---' : '--:')).join('|')}|`,
    ...lines.map(format),
    ...(notes.length > 0 ? ['', ...notes] : []),
  ].join('\n');
}

function sentence({ cpu, cores, memoryGiB, system, node, commit, isa, load }: Machine): string {
  const kernel = /^\S+ \d+\.\d+/.exec(system)?.[0] ?? system;
  return `Commit ${commit}, ${cpu}, ${cores} cores, ${memoryGiB} GiB, ${kernel}, Node ${node}, kernels ${isa}, load ${load} at the start.`;
}

/** `text` in lines of at most 138 columns; those after the first begin with `indent`. */
function wrap(text: string, indent = ''): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > 138) {
      lines.push(line);
      line = indent + word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
