import { describe, expect, it } from 'vitest';
import { augment } from '../../examples/digits/augment.ts';
import { drawDigit } from '../../examples/digits/draw.ts';
import { createNetwork, initialise, type Parameters, zeros } from '../../examples/digits/network.ts';
import { seededRandom } from '../../examples/digits/random.ts';

const LABEL = 4;
const SMOOTHING = 0.1;

describe('the network that is trained', () => {
  it('has the gradients that finite differences show', () => {
    const random = seededRandom(11);
    const parameters = initialise(random);
    for (const bias of [parameters.bias1, parameters.bias2, parameters.bias3]) {
      for (let i = 0; i < bias.length; i++) bias[i] = random.normal(0.1);
    }
    const image = drawDigit(LABEL, { seed: 3 });
    const network = createNetwork();
    const scratch = zeros();
    const lossOf = (changed: Parameters): number => {
      network.forward(changed, image);
      return network.backward(changed, scratch, LABEL, SMOOTHING);
    };
    const gradients = zeros();
    network.forward(parameters, image);
    network.backward(parameters, gradients, LABEL, SMOOTHING);

    for (const name of Object.keys(parameters) as (keyof Parameters)[]) {
      const values = parameters[name];
      for (let sample = 0; sample < 40; sample++) {
        const index = random.below(values.length);
        const [kept, h] = [values[index]!, 1e-6];
        values[index] = kept + h;
        const above = lossOf(parameters);
        values[index] = kept - h;
        const below = lossOf(parameters);
        values[index] = kept;
        // The difference quotient errs by about u·loss/h ≈ 1e-9 and by terms in h² besides.
        expect(gradients[name][index], `${name}[${index}]`).toBeCloseTo((above - below) / (2 * h), 6);
      }
    }
  });

  it('adds up gradients over images', () => {
    const parameters = initialise(seededRandom(5));
    const network = createNetwork();
    const [once, twice] = [zeros(), zeros()];
    const image = drawDigit(8, { seed: 1 });
    network.forward(parameters, image);
    network.backward(parameters, once, 8, 0);
    network.backward(parameters, twice, 8, 0);
    network.backward(parameters, twice, 8, 0);
    once.weight2.forEach((gradient, i) => {
      expect(twice.weight2[i]).toBeCloseTo(2 * gradient, 12);
    });
  });
});

describe('augmentation', () => {
  it('stays in 0 … 1, keeps the ink near, and follows its seed', () => {
    const source = drawDigit(5, { seed: 9 });
    const [a, b] = [new Float64Array(784), new Float64Array(784)];
    augment(source, a, seededRandom(1));
    augment(source, b, seededRandom(1));
    expect(a).toEqual(b);
    expect(Math.min(...a)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...a)).toBeLessThanOrEqual(1);
    augment(source, b, seededRandom(2));
    expect(a).not.toEqual(b);
    const ink = (image: ArrayLike<number>): number => Array.from(image).reduce((sum, value) => sum + value, 0);
    expect(ink(a) / ink(source)).toBeGreaterThan(0.4);
    expect(ink(a) / ink(source)).toBeLessThan(2.5);
  });
});
