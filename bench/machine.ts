/**
 * Where a bench ran.
 * @module
 */
import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { kernelInfo, nativeStatus } from '../native/index.ts';

/** Everything that a number depends on and a reader cannot see. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  /** The commit, with `+` when tracked files differ from it; `unknown` outside a checkout. */
  readonly commit: string;
  /** CPU features that the dispatch table asks for. */
  readonly features: readonly string[];
  /** The row of the dispatch table that runs; `none` without the native binary. */
  readonly isa: string;
  /** Load average of the last minute: well above 0 before the bench, others were working too. */
  readonly load: number;
}

/** Describes this machine, now. */
export function describeMachine(): Machine {
  const kernels = kernelInfo();
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release()}`,
    node: process.version,
    commit: describeCommit(),
    features: kernels?.features ?? [],
    isa: kernels?.isa ?? 'none',
    load: Math.round(loadavg()[0]! * 100) / 100,
  };
}

/** {@link Machine} in a few lines. */
export function formatMachine(machine: Machine): string {
  const lines = [
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, load ${machine.load}`,
    `Node ${machine.node}, commit ${machine.commit}`,
    `kernels ${machine.isa} (CPU: ${machine.features.join(' ') || 'no features asked for'})`,
  ];
  if (machine.isa === 'none') lines.push(`no native binary: ${JSON.stringify(nativeStatus())}`);
  return lines.join('\n');
}

function describeCommit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    return (
      git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+')
    );
  } catch {
    return 'unknown';
  }
}
