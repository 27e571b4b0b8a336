/**
 * Runs the attempts of `confinement-probe.cc` in a process that is started as a worker is, or in one that is not confined. As a program
 * it does so as whatever user it runs, and prints what came of it.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { probeConfinement } from '../../sandbox/confinement/confinement.ts';
import { Launched } from '../../sandbox/confinement/launch.ts';

/** What came of each attempt: 0 when it succeeded, the number of an error, or the signal that ended the process. */
export type Outcomes = Readonly<Record<string, number | string>>;

const SCRIPT = `
  const { writeSync } = require('node:fs');
  const probe = require(process.argv[1]);
  const [names, ...given] = JSON.parse(process.argv[2]);
  if (names === null) writeSync(3, JSON.stringify(probe()));
  else for (const name of names) { writeSync(3, name + '\\t'); writeSync(3, probe(name, ...given) + '\\n'); }
  process.kill(process.pid, 'SIGKILL');`;

async function run(addon: string, confined: boolean, words: unknown): Promise<{ text: string; signal: string | null }> {
  const confinement = confined ? await probeConfinement() : undefined;
  const flags = ['--no-node-snapshot', ...(confined ? ['--openssl-config=/dev/null'] : [])];
  const { child } = Launched.start({
    file: process.execPath,
    args: [...flags, '-e', SCRIPT, addon, JSON.stringify(words)],
    env: {},
    confinement,
    descriptors: [],
  });
  let text = '';
  child.stdio[3]?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  let errors = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const signal = await new Promise<string | null>(resolve => child.on('close', (_, name) => resolve(name)));
  if (signal === null) throw new Error(`the probe did not run: ${errors}`);
  return { text, signal };
}

/** What an unconfined process of this user can do to the process `pid`. */
export async function lookInto(addon: string, pid: number): Promise<Outcomes> {
  const names = [
    ...["read another's environment", "read another's memory map", "open another's memory"],
    ...["take another's memory", 'trace another process'],
  ];
  const { text } = await run(addon, false, [names, '', '', pid, 0]);
  const lines = text.trim().split('\n');
  return Object.fromEntries(lines.map(line => line.split('\t')).map(([name, error]) => [name!, Number(error)]));
}

/** Makes every attempt, each in a process that is still alive. */
export async function attemptAll(addon: string, confined: boolean): Promise<Outcomes> {
  const names = JSON.parse((await run(addon, confined, [null])).text) as string[];
  const folder = mkdtempSync(join(tmpdir(), 'cloister-probe-'));
  const secret = join(folder, 'secret');
  writeFileSync(secret, 'secret');
  const server = createServer(socket => socket.destroy()).listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const bystander = spawn('sleep', ['300'], { stdio: 'ignore' });
  const { port } = server.address() as AddressInfo;
  const outcomes: Record<string, number | string> = {};
  try {
    let rest = names;
    while (rest.length > 0) {
      const { text, signal } = await run(addon, confined, [rest, secret, folder, bystander.pid, port]);
      const lines = text.split('\n').filter(line => line !== '');
      if (lines.length === 0) throw new Error(`the probe was ended by ${signal} before it tried anything`);
      for (const line of lines) {
        const [name = '', error] = line.split('\t');
        outcomes[name] = error === undefined || error === '' ? String(signal) : Number(error);
      }
      rest = rest.slice(lines.length);
    }
  } finally {
    bystander.kill();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return outcomes;
}

if (import.meta.main) console.log(JSON.stringify(await attemptAll(process.argv[2]!, process.argv[3] === 'confined')));
