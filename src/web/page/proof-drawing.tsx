/**
 * The path of a proof, drawn: from the leaf at the bottom to the signed root, each step with the hash that is put beside it.
 * @module
 */
import type { JSX } from 'preact';
import { fromBase64, toHex } from '../../base/bytes.ts';
import { count } from './format.ts';
import { type ProofStep, proofSteps } from './proof-steps.ts';

interface Props {
  readonly index: number;
  readonly size: number;
  /** Hexadecimal. */
  readonly leafHash: string;
  /** Base64, lowest first. */
  readonly path: readonly string[];
  /** Base64. */
  readonly root: string;
}

const STEP_PX = 30;
const WIDTH_PX = 400;
const MIDDLE_PX = WIDTH_PX / 2;
const ARM_PX = 34;

/** The drawing; what it shows is also said in words. */
export function ProofDrawing({ index, size, leafHash, path, root }: Props): JSX.Element {
  const steps = proofSteps(index, size);
  const height = (Math.max(1, steps.length) + 1) * STEP_PX + 26;
  const y = (step: number): number => height - 24 - step * STEP_PX;
  return (
    <svg
      class="proof"
      viewBox={`0 0 ${WIDTH_PX} ${height}`}
      role="img"
      aria-label={`${steps.length} hashes lead from record ${index} to the root of ${size} records`}
    >
      {steps.map((step, i) => {
        const left = step.side === 'left';
        const x = left ? MIDDLE_PX - ARM_PX : MIDDLE_PX + ARM_PX;
        const hash = toHex(fromBase64(path[i]!));
        return (
          <g>
            <title>{hash}</title>
            <path class="trunk" d={`M${MIDDLE_PX} ${y(i)}V${y(i + 1)}`} />
            <path class="arm" d={`M${x} ${y(i)}L${MIDDLE_PX} ${y(i + 1)}`} />
            <circle class="sibling" cx={x} cy={y(i)} r="4" />
            <text class="hash" x={left ? x - 9 : x + 9} y={y(i) + 3.5} text-anchor={left ? 'end' : 'start'}>
              {hash.slice(0, 8)} <tspan class="range">{spanOf(step)}</tspan>
            </text>
          </g>
        );
      })}
      {steps.length === 0 && <path class="trunk" d={`M${MIDDLE_PX} ${y(0)}V${y(1)}`} />}
      {Array.from({ length: Math.max(0, steps.length - 1) }, (_, i) => (
        <circle class="node" cx={MIDDLE_PX} cy={y(i + 1)} r="3" />
      ))}
      <circle class="leaf" cx={MIDDLE_PX} cy={y(0)} r="5" />
      <text class="hash on" x={MIDDLE_PX} y={y(0) + 15} text-anchor="middle">
        {`${leafHash.slice(0, 8)} record ${count(index)}`}
      </text>
      <circle class="root" cx={MIDDLE_PX} cy={y(steps.length || 1)} r="6" />
      <text class="hash on" x={MIDDLE_PX} y={y(steps.length || 1) - 11} text-anchor="middle">
        {`${toHex(fromBase64(root)).slice(0, 8)} signed root of ${count(size)}`}
      </text>
    </svg>
  );
}

function spanOf({ from, to }: ProofStep): string {
  return to - from === 1 ? count(from) : `${count(from)}–${count(to - 1)}`;
}
