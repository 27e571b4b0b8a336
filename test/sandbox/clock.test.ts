/**
 * The clock of a guest: it goes in steps.
 */
import { describe, expect, it } from 'vitest';
import { CLOCK_STEPS, Guest } from '../../sandbox/isolate.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { GraphBuilder } from '../../src/graph/index.ts';
import { affineModel } from './tiny-model.ts';

/** A guest that has read `model`. */
function loaded(model: Uint8Array, clockSteps?: number): Guest {
  const guest = Guest.open({ memoryMb: 64, ...(clockSteps !== undefined && { clockSteps }) });
  guest.lend(model);
  guest.callSync('load', { bytes: model.length, total: model.length, files: [], dims: {} });
  return guest;
}

function times(guest: Guest): readonly number[] {
  const { passes } = guest.callSync('passes', {}).header as { passes: { milliseconds: number }[] };
  return passes.map(({ milliseconds }) => milliseconds);
}

describe('the clock of a guest', () => {
  it.each([
    ['of this process', undefined, CLOCK_STEPS.isolate],
    ['of its own process', CLOCK_STEPS.process, CLOCK_STEPS.process],
  ])('%s goes in steps', (_, clockSteps, steps) => {
    const guest = loaded(affineModel(), clockSteps);
    for (const ms of times(guest)) expect(Math.abs(ms * steps - Math.round(ms * steps))).toBeLessThan(1e-6);
    guest.close();
  });

  it('goes on while something is measured', () => {
    const b = new GraphBuilder('long');
    let value = b.input('x', { dtype: 'f32', shape: [4] });
    for (let i = 0; i < 2_000; i++) value = b.node({ op: i % 2 ? 'Exp' : 'Sin', inputs: [value] })[0]!;
    b.output(value);
    const guest = loaded(writeOnnx(b.build()));
    expect(times(guest).reduce((sum, ms) => sum + ms, 0)).toBeGreaterThan(0);
    guest.close();
  });
});
