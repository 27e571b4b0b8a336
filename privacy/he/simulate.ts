/**
 * A plan carried out on plain numbers: what the encrypted run will answer, before any key exists. Pure.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import type { HePlan, Plain, Port } from './plan/plan.ts';

/** Values by port name, each flattened. */
export type PlainValues = Readonly<Record<string, ArrayLike<number>>>;

/** The slots of an input: its elements where its layout has them, repeated. */
export function packSlots(port: Port, values: ArrayLike<number>, slots: number): Float64Array {
  const count = port.shape.reduce((all, size) => all * size, 1);
  if (values.length !== count) {
    throw new CloisterError(
      'SHAPE_MISMATCH',
      `${port.name} has ${count} elements (${port.shape.join('x')}), got ${values.length}`,
      { name: port.name },
    );
  }
  const { layout, gather } = port;
  const packed = new Float64Array(slots);
  layout.place.forEach((slot, element) => {
    const from = gather === undefined ? element : gather[element]!;
    if (from < 0) return;
    for (let at = slot; at < slots; at += layout.period) packed[at] = values[from]!;
  });
  return packed;
}

/** The elements of an output, from its slots. */
export function unpackSlots(port: Port, slots: ArrayLike<number>): Float64Array {
  return Float64Array.from(port.layout.place, slot => slots[slot]!);
}

/** What {@link simulate} found. */
export interface Simulation {
  readonly outputs: Readonly<Record<string, Float64Array>>;
  /** The largest absolute value in any slot of each ciphertext. */
  readonly magnitudes: Float64Array;
  /** The root of the mean square over the slots of each ciphertext. */
  readonly means: Float64Array;
}

/**
 * Carries `plan` out on plain slots.
 *
 * @throws {CloisterError} `INPUT_MISMATCH` when an input is missing; `SHAPE_MISMATCH` when one has another number of elements.
 */
export function simulate(plan: HePlan, inputs: PlainValues): Simulation {
  const slots = plan.parameters.degree / 2;
  const last = lastUses(plan);
  const values: (Float64Array | undefined)[] = [];
  const magnitudes = new Float64Array(plan.steps.length);
  const means = new Float64Array(plan.steps.length);
  const outputs: Record<string, Float64Array> = {};
  const at = (id: number): Float64Array => values[id]!;
  plan.steps.forEach((step, id) => {
    switch (step.op) {
      case 'input': {
        const port = plan.inputs[step.input]!;
        const given = inputs[port.name];
        if (given === undefined) throw new CloisterError('INPUT_MISMATCH', `input ${port.name} is missing`);
        values[id] = packSlots(port, given, slots);
        break;
      }
      case 'rotate': {
        const x = at(step.of);
        const turned = new Float64Array(slots);
        turned.set(x.subarray(step.steps));
        turned.set(x.subarray(0, step.steps), slots - step.steps);
        values[id] = turned;
        break;
      }
      case 'multiplyPlain':
      case 'addPlain': {
        const { values: plain } = plan.plains[step.plain] as Plain;
        const period = plain.length;
        values[id] =
          step.op === 'addPlain'
            ? at(step.of).map((value, s) => value + plain[s % period]!)
            : at(step.of).map((value, s) => value * plain[s % period]!);
        break;
      }
      case 'add': {
        const by = at(step.by);
        values[id] = at(step.of).map((value, s) => value + by[s]!);
        break;
      }
      case 'multiply': {
        const by = at(step.by);
        values[id] = at(step.of).map((value, s) => value * by[s]!);
        break;
      }
      case 'relinearise':
      case 'rescale':
      case 'modSwitch':
        values[id] = at(step.of);
        break;
      default:
        step satisfies never;
    }
    magnitudes[id] = at(id).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    means[id] = rootMeanSquare(at(id));
    for (const output of plan.outputs) if (output.cipher === id) outputs[output.name] = unpackSlots(output, at(id));
    for (const dead of last[id]!) values[dead] = undefined;
  });
  return { outputs, magnitudes, means };
}

export function rootMeanSquare(values: Float64Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** For each step, the ciphertexts that no later step and no output needs. */
export function lastUses(plan: HePlan): readonly (readonly number[])[] {
  const last = new Map<number, number>();
  plan.steps.forEach((step, id) => {
    last.set(id, id);
    if (step.op !== 'input') last.set(step.of, id);
    if (step.op === 'add' || step.op === 'multiply') last.set(step.by, id);
  });
  for (const { cipher } of plan.outputs) last.delete(cipher);
  const by: number[][] = plan.steps.map(() => []);
  for (const [id, at] of last) by[at]!.push(id);
  return by;
}
