/**
 * What one core can do at most: `peak.c`, built and run where there is a C compiler.
 * @module
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Peaks of one core, the best of many short runs. */
export interface Peak {
  /** f32 multiply-adds on registers, counted as two operations. */
  readonly fmaGflops: number;
  /** u8 x s8 dot products on registers; absent where the CPU has no instruction for it that we ask for. */
  readonly dotGops?: number;
  /** Bytes read plus bytes written by a copy larger than the caches, in 1e9 a second. */
  readonly copyGbytes: number;
}

/** Measures the peaks now, in about a second; undefined where there is no C compiler. */
export function measurePeak(): Peak | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'cloister-peak-'));
  const program = join(folder, 'peak');
  try {
    const source = join(import.meta.dirname, 'peak.c');
    const flags = ['-O3', '-march=native', '-ffp-contract=fast', '-o', program, source];
    execFileSync(process.env['CC'] ?? 'cc', flags, { stdio: 'ignore' });
    return parsePeak(execFileSync(program, { encoding: 'utf8' }));
  } catch {
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Reads what `peak.c` prints. */
export function parsePeak(text: string): Peak | undefined {
  const values = new Map(
    text
      .trim()
      .split('\n')
      .map(line => line.split(' '))
      .map(([name, value]) => [name!, Number(value)]),
  );
  const [fmaGflops, dotGops, copyGbytes] = ['fmaGflops', 'dotGops', 'copyGbytes'].map(name => values.get(name));
  if (!fmaGflops || !copyGbytes) return undefined;
  return { fmaGflops, copyGbytes, ...(dotGops && { dotGops }) };
}
