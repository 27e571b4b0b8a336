/**
 * Accountants: from events to losses, epsilon and delta.
 * @module
 */
export { gdpLoss, rdpLoss, zcdpLoss } from './rdp.ts';
