/**
 * Which neighbours an event's bound holds for, and which combinations hold for none.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Adjacency } from '../parameters.ts';

/**
 * Returns the neighbours that every part of `event` is stated for; `undefined` for an empty composition, which tells nothing of anyone.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when parts are stated for different neighbours, or a way of sampling amplifies nothing
 *   that is known for them: Poisson samples hide presence (`add-remove`, `replace-special`), samples of a fixed size hide which
 *   record it is (`replace-one`).
 */
export function adjacencyOf(event: DpEvent): Adjacency | undefined {
  switch (event.kind) {
    case 'composition': {
      let common: Adjacency | undefined;
      for (const part of event.events) {
        const own = adjacencyOf(part);
        if (common !== undefined && own !== undefined && own !== common) {
          refuse(`parts of a composition must be stated for the same neighbours, got ${common} and ${own}`);
        }
        common ??= own;
      }
      return common;
    }
    case 'self-composition':
    case 'repeat-and-select':
      return adjacencyOf(event.event);
    case 'poisson-subsampled':
    case 'truncated-poisson-subsampled': {
      const own = adjacencyOf(event.event);
      if (own === 'replace-one') {
        refuse(
          'a Poisson sample amplifies add-remove or replace-special events; for replace-one no bound is known here',
        );
      }
      return own;
    }
    case 'fixed-size-subsampled': {
      const own = adjacencyOf(event.event);
      if (own !== undefined && own !== 'replace-one') {
        refuse(
          `a sample of a fixed size amplifies replace-one events, got ${own}: it must not be accounted as a Poisson sample`,
        );
      }
      if (event.size > event.population) refuse('a sample without replacement is at most the population');
      return 'replace-one';
    }
    case 'randomized-response':
      if (event.neighboring === 'add-remove') {
        refuse('a randomised response is given or not: it has no add-remove loss');
      }
      return event.neighboring;
    case 'gaussian-mixture':
      if (event.neighboring === 'replace-one') {
        refuse('a mixture stands against noise alone: for replace-one both sides would be mixtures');
      }
      return event.neighboring;
    case 'discrete-laplace':
      return event.neighboring ?? 'add-remove';
    default:
      return event.neighboring;
  }
}

function refuse(message: string): never {
  throw new CloisterError('DP_INVALID_PARAMETER', message);
}
