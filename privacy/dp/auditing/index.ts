export { clopperPearson, type ProbabilityBounds } from './binomial.ts';
export {
  auditByEnumeration,
  type BitOracle,
  type DeltaBracket,
  type EnumerationOptions,
  type ExactAudit,
  type ExactAuditReport,
  enumerateOutcomes,
  hockeyStick,
  type OutcomeLaw,
} from './enumeration.ts';
export { auditByExperiment, type Experiment, type ExperimentReport, type Finding } from './experiment.ts';
