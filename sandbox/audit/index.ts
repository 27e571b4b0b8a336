/**
 * The audit log: records that a third party can verify. A record is canonical JSON, a leaf of an RFC 6962 Merkle tree in C2SP
 * tlog-tiles; tree heads are C2SP checkpoints signed with Ed25519; every append yields a receipt that verifies alone.
 * @module
 */
export { ACTIONS, type AuditAction } from './actions.ts';
export { type BundleVerdict, bundleSchema, type ProofBundle, verifyBundle } from './bundle.ts';
export { type Checkpoint, type CheckpointVerdict, parseCheckpoint, verifyCheckpoint } from './checkpoint.ts';
export { commit } from './commitment.ts';
export { continueLog, type LogsVerdict, verifyLogs } from './continue.ts';
export {
  addSignatures,
  type Cosignature,
  type CosignatureType,
  type CosignatureVerdict,
  type CosignatureVerify,
  type Cosigner,
  type CosignSigner,
  cosign,
  formatCosigner,
  parseCosigner,
  pureCosignature,
  verifyCosignatures,
  verifySecondLine,
} from './cosignature.ts';
export { keepCosignatures, verifyWitnesses, type WitnessedLogVerdict, witnessRequest } from './cosigned.ts';
export { createCosigner, nodeCosignature, parseCosignSigner } from './cosigner.ts';
export { compareLogs, type LogComparison } from './diff.ts';
export { readKeys } from './epochs.ts';
export {
  CSV_HEADER,
  csvRow,
  type ExportFormat,
  jsonLine,
  OCSF_VERSION,
  type OcsfEvent,
  toOcsf,
} from './export.ts';
export {
  FILTER_KEYS,
  FILTER_LIMIT_CHARACTERS,
  type FilterKey,
  type FilterTerm,
  formatTerm,
  matchesFilter,
  parseFilter,
  type RecordFilter,
  type WrittenTerm,
  writtenTerms,
} from './filter.ts';
export { type FollowOptions, followRecords } from './follow.ts';
export type { Head } from './layout.ts';
export { type AppendOptions, type AuditLog, type LogOptions, openLog } from './log.ts';
export {
  consistencyProof,
  EMPTY_ROOT,
  type Hasher,
  inclusionProof,
  type NodeReader,
  pureHasher,
  rootAt,
  TreeBuilder,
  type Verdict,
  verifyConsistency,
  verifyInclusion,
} from './merkle.ts';
export {
  formatVkey,
  type Note,
  type NoteSignature,
  type NoteSigner,
  type NoteVerdict,
  type NoteVerifier,
  parseNote,
  parseVkey,
  signNote,
  verifyNote,
} from './note.ts';
export { emitTo, type OtelLogger, type OtelLogRecord, type OtelValue, toLogRecord } from './otel.ts';
export { type ErasedBy, type PersonalData, type PersonalVerdict, revealPersonal } from './personal.ts';
export { type ExtensionVerdict, openProver, type Prover } from './prove.ts';
export type {
  BurnDown,
  Histogram,
  LogIndex,
  LogSource,
  UpdateOptions,
  ValueCount,
  ValueKey,
} from './query/log-index.ts';
export { openLogSource } from './query/log-source.ts';
export { openLogIndex } from './query/store-index.ts';
export { type RecordQuery, readRecords } from './read.ts';
export {
  type AuditEvent,
  type AuditRecord,
  auditEventSchema,
  auditRecordSchema,
  decodeRecord,
  encodeRecord,
  RECORD_LIMIT_BYTES,
} from './record.ts';
export {
  type Bundle,
  decodeBundle,
  encodeBundle,
  nodesOfTiles,
  parseTilePath,
  TILE_WIDTH,
  type TileLevel,
  type TileName,
  tilePath,
  tileWidth,
} from './tiles.ts';
export type { LogVerdict, TamperKind } from './verdict.ts';
export { type Receipt, type ReceiptVerdict, receiptSchema, verifyExtension, verifyReceipt } from './verify.ts';
export { type VerifyOptions, verifyLog } from './verify-directory.ts';
export {
  formatWitnessRequest,
  openWitness,
  parseWitnessRequest,
  type Witness,
  type WitnessOptions,
  type WitnessReply,
  type WitnessRequest,
} from './witness.ts';
export {
  parseWitnessPolicy,
  verifyWitnessed,
  type Witnessed,
  type WitnessPolicy,
  type WitnessRule,
  type WitnessVerdict,
  witnessPolicy,
} from './witness-policy.ts';
