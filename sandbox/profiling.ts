/**
 * Profiles in pieces: many short requests instead of one long one, so that limits hold for each, and somebody hears of progress.
 * @module
 */
import { CloisterError, isCloisterError } from '../src/base/index.ts';
import type { Profile } from '../src/engine/index.ts';
import { joinProfiles } from '../src/engine/profile.ts';
import { refuseGuest } from './untrusted.ts';
import type { ProfileRunOptions } from './walls.ts';

const MAX_RUNS = 1_000_000;
/** About how long one request takes, unless one run takes longer. */
const REQUEST_MS = 200;

/** Measures `runs` runs. `warm` is false in the first request. */
export type ProfileRequest = (runs: number, warm: boolean) => Promise<Profile>;

/**
 * Profiles `options.runs` runs by as many requests as that takes.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT`; `ABORTED`; what a request throws; `GUEST_FAILED` when the guest tells of other nodes than
 *   before.
 */
export async function profileInPieces(request: ProfileRequest, options: ProfileRunOptions): Promise<Profile> {
  const { runs = 10, signal, onProgress } = options;
  if (!Number.isSafeInteger(runs) || runs < 1 || runs > MAX_RUNS) {
    throw new CloisterError('INVALID_ARGUMENT', `runs: expected 1 to ${MAX_RUNS}, got ${runs}`);
  }
  let profile: Profile | undefined;
  let runMs = REQUEST_MS;
  while (profile === undefined || profile.runs < runs) {
    if (signal?.aborted) throw new CloisterError('ABORTED', 'the caller cancelled', {}, { cause: signal.reason });
    const left: number = runs - (profile?.runs ?? 0);
    const now = Math.max(1, Math.min(left, Math.floor(REQUEST_MS / runMs)));
    const started = performance.now();
    const piece = await request(now, profile !== undefined);
    runMs = Math.max(0.001, (performance.now() - started) / (now + (profile === undefined ? 1 : 0)));
    profile = profile === undefined ? piece : join(profile, piece);
    onProgress?.(profile.runs, runs);
  }
  return profile;
}

function join(first: Profile, second: Profile): Profile {
  try {
    return joinProfiles(first, second);
  } catch (error) {
    throw isCloisterError(error, 'INVALID_ARGUMENT') ? refuseGuest('profile', 'the nodes of before', 'others') : error;
  }
}
