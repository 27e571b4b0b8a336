/**
 * Accountants: from events to losses, epsilon and delta.
 * @module
 */
export { type Account, type DeltaOptions, deltaOf, type EpsilonOptions, epsilonOf, type Method } from './account.ts';
export { type Calibration, type CalibrationOptions, calibrate } from './calibrate.ts';
export { advancedComposition, basicComposition, type Guarantee, optimalDelta, optimalEpsilon } from './composition.ts';
export type { Bounds } from './gdp.ts';
export { gnmaxDivergence } from './gnmax.ts';
export { gdpLoss, rdpLoss, zcdpLoss } from './rdp.ts';
export { answerSpec, type SpecAnswer } from './spec.ts';
