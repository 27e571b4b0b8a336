/**
 * `node .ci/inline.ts FILE...` puts what a built module re-exports from packages into the module itself, and nothing else of those
 * packages: their licences come along. Done for packages of which little is used and much would be loaded.
 * @module
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
for (const file of process.argv.slice(2)) await inline(join(root, file));

async function inline(file: string): Promise<void> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: [file],
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2024',
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
    write: false,
    metafile: true,
  });
  const folders = Object.keys(metafile.inputs).flatMap(
    input => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(input)?.[0] ?? [],
  );
  const packages = [...new Set(folders)].sort();
  const licences = packages.map(folder => `${folder.replace(/^.*node_modules\//, '')}\n\n${licenceOf(folder)}`);
  writeFileSync(file, `${outputFiles[0]!.text}/*\n${licences.join('\n\n')}\n*/\n`);
}

function licenceOf(folder: string): string {
  const file = ['LICENSE', 'LICENSE.md', 'LICENSE.txt'].map(name => join(root, folder, name)).find(existsSync);
  if (file === undefined) throw new Error(`${folder} brings no licence that could be kept beside its code`);
  return readFileSync(file, 'utf8').trim();
}
