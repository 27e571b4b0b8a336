/**
 * Layers on plain numbers: how large every value gets, and what exact functions would have answered. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { Layers } from './layers.ts';
import { apply } from './sparse.ts';

/** Returns the value of every base for one input: doubles, functions exact. */
export function evaluateLayers(layers: Layers, inputs: Readonly<Record<string, ArrayLike<number>>>): Float64Array[] {
  const bases: Float64Array[] = layers.inputs.map(({ name }, i) => {
    const values = inputs[name];
    if (values === undefined) throw new CloisterError('INPUT_MISMATCH', `input ${name} is missing`);
    if (values.length !== layers.sizes[i])
      throw new CloisterError('SHAPE_MISMATCH', `${name} has ${layers.sizes[i]} elements, got ${values.length}`);
    return Float64Array.from(values);
  });
  for (const layer of layers.layers) {
    if (layer.kind === 'affine') {
      const out = layer.bias.slice();
      layer.maps.forEach((map, i) => {
        apply(map, bases[layer.inputs[i]!]!, out);
      });
      bases.push(out);
    } else if (layer.kind === 'product') {
      const [a, b] = layer.inputs.map(base => bases[base]!) as [Float64Array, Float64Array];
      bases.push(a.map((value, i) => value * b[i]!));
    } else bases.push(layer.evaluate(bases[layer.inputs[0]]!));
  }
  return bases;
}

/** The largest absolute value of every base over `samples`. */
export function rangesOf(
  layers: Layers,
  samples: readonly Readonly<Record<string, ArrayLike<number>>>[],
): readonly number[] {
  const most = new Array<number>(layers.sizes.length).fill(0);
  for (const sample of samples) {
    evaluateLayers(layers, sample).forEach((values, base) => {
      most[base] = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), most[base]!);
    });
  }
  return most;
}
