/**
 * Writes the JSON schema of policies to `docs/policy.schema.json`: `node test/docs/policy-schema.ts`.
 * @module
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { policySchema } from '../../src/service/policy.ts';

/** Where editors find it. */
export const file: string = join(import.meta.dirname, '..', '..', 'docs', 'policy.schema.json');

/** The schema as text. */
export function policySchemaText(): string {
  const { $schema, ...schema } = z.toJSONSchema(policySchema, { io: 'input', unrepresentable: 'any' }) as {
    $schema?: string;
    properties: Record<string, unknown>;
  };
  const properties = { $schema: { type: 'string' }, ...schema.properties };
  const title = 'Policy of a cloister';
  return `${JSON.stringify({ $schema, title, ...schema, properties }, null, 2)}\n`;
}

if (import.meta.main) writeFileSync(file, policySchemaText());
