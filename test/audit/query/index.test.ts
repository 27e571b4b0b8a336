import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { memoryStore, openSqliteStore } from '../../../src/store/index.ts';
import { indexSuite } from './suite.ts';

const directory = mkdtempSync(join(tmpdir(), 'cloister-index-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let files = 0;

indexSuite('memory', async () => memoryStore());
indexSuite('sqlite', () => openSqliteStore({ path: join(directory, `${files++}.sqlite`) }));
