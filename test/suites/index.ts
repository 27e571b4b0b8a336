/**
 * Contract suites and arbitraries for whoever writes an operator, a gradient, a backend, a store or a mechanism: `cloister/testing`. Needs
 * vitest and fast-check. `docs/testing.md` shows how.
 * @module
 */
export { findCases, type Outcome, runCase, TOLERANCE, type Tolerance } from '../conformance/cases.ts';
export { type BackendSuiteOptions, backendSuite } from './backend.ts';
export { conformanceSuite } from './conformance.ts';
export { centralDifference } from './difference.ts';
export { type GraphsOptions, graphs, PLAIN_STEPS, type SampleGraph, STEP_NAMES, type StepName } from './graphs.ts';
export {
  type CheckMechanismOptions,
  checkMechanism,
  type MechanismClaim,
  type MechanismVerdict,
} from './mechanism.ts';
export {
  casesOf,
  OPERATOR_CHECKS,
  type OperatorCase,
  type OperatorCheck,
  type OperatorFault,
  type OperatorSuiteOptions,
  operatorFaults,
  operatorSuite,
} from './operator.ts';
export { type Agreement, disagreement } from './passes.ts';
export { storeSuite } from './store.ts';
export {
  broadcastableShapes,
  DTYPE_NAMES,
  type ElementsOptions,
  elements,
  LAYOUT_NAMES,
  type LayoutName,
  laidOut,
  type ShapesOptions,
  shapes,
  type TensorsOptions,
  tensorOf,
  tensors,
  viewsOf,
} from './tensors.ts';
