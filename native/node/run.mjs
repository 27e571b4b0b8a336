/**
 * `node native/node/run.mjs [NODE OPTION...] FILE [ARGUMENT...]` runs FILE on the Node that this repository carries, whatever Node started
 * this. Plain JavaScript, for it has to run on that older Node.
 *
 * npm links the carried binary as `node_modules/.bin/node`, but npm 10 takes that link away again together with the packages of the other
 * platforms, which bring a binary of the same name. So nothing relies on the link.
 * @module
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FLOOR = 24;
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** The carried Node for this platform, or this very Node where it is new enough. */
function findNode() {
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const file = process.platform === 'win32' ? 'node.exe' : 'node';
  const carried = join(root, 'node_modules', `node-${platform}-${process.arch}`, 'bin', file);
  if (existsSync(carried)) return carried;
  if (Number(process.versions.node.split('.')[0]) >= FLOOR) return process.execPath;
  process.stderr.write(
    `Node ${FLOOR} or newer is needed. There is none to carry for ${process.platform}-${process.arch}: install it, then try again.\n`,
  );
  return process.exit(1);
}

const node = findNode();
// What FILE starts by the name of `node` is to be the same one.
const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH ?? ''}` };
const child = spawn(node, process.argv.slice(2), { stdio: 'inherit', env });
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  if (signal) process.kill(process.pid, signal);
  else process.exit(code ?? 1);
});
