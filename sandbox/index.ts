/**
 * The sandbox: models and scripts that nobody has to trust, behind walls that stand outside them.
 * @module
 */

export { bindInputs, type Dims } from './binding.ts';
export type { BreakerState } from './breaker.ts';
export { activeLayers, type Capabilities, LAYERS, type Layer, type LayerName } from './layers.ts';
export {
  CAPABILITIES,
  type CapabilityName,
  type CapabilityOptions,
  type KvChanges,
  type KvStore,
  type Lent,
  type LentInput,
  lentSchema,
  memoryKv,
  parseLent,
  type Use,
  type Uses,
} from './lending/index.ts';
export type { LimitName } from './limit-error.ts';
export { type Limits, type LimitsInput, limitsSchema, parseLimits } from './limits.ts';
export type { FixedDims, OpenExternal } from './model-files.ts';
export type { Admission } from './plugins/admission.ts';
export type { Bounds } from './plugins/bounds.ts';
export {
  checkPlugin,
  type LimitUse,
  PLUGIN_CHECKS,
  type PluginCheckName,
  type PluginVerdict,
  type PluginViolation,
} from './plugins/check.ts';
export type { PluginAttribute, PluginDefinition, PluginOperator } from './plugins/definition.ts';
export { PLUGIN_KINDS, type PluginKind } from './plugins/kinds.ts';
export {
  PLUGIN_API_VERSION,
  type PluginFile,
  type PluginManifest,
  pluginManifestSchema,
  type SourceManifest,
} from './plugins/manifest.ts';
export { type PluginPackage, packPlugin, readPackage } from './plugins/package.ts';
export {
  type CapabilityRequests,
  type PluginPolicy,
  type PluginPolicyInput,
  pluginPolicySchema,
} from './plugins/policy.ts';
export {
  type AdmittedPlugin,
  type InstalledPlugin,
  type InstallReport,
  openPluginRegistry,
  type PluginCheck,
  type PluginEvent,
  PluginRegistry,
  type RegistryOptions,
  type RemoveReport,
} from './plugins/registry.ts';
export {
  createPublisherKey,
  loadPublisherKey,
  type PublisherKey,
  type PublisherVerdict,
  publisherOf,
  signPackage,
  verifyPublisher,
} from './plugins/signature.ts';
export type { BackendChoice, PlugOptions, WorkingPlugin } from './plugins/working-plugin.ts';
export {
  type EvaluationOptions,
  type LoadOptions,
  openSandbox,
  type Sandbox,
  type SandboxOptions,
  sandboxSchema,
} from './sandbox.ts';
export type { ShownForm } from './shown.ts';
export type {
  ArenaSummary,
  ModelSummary,
  NodeSummary,
  Optimisation,
  PassSummary,
  ValueSummary,
} from './untrusted.ts';
export type {
  Evaluation,
  Isolation,
  ModelHealth,
  ProfileRunOptions,
  ReloadOptions,
  RunOptions,
  SandboxedModel,
} from './walls.ts';
