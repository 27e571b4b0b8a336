/**
 * What a record of the audit log can report.
 * @module
 */

/** Everything that a record can report. Closed: a reader knows all of them. */
export const ACTIONS = [
  'open', // the service or a session started
  'recover', // an interrupted write was cut from the end of the log at start
  'policy', // a policy took effect: of a scope, that its limits changed
  'load', // a model was read
  'install', // a plugin was installed, or made the active version
  'remove', // a plugin was removed
  'run', // an inference
  'reserve', // budget was set aside
  'charge', // budget was spent
  'release', // a value left
  'refuse', // a request was turned down
  'kill', // a guest passed a limit and was stopped
  'fail', // a stage failed
  'key', // a key was made, replaced or destroyed
  'erase', // the key or salt behind a commitment was destroyed
  'close', // the service or a session ended
] as const;

/** One of {@link ACTIONS}. */
export type AuditAction = (typeof ACTIONS)[number];
