import { describe } from 'vitest';
import { storeSuite } from '../suites/store.ts';
import { openPostgresStore } from '../../src/store/index.ts';

const url = process.env['CLOISTER_POSTGRES_URL'];
let schemas = 0;
describe.skipIf(!url)('PostgreSQL', () => {
  storeSuite('postgresql', () => openPostgresStore({ url: url!, schema: `test_${process.pid}_${schemas++}` }));
});
