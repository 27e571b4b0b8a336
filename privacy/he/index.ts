/**
 * Encrypted inference: plans, servers that compute on ciphertexts, and clients that alone decrypt.
 * @module
 */
export { type Answer, type ClientOptions, HeClient, openClient } from './client.ts';
export { type ClientPlan, type ClientPort, type HeadStep, parseClientPlan } from './client-plan.ts';
export type {
  EvaluationKeys,
  HeEvaluator,
  HeExecutable,
  HeProgress,
  HeRunOptions,
} from './evaluator.ts';
export { sealEvaluator } from './evaluator.ts';
export {
  evaluateLayers,
  fitPolynomial,
  type HeParameters,
  type HePlan,
  type HeStep,
  type PlanInferenceOptions,
  type PlannedModel,
  type Polynomial,
  type Port,
  planInference,
  predictedMs,
  stepMs,
} from './plan/index.ts';
export { type Context, loadSeal, openContext, type Seal, type SealOptions } from './seal.ts';
export { assertSecure, MODULUS_BITS } from './security.ts';
export { type HeServer, type HeSession, openServer, type ServerOptions } from './server.ts';
export { type PlainValues, type Simulation, simulate } from './simulate.ts';
