/**
 * Programs that tests run as an ordinary user, from root.
 */
import { type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync, writeFileSync } from 'node:fs';

/** A user that owns nothing. */
const NOBODY = 65_534;
const WAIT_MS = 5;

/** How a program ended. */
export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Whether programs can be run as another user. */
export const canChangeUser: boolean = process.platform === 'linux' && process.getuid?.() === 0;

/** Runs a program of Node as an ordinary user. */
export function runAsNobody(words: readonly string[]): Promise<Ran> {
  return ran(spawn(process.execPath, [...FLAGS, ...words], { uid: NOBODY, gid: NOBODY, ...QUIET }));
}

/**
 * The same, where no user namespace can be made: in one that allows none below it, as many containers and machines do. Rejects where such
 * a place cannot be made.
 */
export async function runAsNobodyWithoutNamespaces(words: readonly string[]): Promise<Ran> {
  const become = ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups', '"$0"', '"$@"'].join(' ');
  const script = `read go && echo 0 > /proc/sys/user/max_user_namespaces && exec ${become}`;
  const args = ['--user', '--keep-caps', 'sh', '-c', script, process.execPath, ...FLAGS, ...words];
  const child = spawn('unshare', args, { ...QUIET, stdio: 'pipe' });
  const result = ran(child);
  await once(child, 'spawn');
  const own = readlinkSync('/proc/self/ns/user');
  while (readlinkSync(`/proc/${child.pid}/ns/user`) === own) await new Promise(resolve => setTimeout(resolve, WAIT_MS));
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, '0 0 65536');
  child.stdin.end('\n');
  return await result;
}

const FLAGS = ['--no-node-snapshot', '--no-warnings'] as const;
const QUIET: SpawnOptions = { cwd: '/' };

async function ran(child: ReturnType<typeof spawn>): Promise<Ran> {
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}
