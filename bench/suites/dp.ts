/**
 * Differential privacy: samplers and accounting.
 * @module
 */
import type { Report } from '../rows.ts';
import { benchAccounting } from './dp-accounting.ts';
import { benchSamplers } from './dp-samplers.ts';

/** All of it. */
export async function benchDp(report: Report): Promise<void> {
  await benchSamplers(report);
  await benchAccounting(report);
}
