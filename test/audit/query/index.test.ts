import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe } from 'vitest';
import { memoryStore, openPostgresStore, openSqliteStore } from '../../../src/store/index.ts';
import { newSchema, postgresUrl } from '../../store/schemas.ts';
import { indexSuite } from './suite.ts';

const directory = mkdtempSync(join(tmpdir(), 'cloister-index-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let files = 0;

indexSuite('memory', async () => memoryStore());
indexSuite('sqlite', () => openSqliteStore({ path: join(directory, `${files++}.sqlite`) }));
describe.skipIf(postgresUrl === '')('on a PostgreSQL server', () => {
  indexSuite('postgresql', () => openPostgresStore({ url: postgresUrl, schema: newSchema() }));
});
