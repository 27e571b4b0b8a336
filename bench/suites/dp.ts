/**
 * Differential privacy: samplers.
 * @module
 */
import type { Report } from '../rows.ts';
import { benchSamplers } from './dp-samplers.ts';

/** All of it. */
export async function benchDp(report: Report): Promise<void> {
  await benchSamplers(report);
}
