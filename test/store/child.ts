import { type ChildProcess, spawn } from 'node:child_process';

/** A script that writes to a store until it is killed. */
export const writer: string = new URL('writer.ts', import.meta.url).pathname;

/** Starts {@link writer}; `output` is what it has printed so far. */
export function child(...argv: string[]): {
  process: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
} {
  const spawned = spawn(process.execPath, [writer, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  spawned.stdout.on('data', chunk => {
    output += chunk;
  });
  const ended = new Promise<number | null>(resolve => spawned.on('close', resolve));
  return { process: spawned, output: () => output, ended };
}
