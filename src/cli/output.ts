/**
 * How the commands speak: data on stdout, talk on stderr, colour and progress only where a person is watching.
 * @module
 */
import { stripVTControlCharacters, styleText } from 'node:util';

/** A style name of `node:util` `styleText`, which honours NO_COLOR and FORCE_COLOR. */
export type Style = Parameters<typeof styleText>[0];

/** `text` in `style` if `stream` shows colours. */
export function paint(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return styleText(style, text, { stream, validateStream: true });
}

/**
 * `text` that somebody else wrote (a model file, a caller of the service), safe to show: control characters, escape sequences
 * and marks that turn the direction of writing are spelt out, so that it cannot take over the terminal.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, mark => `\\u{${mark.codePointAt(0)!.toString(16)}}`);
}

/** Writes data: as JSON with `--json`, otherwise as the text that `human` makes. */
export function emit(json: boolean | undefined, data: unknown, human: () => string): void {
  process.stdout.write(json ? `${toJson(data)}\n` : `${human()}\n`);
}

/** Writes a remark for the person at the terminal. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** JSON that a terminal takes as text: U+007F to U+009F, which JSON leaves as they are, are escaped too. */
export function toJson(data: unknown): string {
  return escaped(JSON.stringify(data, plain, 2));
}

/** {@link toJson} on one line. */
export function toJsonLine(data: unknown): string {
  return escaped(JSON.stringify(data, plain));
}

function escaped(json: string): string {
  return json.replace(/[\u007f-\u009f]/g, mark => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** JSON for what JSON cannot say: 64-bit integers as decimal strings, bytes as hexadecimal, maps as lists of label and score. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (value instanceof Map) return [...value].map(([label, score]) => ({ label, score }));
  return value;
}

/** Rows as aligned columns; a column of numbers is right-aligned. Cells may be painted. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const plainRows = rows.map(row => row.map(cell => stripVTControlCharacters(cell)));
  const widths = header.map((title, i) =>
    plainRows.reduce((width, row) => Math.max(width, row[i]?.length ?? 0), title.length),
  );
  const numeric = header.map(
    (_, i) => rows.length > 0 && plainRows.every(row => /^(±?[-+]?[\d.,]+|–)$/.test(row[i] ?? '')),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => {
        const padding = ' '.repeat(Math.max(0, widths[i]! - stripVTControlCharacters(cell).length));
        return numeric[i] ? padding + cell : cell + padding;
      })
      .join('  ')
      .trimEnd();
  return [paint('dim', line(header)), ...rows.map(line)].join('\n');
}

/** A bar of `width` cells that is `share` (0 to 1) full, in eighths of a cell. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const full = Math.floor(eighths / 8);
  const rest = eighths % 8;
  return ('█'.repeat(full) + (rest > 0 ? ' ▏▎▍▌▋▊▉'[rest]! : '')).padEnd(width);
}

/** `bytes` in the unit that reads best. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** `ms` in the unit that reads best. */
export function formatMs(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** A micro-epsilon amount as epsilon with at most six decimals. */
export function formatEpsilon(micro: number): string {
  return String(micro / 1e6);
}

/** Progress on stderr, only when stderr is a terminal. `update` may be called as often as the work likes. */
export interface Progress {
  update(done: number, total?: number): void;
  /** Removes the line. */
  end(): void;
}

/** Starts a progress line for `label`; it appears after 300 ms of work, and at most ten times a second. */
export function startProgress(label: string): Progress {
  const stream = process.stderr;
  if (!stream.isTTY) return { update: () => {}, end: () => {} };
  let next = performance.now() + 300;
  let shown = false;
  return {
    update(done, total) {
      const now = performance.now();
      if (now < next) return;
      next = now + 100;
      shown = true;
      const share = total ? `${bar(done / total, 24)} ${Math.floor((100 * done) / total)} %` : '';
      stream.write(`\r\x1b[2K${label} ${done.toLocaleString('en')} ${share}`);
    },
    end() {
      if (shown) stream.write('\r\x1b[2K');
    },
  };
}
