/**
 * The service: policy, pipeline, and the cloister that holds ledger, log and models together. Ledger, log, store and sandbox are loaded
 * by the first call that needs them, not with this room.
 * @module
 */
export {
  type CountOptions,
  count,
  type HistogramOptions,
  histogram,
} from '../../privacy/dp/statistics/histogram.ts';
export type { Statistic } from '../../privacy/dp/statistics/statistic.ts';
export { ACTIONS as AUDIT_ACTIONS } from '../../sandbox/audit/actions.ts';
export type {
  AuditAction,
  AuditRecord,
  ErasedBy,
  ExportFormat,
  ExtensionVerdict,
  LogComparison,
  LogsVerdict,
  PersonalData,
  PersonalVerdict,
  ProofBundle,
  Receipt,
  WitnessedLogVerdict,
  WitnessReply,
} from '../../sandbox/audit/index.ts';
export type {
  InstalledPlugin,
  InstallReport,
  PluginCheck,
  PluginRegistry,
  RemoveReport,
} from '../../sandbox/index.ts';
export { PLUGIN_KINDS, type PluginKind } from '../../sandbox/plugins/kinds.ts';
export { type Profile, toTrace } from '../engine/profile.ts';
export type {
  PriorityClass,
  SchedulerOptionsInput,
  SchedulerStatistics,
  ServeOptionsInput,
} from '../engine/scheduler/index.ts';
export {
  answerAsWitness,
  auditWitnessRequest,
  continueAudit,
  eraseSubject,
  keepWitnessReply,
  makeWitness,
  type RevealedRecord,
  revealAudit,
  rotateAuditKey,
  verifyAudits,
  verifyAuditWitnesses,
} from './audit-desk.ts';
export {
  type BackendChoiceReport,
  type BackendReport,
  compareBackends,
  type FoundBackend,
  findBackends,
  type KernelTestReport,
  testKernels,
} from './backends.ts';
export {
  type BudgetReport,
  type BurnPoint,
  type LimitOptions,
  type PlanAnswer,
  type PlanQuestion,
  planBudget,
  readBudgets,
  readHistory,
  reportBudget,
  setBudgetLimit,
} from './budget-report.ts';
export {
  type Caller,
  Cloister,
  type CloisterOptions,
  type LoadModelOptions,
  Model,
  openCloister,
  type ProfileCaller,
  type RunCaller,
  type Timings,
} from './cloister.ts';
export { type Check, type Diagnosis, diagnose } from './doctor.ts';
export { decodeNpy, decodeNpz, decodeTensorProto, type InputValue, type InputValues } from './inputs.ts';
export {
  type AuditQuery,
  type BundleFileVerdict,
  checkExtension,
  compareAudits,
  type ExportedRecord,
  type ExportOptions,
  exportAudit,
  type InspectOptions,
  inspectModel,
  type ModelReport,
  proveAudit,
  type ReceiptFileVerdict,
  readAudit,
  type TailOptions,
  tailAudit,
  verifyAudit,
  verifyBundleFile,
  verifyReceiptFile,
} from './offline.ts';
export { commitOutputs, verifyOutputs } from './output-commitment.ts';
export type { OutputMaps, ProfileReply, ReleaseRecord, ReleaseReply, ReleaseRequest, RunReply } from './pipeline.ts';
export { openPlanFiles, type PlanFilesOptions } from './plan-files.ts';
export type { PluginFileVerdict } from './plugin-check.ts';
export {
  checkPluginFile,
  listPlugins,
  makePublisherKey,
  type PackedPlugin,
  packPluginFolder,
  parsePluginSource,
  readPlugin,
  type SignedPlugin,
  signPluginFile,
  verifyPlugins,
} from './plugins.ts';
export { type Policy, type PolicyInput, parsePolicy, policySchema } from './policy.ts';
export { answerPrivacyQuestions, type PrivacyAnswer } from './privacy-questions.ts';
export { CAPABILITY_NAMES, runScript, type ScriptOptions } from './scripts.ts';
