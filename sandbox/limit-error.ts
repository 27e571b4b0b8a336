/**
 * The error of a call that passed a limit. Apart from the schema, so that a worker starts without loading it.
 * @module
 */
import { CloisterError } from '../src/base/index.ts';

/** The limits whose passing stops a call. */
export type LimitName = keyof typeof UNITS;

const UNITS = {
  wallMs: 'ms',
  cpuMs: 'ms of processor time',
  memoryMb: 'MiB',
  outputBytes: 'bytes',
  messages: 'messages',
  messageBytes: 'bytes of messages',
} as const;

/** The error of a call that was stopped at `limit`. `allowed` and `seen` are in the limit's own unit. */
export function limitError(limit: LimitName, allowed: number, seen?: number): CloisterError {
  const came = seen === undefined ? '' : `, it was at ${Math.round(seen)}`;
  const message = `the guest was stopped at its limit ${limit} of ${allowed} ${UNITS[limit]}${came}`;
  return new CloisterError('LIMIT_EXCEEDED', message, {
    limit,
    allowed,
    ...(seen !== undefined && { seen: Math.round(seen) }),
  });
}

/** The limit at which the call of `error` was stopped, if it was. */
export function limitOf(error: CloisterError): LimitName | undefined {
  const limit = error.code === 'LIMIT_EXCEEDED' ? error.detail['limit'] : undefined;
  return typeof limit === 'string' && Object.hasOwn(UNITS, limit) ? (limit as LimitName) : undefined;
}
