import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answerSpec } from '../../../privacy/dp/index.ts';
import { CloisterError } from '../../../src/base/index.ts';

const invalid: unknown = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });

describe('a what-if question', () => {
  it('has an answer or a typed error, whatever it is', () => {
    const words = fc.constantFrom(
      ...[
        'gaussian',
        'laplace',
        'discrete_laplace',
        'k_randomized_response',
        'zcdp',
        'rdp',
        'gdp',
        'epsilon_delta',
        'pure',
      ],
      ...[
        'laplace_threshold_partition_selection',
        'optimal_partition_selection',
        'dp_ftrl_single_epoch_tree',
        'heterogeneous',
      ],
      ...['repeat_and_select', 'pate_gnmax_data_dependent', 'bounded_range', 'constructor', ''],
    );
    const names = fc.constantFrom(
      ...[
        'noise_multiplier',
        'sigma',
        'scale',
        'scales',
        'noise_parameter',
        'num_buckets',
        'epsilon',
        'delta',
        'rho',
        'xi',
        'mu',
      ],
      ...[
        'order',
        'orders',
        'losses',
        'sensitivity',
        'l0',
        'linf',
        'steps',
        'mean',
        'shape',
        'votes',
        'components',
        'user_count',
      ],
    );
    const values = fc.oneof(
      fc.constantFrom(
        0,
        -0,
        1,
        -1,
        0.5,
        2,
        1e-9,
        1e9,
        1e300,
        Number.NaN,
        Number.POSITIVE_INFINITY,
        Number.MIN_VALUE,
        null,
        '1',
        true,
      ),
      fc.array(fc.constantFrom(1, 2, 0.5, -1, 'gaussian'), { maxLength: 3 }),
    );
    const question = fc.record(
      {
        mechanism: fc.oneof(words, fc.anything()),
        params: fc.oneof(fc.dictionary(names, values), fc.anything()),
        composition: fc.oneof(fc.record({ count: values }), fc.anything()),
        neighboring: fc.oneof(fc.constantFrom('add_or_remove_one', 'replace_one', 'replace_special'), fc.anything()),
        delta: values,
        quantity: fc.constantFrom('epsilon', 'delta', 'rdp', 'threshold', 'keep_probability', 'nothing'),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(question, fc.anything()), value => {
        try {
          answerSpec(value);
        } catch (error) {
          expect(error).toBeInstanceOf(CloisterError);
        }
      }),
      { numRuns: Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 300) },
    );
  });

  it('is refused where the sample or the neighbours do not fit', () => {
    const delta = 1e-5;
    const fixed = { dataset_size: 1000, batch: 10, noise_multiplier: 2 };
    for (const question of [
      { mechanism: 'fixed_size_wor_subsampled_gaussian', params: fixed, neighboring: 'add_or_remove_one' },
      {
        mechanism: 'poisson_subsampled_gaussian',
        params: { noise_multiplier: 1, sampling_probability: 0.1 },
        neighboring: 'replace_one',
      },
      { mechanism: 'gaussian', params: { noise_multiplier: 1, sampling_probability: 0.1 } },
      { mechanism: 'k_randomized_response', params: { noise_parameter: 0.5 }, neighboring: 'add_or_remove_one' },
      { mechanism: 'gaussian', params: { noise_multiplier: 1 }, composition: { type: 'parallel', count: 2 } },
    ]) {
      expect(() => answerSpec({ ...question, delta })).toThrow(invalid);
    }
  });
});
