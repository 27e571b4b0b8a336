import { memoryStore } from '../../src/store/index.ts';
import { storeSuite } from '../suites/store.ts';

storeSuite('memory', async () => memoryStore());
