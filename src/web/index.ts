/**
 * The review page of the audit log: served to the person at this machine, or mounted in a server.
 * @module
 */
export { type AuditHandler, auditHandler } from './audit-handler.ts';
export { AUDIT_PORT, type AuditServer, type ServeOptions, serveAudit } from './serve-audit.ts';
