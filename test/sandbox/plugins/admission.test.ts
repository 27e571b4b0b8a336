import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CapabilityRequests,
  type PluginPolicyInput,
  parseLent,
  parseLimits,
  pluginPolicySchema,
  type SourceManifest,
} from '../../../sandbox/index.ts';
import { admissionRules, admit, escalation } from '../../../sandbox/plugins/admission.ts';
import { readPackage } from '../../../sandbox/plugins/package.ts';
import { publisherOf } from '../../../sandbox/plugins/signature.ts';
import { CloisterError } from '../../../src/base/index.ts';
import { freshKey, packed, signed } from './packages.ts';

const acme = freshKey('acme');
const policyOf = (input: PluginPolicyInput) => admissionRules(pluginPolicySchema.parse(input));
const OPEN: PluginPolicyInput = { unsigned: true };
const admitted = (change: Partial<SourceManifest>, policy: PluginPolicyInput = OPEN) =>
  admit(readPackage(packed(change)), policyOf(policy));

const refused = (reason: RegExp) =>
  expect.objectContaining({ code: 'POLICY_REFUSED', message: expect.stringMatching(reason) });

describe('a policy on plugins', () => {
  test('admits nothing by default', () => {
    const policy = policyOf({});
    expect(policy).toMatchObject({ keys: [], unsigned: false, lent: {} });
    expect(() => admit(readPackage(packed()), policy)).toThrow(refused(/nobody signed it/));
    expect(() => admit(readPackage(signed(acme)), policy)).toThrow(refused(/publishers/));
  });

  test('admits what a publisher of it signed', () => {
    const policy = policyOf({ publishers: [acme.vkey] });
    expect(admit(readPackage(signed(acme)), policy)).toEqual({
      publisher: publisherOf(acme),
      limits: parseLimits(),
      lent: {},
    });
    expect(() => admit(readPackage(packed()), policy)).toThrow(refused(/nobody signed it/));
  });

  test('does not take a signature for less than it is, also where unsigned plugins are allowed', () => {
    expect(() => admit(readPackage(signed(acme)), policyOf(OPEN))).toThrow(refused(/publishers/));
  });

  test('names keys that are keys, and capabilities and options that there are', () => {
    const impostor = acme.vkey.replace(/\+\w{8}\+/, '+01234567+');
    for (const input of [
      { publishers: ['acme'] },
      { publishers: [acme.vkey.slice(0, -4)] },
      { publishers: [impostor] },
      { capabilities: { files: {} } },
      { capabilities: { constructor: {} } },
      { capabilities: { log: { call: 1 } } },
      { capabilities: { log: { calls: 1e15 } } },
    ]) {
      expect(() => {
        const form = pluginPolicySchema.safeParse(input);
        if (!form.success) throw new CloisterError('INVALID_POLICY', form.error.message);
        admissionRules(form.data);
      }).toThrow(expect.objectContaining({ code: 'INVALID_POLICY' }));
    }
    expect(policyOf({ publishers: [acme.vkey], capabilities: { log: { calls: 1 } } }).keys).toHaveLength(1);
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
    const policy = { ...OPEN, capabilities: { log: { calls: 10 }, clock: {} } };
    const { log } = parseLent({ log: {} });
    expect(admitted({}, policy).lent).toEqual({});
    expect(admitted({ capabilities: { log: {} } }, policy).lent).toEqual({ log: { ...log, calls: 10 } });
    expect(admitted({ capabilities: { log: { calls: 3, bytes: 1 } } }, policy).lent).toEqual({
      log: { ...log, calls: 3, bytes: 1 },
    });
    for (const [ask, reason] of [
      [{ kv: {} }, /capability kv, which is not/],
      [{ log: { calls: 11 } }, /calls 11 .* allows 10/],
      // What a policy leaves out is at most what it is by default.
      [{ log: { bytes: log!.bytes + 1 } }, /bytes/],
      [{ clock: { calls: 100_000_000 } }, /clock/],
    ] as const) {
      expect(() => admitted({ capabilities: ask }, policy)).toThrow(refused(reason));
    }
    for (const ask of [{ files: {} }, { constructor: {} }, { log: { call: 1 } }, { log: { calls: 1e15 } }]) {
      expect(() => admitted({ capabilities: ask as unknown as CapabilityRequests }, policy)).toThrow(
        expect.objectContaining({ code: 'INVALID_PLUGIN' }),
      );
    }
  });

  test('never lends more than it says, nor more than was asked for', () => {
    const calls = fc.integer({ min: 0, max: 1_000_000 });
    fc.assert(
      fc.property(fc.option(calls), fc.option(calls), (asked, cap) => {
        const of = (value: number | null) => ({ log: value === null ? {} : { calls: value } });
        const usual = parseLent({ log: {} }).log!.calls;
        const policy = { ...OPEN, capabilities: of(cap) };
        const change = { capabilities: of(asked) };
        if (asked !== null && asked > (cap ?? usual)) expect(() => admitted(change, policy)).toThrow(refused(/calls/));
        else expect(admitted(change, policy).lent.log!.calls).toBe(Math.min(asked ?? usual, cap ?? usual));
      }),
    );
  });
});

describe('from one version to the next', () => {
  const manifestOf = (change: Partial<SourceManifest>) => readPackage(packed(change)).manifest;
  const more = (was: Partial<SourceManifest>, is: Partial<SourceManifest>) =>
    escalation(manifestOf(was), manifestOf(is));

  test('what is asked for in addition is told', () => {
    expect(more({}, { capabilities: { kv: {} } })).toEqual(['capability kv']);
    const { entries } = parseLent({ kv: {} }).kv!;
    expect(more({ capabilities: { kv: { entries: 1 } } }, { capabilities: { kv: { entries: 2 } } })).toEqual([
      'capability kv, entries: 2, was 1',
    ]);
    expect(more({ capabilities: { kv: { entries: 1 } } }, { capabilities: { kv: {} } })).toEqual([
      `capability kv, entries: ${entries}, was 1`,
    ]);
    expect(more({ capabilities: { kv: {} } }, { capabilities: { kv: { entries: entries + 1 } } })).toEqual([
      `capability kv, entries: ${entries + 1}, was ${entries}`,
    ]);
    expect(more({ limits: { wallMs: 10 } }, {})).toEqual([`limit wallMs: ${parseLimits().wallMs}, was 10`]);
    expect(more({}, { limits: { memoryMb: 600 } })).toEqual(['limit memoryMb: 600, was 512']);
  });

  test('less, or the same, is not told', () => {
    const was = { capabilities: { kv: { entries: 5 }, log: {} }, limits: { wallMs: 100 } };
    expect(more(was, was)).toEqual([]);
    expect(more(was, { capabilities: { kv: { entries: 4 } }, limits: { wallMs: 99, memoryMb: 16 } })).toEqual([]);
    expect(more(was, { limits: { wallMs: 1 } })).toEqual([]);
  });
});
