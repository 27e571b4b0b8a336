/** Plugins that were admitted, for the tests of plugins at work. */
import type { AdmittedPlugin, CapabilityRequests, LimitsInput, PluginKind } from '../../../sandbox/index.ts';
import { admissionRules, admit } from '../../../sandbox/plugins/admission.ts';
import { packPlugin, readPackage } from '../../../sandbox/plugins/package.ts';
import { pluginPolicySchema } from '../../../sandbox/plugins/policy.ts';
import { encodeUtf8 } from '../../../src/base/index.ts';
import { writeOnnx } from '../../../src/formats/index.ts';
import { defineOp, graphOf, OPERATORS, tableOf } from '../../../src/graph/index.ts';

const RULES = admissionRules(
  pluginPolicySchema.parse({
    unsigned: true,
    capabilities: { log: {}, clock: {}, random: {}, kv: {}, wasm: {}, readModel: {}, kernels: {} },
  }),
);

/** What an author may change. */
export interface Change {
  readonly name?: string;
  readonly version?: string;
  readonly capabilities?: CapabilityRequests;
  readonly limits?: LimitsInput;
  /** Files beside the entry. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

/** A plugin with this entry, admitted by a policy that allows everything. */
export function plugin(kind: PluginKind, main: string, change: Change = {}): AdmittedPlugin {
  const { files = {}, ...rest } = change;
  const all = new Map([['main.js', encodeUtf8(main)], ...Object.entries(files)]);
  const source = {
    ...{ name: 'tested', version: '1.0.0', api: '^1.0.0', kind, entry: 'main.js', licence: 'Apache-2.0' },
    ...{ files: [...all.keys()], limits: { wallMs: 5_000, memoryMb: 64 } },
    ...rest,
  };
  const read = readPackage(packPlugin(source, all));
  return { ...read, ...admit(read, RULES) };
}

/** An operator plugin with one operator `com.example::ScaleBy`, with these changes to it, as JavaScript. */
export function scale(changes = '', change: Change = {}): AdmittedPlugin {
  const entry = `
    define({ operators: [{
      domain: 'com.example', name: 'ScaleBy', inputs: ['x'], outputs: ['y'],
      attributes: { by: { type: 'float', default: 2 } },
      shape([x]) { if (x.dtype !== 'f32') throw new TypeError('expected f32'); return [{ dtype: x.dtype, shape: x.shape }]; },
      run([x], { by }) { return [{ dtype: x.dtype, shape: x.shape, data: x.data.map(value => value * by) }]; },
      ${changes}
    }] });`;
  return plugin('operator', entry, change);
}

const scaleOp = defineOp({
  domain: 'com.example',
  name: 'ScaleBy',
  inputs: ['x'],
  outputs: ['y'],
  attributes: { by: { type: 'float', default: 2 } },
  infer: c => [c.input(0)],
  run: c => [c.operand(0)],
});
const operators = tableOf([...OPERATORS.values(), scaleOp]);

/** `y (n) = relu(z + z)` with `z = ScaleBy(x (n), by 3)`. */
export function scaledModel(): Uint8Array {
  const g = graphOf('scaled', { operators });
  const scaled = g.input('x', 'f32', ['n']).op('ScaleBy', { by: 3 });
  g.output('y', scaled.add(scaled).relu());
  return writeOnnx(g.build(), { operators });
}
