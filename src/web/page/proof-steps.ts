/**
 * The steps of a proof, for a drawing of it. Pure.
 * @module
 */

/** One step upwards: on which side the sibling stands, and which records lie below it. */
export interface ProofStep {
  readonly side: 'left' | 'right';
  /** Records below the sibling: from this one up to that one, exclusive. */
  readonly from: number;
  readonly to: number;
}

/** The steps of an audit path, lowest first (RFC 6962 §2.1.1). */
export function proofSteps(index: number, size: number): readonly ProofStep[] {
  const steps: ProofStep[] = [];
  let from = 0;
  let to = size;
  while (to - from > 1) {
    let half = 1;
    while (half * 2 < to - from) half *= 2;
    const split = from + half;
    if (index < split) {
      steps.push({ side: 'right', from: split, to });
      to = split;
    } else {
      steps.push({ side: 'left', from, to: split });
      from = split;
    }
  }
  return steps.reverse();
}
