/**
 * Schemas of their own for the tests that need a PostgreSQL server, found by `CLOISTER_POSTGRES_URL`; they are dropped at the end of
 * the file that made them.
 * @module
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll } from 'vitest';

/** URL of the server; empty without one. */
export const postgresUrl: string = process.env['CLOISTER_POSTGRES_URL'] ?? '';

const schemas: string[] = [];

afterAll(async () => {
  if (schemas.length === 0) return;
  await onServer(async client => {
    for (const schema of schemas) await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  });
});

/** The name of a schema that nobody has. */
export function newSchema(): string {
  const schema = `test_${randomUUID().replaceAll('-', '')}`;
  schemas.push(schema);
  return schema;
}

/** What `use` returns, with a connection of its own. */
export async function onServer<T>(use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: postgresUrl });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
