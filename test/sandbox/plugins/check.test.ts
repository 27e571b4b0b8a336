/** The check of plugins finds what it says it looks for, and nothing in plugins that keep what they promise. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSandbox, PLUGIN_KINDS, type Sandbox } from '../../../sandbox/index.ts';
import { checkPlugin, type PluginCheckName } from '../../../sandbox/plugins/check.ts';
import { pluginTemplate } from '../../../src/cli/plugin-templates.ts';
import { checkPluginFile } from '../../../src/service/index.ts';
import { freshFolder } from './packages.ts';
import { plugin, scale } from './working.ts';

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await openSandbox();
});
afterAll(() => sandbox.close());

const statistic = (contribute: string) =>
  plugin(
    'statistic',
    `let n = 0; define({ bounds: { length: 1, low: 0, high: 1 }, contribute(outputs) { ${contribute} } });`,
  );
const processor = (body: string, memoryMb = 64) =>
  plugin('processor', `const kept = []; let n = 0; define({ after(outputs) { ${body} } });`, {
    limits: { wallMs: 5_000, memoryMb },
  });

describe('a plugin that keeps what it promises passes', () => {
  it.each(PLUGIN_KINDS)('as the template of a %s does', async kind => {
    const folder = join(freshFolder(), 'mine');
    mkdirSync(folder);
    for (const [name, text] of Object.entries(pluginTemplate(kind, 'mine'))) writeFileSync(join(folder, name), text);
    const verdict = await checkPluginFile(folder);
    rmSync(folder, { recursive: true });
    expect(verdict).toMatchObject({ verdict: 'pass', violations: [], plugin: 'mine@0.1.0' });
    expect(verdict.calls).toBeGreaterThan(10);
    const { wallMs, outputBytes } = verdict.limits;
    expect(wallMs!.used).toBeLessThanOrEqual(wallMs!.allowed);
    expect(outputBytes!.used).toBeGreaterThan(0);
  });
});

describe('a plugin that does not fails, by the check that it fails', () => {
  it.each<[PluginCheckName, string, ReturnType<typeof plugin>]>([
    ['defines what it is', 'an entry that throws', plugin('policy', 'throw 1;')],
    ['answers something', 'an operator that refuses all', scale('shape() { throw 1; }')],
    ['answers something', 'a processor that throws at all', processor('throw 1;')],
    ['answers in form', 'a kernel of another shape', scale('run: ([x]) => [{ ...x, shape: [1, ...x.shape] }]')],
    ['answers in form', 'a kernel of another dtype', scale("run: ([x]) => [{ ...x, dtype: 'u32' }]")],
    ['answers in form', 'a policy that names no backend', plugin('policy', "define({ choose: () => 'gpu' });")],
    ['answers in form', 'a statistic of another length', statistic('return [0, 0];')],
    ['refuses by its shape rule', 'a kernel that throws at what the rule takes', scale('shape: ([x]) => [x]')],
    [
      'infers the same from symbols',
      'a rule that guesses sizes',
      scale(
        "shape([x]) { if (x.dtype !== 'f32') throw 1; return [{ ...x, shape: x.shape.map(d => typeof d === 'string' ? 7 : d) }]; }",
      ),
    ],
    [
      'repeats itself',
      'a kernel that counts',
      scale('run([x]) { this.n = (this.n ?? 0) + 1; return [{ ...x, data: x.data.map(() => this.n) }]; }'),
    ],
    [
      'repeats itself',
      'a processor that counts',
      processor("return { n: { dtype: 'i32', shape: [], data: Int32Array.of(n++) } };"),
    ],
    ['keeps to its bounds', 'a statistic over its bounds', statistic('return [2];')],
    ['keeps to its bounds', 'a statistic that is not a number', statistic('return [NaN];')],
    [
      'keeps to its limits',
      'a processor that never ends',
      plugin('processor', 'define({ after() { for (;;); } });', { limits: { wallMs: 300, memoryMb: 64 } }),
    ],
    [
      'does not grow',
      'a processor that keeps',
      processor('if (n++ < 900) kept.push(new Uint8Array(100_000).fill(1)); return outputs;', 256),
    ],
  ])('%s: %s', async (check, _, given) => {
    const { verdict, violations } = await checkPlugin(sandbox, given);
    expect(verdict).toBe('fail');
    expect(violations.map(violation => violation.check)).toContain(check);
    expect(violations.length).toBeLessThanOrEqual(9);
  });
});

describe('a plugin that is not admitted is refused, and not run', () => {
  it('because it is no package', async () => {
    const file = join(freshFolder(), 'not.cloister-plugin');
    writeFileSync(file, 'no package');
    expect(await checkPluginFile(file)).toMatchObject({ verdict: 'refused', calls: 0 });
  });

  it('because the policy does not admit it', async () => {
    const folder = join(freshFolder(), 'mine');
    mkdirSync(folder);
    for (const [name, text] of Object.entries(pluginTemplate('policy', 'mine')))
      writeFileSync(join(folder, name), text);
    const verdict = await checkPluginFile(folder, {});
    expect(verdict).toMatchObject({ verdict: 'refused', plugin: 'mine@0.1.0', calls: 0 });
    expect(verdict.violations).toEqual([
      { check: 'is admitted', problem: expect.stringContaining('nobody signed it') },
    ]);
    expect(await checkPluginFile(folder, { plugins: { unsigned: true } })).toMatchObject({ verdict: 'pass' });
  });
});
