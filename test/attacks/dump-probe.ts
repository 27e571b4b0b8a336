/**
 * As a program: what another process of the same user can do to a worker, and to a process that is confined as a worker is and has not
 * hidden itself. Prints both, the layer that the sandbox reported, and what its supervisor still sees.
 */
import { readFileSync } from 'node:fs';
import { probeConfinement } from '../../sandbox/confinement/confinement.ts';
import { Launched } from '../../sandbox/confinement/launch.ts';
import { type Layer, openSandbox } from '../../sandbox/index.ts';
import { lookInto, type Outcomes } from './confinement-probe.ts';

/** What it prints. */
export interface Seen {
  readonly layer: Layer;
  readonly worker: Outcomes;
  readonly control: Outcomes;
  /** How a script ended that only its processor time stops. */
  readonly outcome: string;
}

/** The workers that this process has. */
export function workersOf(pid: number): readonly number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim().split(' ');
  return children.filter(child => readFileSync(`/proc/${child}/cmdline`, 'latin1').includes('worker/main')).map(Number);
}

async function look(addon: string): Promise<Seen> {
  await using sandbox = await openSandbox({ warm: 1, limits: { wallMs: 60_000, cpuMs: 300 } });
  await sandbox.settled();
  const [pid = 0] = workersOf(process.pid);
  const worker = await lookInto(addon, pid);
  const { child } = Launched.start({
    file: process.execPath,
    args: ['--openssl-config=/dev/null', '-e', "require('node:fs').writeSync(3, '.'); setInterval(() => {}, 60_000)"],
    env: {},
    confinement: await probeConfinement(),
    descriptors: [],
  });
  await new Promise(resolve => child.stdio[3]?.once('data', resolve));
  const control = await lookInto(addon, child.pid!);
  child.kill('SIGKILL');
  const { outcome } = await sandbox.evaluate('for (;;);');
  return { layer: sandbox.capabilities().layers.noDump, worker, control, outcome };
}

if (import.meta.main) console.log(JSON.stringify(await look(process.argv[2]!)));
