/**
 * `node .ci/clean.ts FOLDER...` removes build outputs below the project's root, on every platform.
 * @module
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
for (const folder of process.argv.slice(2)) rmSync(join(root, folder), { recursive: true, force: true });
