/**
 * Who holds a reservation, and whether that holder can still use it.
 * @module
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

import { canonicalJson } from '../../src/base/index.ts';

/**
 * Tells dead holders from live ones. A wrong «dead» costs budget and never privacy: what that holder had reserved counts as
 * spent, and it is told so when it comes to charge. A wrong «alive» leaves its reservations counted as reserved.
 */
export interface Liveness {
  /** This process, told apart from every other that shares the store, now and after a restart. */
  readonly self: string;
  /** Whether the process that called itself `holder` is known to have ended. False when that cannot be known. */
  isDead(holder: string): boolean;
}

interface Identity {
  readonly host: string;
  readonly boot: string;
  readonly pids: string;
  readonly pid: number;
  readonly started: string;
}

/**
 * Liveness by what the operating system says. On Linux a holder is dead if it ran on this machine before its last boot, or
 * ran in this process namespace and its number is now free or belongs to a process started at another time. Elsewhere, if
 * its number is free on this host. A holder on another host, or in another container, is never known to be dead.
 */
export function processLiveness(): Liveness {
  const self: Identity = {
    host: `${hostname()} ${readText('/etc/machine-id')}`,
    boot: readText('/proc/sys/kernel/random/boot_id'),
    pids: readLink('/proc/self/ns/pid'),
    pid: process.pid,
    started: startOf(process.pid) || String(performance.timeOrigin),
  };
  return {
    self: canonicalJson({ ...self }),
    isDead(holder) {
      const other = JSON.parse(holder) as Identity;
      if (other.host !== self.host) return false;
      if (other.boot !== self.boot) return true;
      if (other.pids !== self.pids) return false;
      if (other.pid === self.pid) return other.started !== self.started;
      return self.boot === '' ? !exists(other.pid) : startOf(other.pid) !== other.started;
    },
  };
}

/** When process `pid` started, in ticks since boot; '' if it is gone (a zombie is) or this is not Linux. */
function startOf(pid: number): string {
  const stat = readText(`/proc/${pid}/stat`);
  // proc(5): field 2 is the name in parentheses and may hold anything; state is field 3, start time field 22.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
