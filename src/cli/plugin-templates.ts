/**
 * What `cloister plugin new` writes: for each kind a plugin that packs, runs, and has a test. See `docs/plugins.md` for the interface.
 * @module
 */
import type { PluginKind } from '../service/index.ts';

/** The files of a new plugin by name. */
export function pluginTemplate(kind: PluginKind, name: string): Readonly<Record<string, string>> {
  const manifest = {
    name,
    version: '0.1.0',
    api: '^1.0.0',
    kind,
    entry: 'main.js',
    files: ['main.js'],
    capabilities: {},
    limits: { wallMs: 1000, memoryMb: 64 },
    licence: 'Apache-2.0',
  };
  return {
    'plugin.json': `${JSON.stringify(manifest, null, 2)}\n`,
    'main.js': ENTRIES[kind],
    // A module whatever a package.json further up says.
    'main.test.mjs': `${TEST_HEAD}${TESTS[kind]}`,
  };
}

const ENTRIES: Readonly<Record<PluginKind, string>> = {
  operator: `// Version 1 of the plugin interface: a script that calls define once.
define({
  operators: [
    {
      domain: 'com.example',
      name: 'Scale',
      since: 1,
      inputs: ['x'],
      outputs: ['y'],
      attributes: { by: { type: 'float', default: 2 } },
      // What comes out, from what goes in: asked before anything runs.
      // What it throws is a refusal; what it takes, run must compute.
      shape: ([x]) => {
        if (x.dtype !== 'f32' && x.dtype !== 'f64') throw new TypeError('expected f32 or f64');
        return [{ dtype: x.dtype, shape: x.shape }];
      },
      run: ([x], { by }) => [{ dtype: x.dtype, shape: x.shape, data: x.data.map(value => value * by) }],
    },
  ],
});
`,
  processor: `// Version 1 of the plugin interface: a script that calls define once.
function mapped({ dtype, shape, data }, change) {
  if (dtype !== 'f32') throw new TypeError('expected f32, got ' + dtype);
  return { dtype, shape, data: data.map(change) };
}

define({
  // Inputs by name, before the model sees them. Give back what it shall see.
  before(inputs) {
    return { ...inputs, image: mapped(inputs.image, value => value / 255) };
  },
  // Outputs by name, before anybody else sees them.
  after(outputs) {
    return outputs;
  },
});
`,
  policy: `// Version 1 of the plugin interface: a script that calls define once.
define({
  // The backend that shall run a model, by name; one of those that are offered.
  choose(summary, backends) {
    const small = summary.parameters < 1000;
    return small && backends.includes('reference') ? 'reference' : backends[0];
  },
});
`,
  statistic: `// Version 1 of the plugin interface: a script that calls define once.
const CLASSES = 10;

define({
  // What one record may contribute at most: noise is made for this, and what passes it is cut.
  bounds: { length: CLASSES, low: 0, high: 1 },
  contribute(outputs) {
    const scores = outputs.logits.data;
    const largest = scores.indexOf(Math.max(...scores));
    return Array.from({ length: CLASSES }, (_, i) => (i === largest ? 1 : 0));
  },
});
`,
};

const TEST_HEAD = `import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';

/** What main.js defines. Values are made plain, as those of another context are of other classes. */
function defined() {
  const calls = [];
  runInNewContext(readFileSync(new URL('main.js', import.meta.url), 'utf8'), { define: value => calls.push(value) });
  assert.equal(calls.length, 1, 'define is called once');
  return calls[0];
}

const tensor = (shape, data) => ({ dtype: 'f32', shape, data: Float32Array.from(data) });

`;

const TESTS: Readonly<Record<PluginKind, string>> = {
  operator: `test('scales by its attribute', () => {
  const [scale] = defined().operators;
  const x = tensor([3], [1, 2, -3]);
  const [{ shape }] = scale.shape([x], { by: 4 });
  assert.deepEqual([...shape], [3]);
  const [y] = scale.run([x], { by: 4 });
  assert.deepEqual([...y.data], [4, 8, -12]);
});
`,
  processor: `test('brings bytes to the range from 0 to 1, and leaves outputs alone', () => {
  const { before, after } = defined();
  const { image } = before({ image: tensor([2], [0, 255]) });
  assert.deepEqual([...image.data], [0, 1]);
  const outputs = { logits: tensor([1], [5]) };
  assert.equal(after(outputs), outputs);
});
`,
  policy: `test('takes the reference backend for small models alone', () => {
  const { choose } = defined();
  assert.equal(choose({ parameters: 10 }, ['native', 'reference']), 'reference');
  assert.equal(choose({ parameters: 1e6 }, ['native', 'reference']), 'native');
});
`,
  statistic: `test('counts the class with the largest score, within its bounds', () => {
  const { bounds, contribute } = defined();
  const contribution = contribute({ logits: tensor([1, 10], [0, 0, 0, 7, 0, 0, 0, 0, 0, 0]) });
  assert.equal(contribution.length, bounds.length);
  assert.equal(contribution[3], 1);
  for (const value of contribution) assert.ok(value >= bounds.low && value <= bounds.high);
});
`,
};
