import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseLimits, type SourceManifest } from '../../../sandbox/index.ts';
import { admit, escalation, type PluginPolicyInput, pluginPolicySchema } from '../../../sandbox/plugins/admission.ts';
import { readPackage } from '../../../sandbox/plugins/package.ts';
import { publisherOf } from '../../../sandbox/plugins/signature.ts';
import { freshKey, packed, signed } from './packages.ts';

const acme = freshKey('acme');
const policyOf = (input: PluginPolicyInput) => pluginPolicySchema.parse(input);
const OPEN: PluginPolicyInput = { unsigned: true };
const admitted = (change: Partial<SourceManifest>, policy: PluginPolicyInput = OPEN) =>
  admit(readPackage(packed(change)), policyOf(policy));

const refused = (reason: RegExp) =>
  expect.objectContaining({ code: 'POLICY_REFUSED', message: expect.stringMatching(reason) });

describe('a policy on plugins', () => {
  test('admits nothing by default', () => {
    const policy = policyOf({});
    expect(policy).toMatchObject({ publishers: [], unsigned: false, capabilities: {} });
    expect(() => admit(readPackage(packed()), policy)).toThrow(refused(/nobody signed it/));
    expect(() => admit(readPackage(signed(acme)), policy)).toThrow(refused(/publishers/));
  });

  test('admits what a publisher of it signed', () => {
    const policy = policyOf({ publishers: [acme.vkey] });
    expect(admit(readPackage(signed(acme)), policy)).toEqual({
      publisher: publisherOf(acme),
      limits: parseLimits(),
      capabilities: {},
    });
    expect(() => admit(readPackage(packed()), policy)).toThrow(refused(/nobody signed it/));
  });

  test('does not take a signature for less than it is, also where unsigned plugins are allowed', () => {
    expect(() => admit(readPackage(signed(acme)), policyOf(OPEN))).toThrow(refused(/publishers/));
  });

  test('names keys that are keys', () => {
    for (const publishers of [['acme'], [acme.vkey.slice(0, -4)], [`x${acme.vkey}`]])
      expect(pluginPolicySchema.safeParse({ publishers }).success).toBe(false);
    expect(pluginPolicySchema.safeParse({ publishers: [acme.vkey] }).success).toBe(true);
    expect(pluginPolicySchema.safeParse({ unsinged: true }).success).toBe(false);
  });

  test('refuses a plugin for another version of the interface', () => {
    expect(() => admitted({ api: '^2.0.0' })).toThrow(expect.objectContaining({ code: 'INVALID_PLUGIN' }));
  });

  test('caps limits: what is named must be within, what is not named keeps to it', () => {
    const policy = { ...OPEN, limits: { wallMs: 1000, memoryMb: 64 } };
    expect(admitted({ limits: { wallMs: 1000 } }, policy).limits).toMatchObject({ wallMs: 1000, memoryMb: 64 });
    expect(admitted({ limits: { wallMs: 10, memoryMb: 16 } }, policy).limits).toMatchObject({
      wallMs: 10,
      memoryMb: 16,
    });
    expect(() => admitted({ limits: { wallMs: 1001 } }, policy)).toThrow(refused(/wallMs 1001.* allows 1000/));
    // Not asked for, not given: a cap above the default raises nothing.
    expect(admitted({}, { ...OPEN, limits: { memoryMb: 4096 } }).limits.memoryMb).toBe(parseLimits().memoryMb);
    expect(() => admitted({ limits: { memoryMb: 513 } })).toThrow(refused(/memoryMb/));
  });

  test('never gives more than it says, nor more than a plugin asked for', () => {
    const wall = fc.integer({ min: 1, max: 100_000 });
    fc.assert(
      fc.property(fc.option(wall), wall, (asked, cap) => {
        const change = asked === null ? {} : { limits: { wallMs: asked } };
        const policy = { ...OPEN, limits: { wallMs: cap } };
        if (asked !== null && asked > cap) expect(() => admitted(change, policy)).toThrow(refused(/wallMs/));
        else expect(admitted(change, policy).limits.wallMs).toBe(Math.min(asked ?? parseLimits().wallMs, cap));
      }),
    );
  });

  test('lends only what it names, and as much of it as it says', () => {
    const capabilities = { log: { calls: 10 }, random: { source: 'seeded' } };
    const policy = { ...OPEN, capabilities };
    expect(admitted({}, policy).capabilities).toEqual({});
    expect(admitted({ capabilities: { log: {} } }, policy).capabilities).toEqual({ log: { calls: 10 } });
    expect(admitted({ capabilities: { log: { calls: 3, lines: 1 } } }, policy).capabilities).toEqual({
      log: { calls: 3, lines: 1 },
    });
    for (const [ask, reason] of [
      [{ kv: {} }, /capability kv, which is not/],
      [{ constructor: {} }, /capability constructor, which is not/],
      [{ log: { calls: 11 } }, /calls 11 .* allows 10/],
      [{ log: { calls: '9' } }, /calls 9/],
      [{ random: { source: 'system' } }, /source system .* allows seeded/],
    ] as const) {
      expect(() => admitted({ capabilities: ask }, policy)).toThrow(refused(reason));
    }
  });
});

describe('from one version to the next', () => {
  const manifestOf = (change: Partial<SourceManifest>) => readPackage(packed(change)).manifest;
  const more = (was: Partial<SourceManifest>, is: Partial<SourceManifest>) =>
    escalation(manifestOf(was), manifestOf(is));

  test('what is asked for in addition is told', () => {
    expect(more({}, { capabilities: { kv: {} } })).toEqual(['capability kv']);
    expect(more({ capabilities: { kv: { keys: 1 } } }, { capabilities: { kv: { keys: 2 } } })).toEqual([
      'capability kv, keys: 2, was 1',
    ]);
    expect(more({ capabilities: { kv: { keys: 1 } } }, { capabilities: { kv: {} } })).toEqual([
      'capability kv, keys: open, was 1',
    ]);
    expect(more({ capabilities: { kv: {} } }, { capabilities: { kv: { keys: 1 } } })).toEqual([
      'capability kv, keys: 1, was open',
    ]);
    expect(more({ limits: { wallMs: 10 } }, {})).toEqual([`limit wallMs: ${parseLimits().wallMs}, was 10`]);
    expect(more({}, { limits: { memoryMb: 600 } })).toEqual(['limit memoryMb: 600, was 512']);
  });

  test('less, or the same, is not told', () => {
    const was = { capabilities: { kv: { keys: 5 }, log: {} }, limits: { wallMs: 100 } };
    expect(more(was, was)).toEqual([]);
    expect(more(was, { capabilities: { kv: { keys: 4 } }, limits: { wallMs: 99, memoryMb: 16 } })).toEqual([]);
    expect(more(was, { limits: { wallMs: 1 } })).toEqual([]);
  });
});
