/**
 * Which witnesses must have cosigned a checkpoint before a verifier believes it: policies as C2SP tlog-policy has them. Pure.
 *
 * ```text
 * log VKEY [URL]                        a log of which checkpoints are accepted; none listed: the caller names it
 * witness NAME VKEY [URL]               a witness, and what this file calls it
 * group NAME all|any|K NAME...          stands for its members once all, one or K of them have cosigned
 * quorum NAME|none                      who must have cosigned; exactly once
 * # a comment
 * ```
 *
 * One item a line, words parted by spaces and tabs; names are defined before they are used, and each is a member once at most.
 * @module
 * @see https://c2sp.org/tlog-policy
 */
import { equalBytes } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { type Checkpoint, verifyCheckpoint } from './checkpoint.ts';
import {
  type CosignatureVerify,
  type Cosigner,
  parseCosigner,
  pureCosignature,
  verifyCosignatures,
} from './cosignature.ts';
import { type NoteVerifier, parseVkey } from './note.ts';

/** Who must have cosigned; see {@link parseWitnessPolicy} and {@link witnessPolicy}. */
export interface WitnessPolicy {
  /** The logs that are accepted; empty where whoever verifies knows the key of the log. */
  readonly logs: readonly NoteVerifier[];
  /** Witnesses by the name that the policy gives them. */
  readonly witnesses: ReadonlyMap<string, Cosigner>;
  /** Undefined demands nothing (`quorum none`). */
  readonly quorum: WitnessRule | undefined;
}

/** A witness by its name, or at least `atLeast` of several rules. */
export type WitnessRule =
  | { readonly kind: 'witness'; readonly name: string }
  | { readonly kind: 'group'; readonly atLeast: number; readonly members: readonly WitnessRule[] };

/** A witness that has cosigned. */
export interface Witnessed {
  /** As the policy calls it. */
  readonly witness: string;
  /** When, by its own clock: seconds since 1970, or 0 where it does not say. */
  readonly time: number;
}

/** What {@link verifyWitnessed} found. */
export type WitnessVerdict =
  | { readonly ok: true; readonly checkpoint: Checkpoint; readonly witnessed: readonly Witnessed[] }
  | { readonly ok: false; readonly reason: string };

/** Characters that a policy may have. */
export const POLICY_LIMIT_CHARACTERS = 262_144;
/** Logs, witnesses and groups that a policy may have, of each. The specification asks for 32. */
export const POLICY_LIMIT_ITEMS = 64;

/**
 * Reads a policy in the form of C2SP tlog-policy. Witnesses have keys of type 4 (Ed25519) or 6 (ML-DSA-44), logs of type 1.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` with the number of the line when it cannot be read: nothing is guessed.
 * @example
 * ```ts
 * const one = createCosigner('witness.example/w1').signer.vkey;
 * const two = createCosigner('witness.example/w2').signer.vkey;
 * const text = `witness W1 ${one}\nwitness W2 ${two}\ngroup both all W1 W2\nquorum both\n`;
 * parseWitnessPolicy(text).witnesses.size; // 2
 * ```
 */
export function parseWitnessPolicy(text: string): WitnessPolicy {
  if (text.length > POLICY_LIMIT_CHARACTERS)
    throw new CloisterError('INVALID_ARGUMENT', `a witness policy has ${POLICY_LIMIT_CHARACTERS} characters at most`);
  const logs: NoteVerifier[] = [];
  const witnesses = new Map<string, Cosigner>();
  const rules = new Map<string, WitnessRule>();
  const used = new Set<string>();
  let quorum: { readonly rule: WitnessRule | undefined } | undefined;
  let number = 0;
  const refuse = (why: string, cause?: unknown): never => {
    throw new CloisterError('INVALID_ARGUMENT', `witness policy, line ${number}: ${why}`, { line: number }, { cause });
  };
  const define = (name: string, rule: WitnessRule): void => {
    if (name === 'none' || rules.has(name)) refuse(`the name ${name} is taken`);
    rules.set(name, rule);
    if (rules.size > 2 * POLICY_LIMIT_ITEMS) refuse(`more than ${2 * POLICY_LIMIT_ITEMS} witnesses and groups`);
  };
  const lookUp = (name: string): WitnessRule => rules.get(name) ?? refuse(`${name} is not defined above`);
  const key = <T>(read: (vkey: string) => T, vkey: string): T => {
    try {
      return read(vkey);
    } catch (cause) {
      return refuse((cause as Error).message, cause);
    }
  };

  for (const line of text.split('\n')) {
    number++;
    if (/[^\t\x20-\x7e\x80-\u{10ffff}]/u.test(line)) refuse('a control character');
    const [item, ...words] = line.split(/[ \t]+/).filter(word => word !== '');
    if (item === undefined || item.startsWith('#')) continue;
    switch (item) {
      case 'log': {
        if (words.length < 1 || words.length > 2) refuse('expected: log VKEY [URL]');
        const log = key(parseVkey, words[0]!);
        if (logs.some(other => equalBytes(other.publicKey, log.publicKey))) refuse('the log is listed twice');
        logs.push(log);
        if (logs.length > POLICY_LIMIT_ITEMS) refuse(`more than ${POLICY_LIMIT_ITEMS} logs`);
        break;
      }
      case 'witness': {
        if (words.length < 2 || words.length > 3) refuse('expected: witness NAME VKEY [URL]');
        const [name = '', vkey = ''] = words;
        const witness = key(parseCosigner, vkey);
        if ([...witnesses.values()].some(other => equalBytes(other.publicKey, witness.publicKey)))
          refuse('the witness is listed twice');
        define(name, { kind: 'witness', name });
        witnesses.set(name, witness);
        break;
      }
      case 'group': {
        const [name = '', count = '', ...members] = words;
        if (members.length === 0) refuse('expected: group NAME all|any|K NAME...');
        const rule = members.map(member => {
          if (used.has(member)) refuse(`${member} is a member already: it would count twice`);
          used.add(member);
          return lookUp(member);
        });
        define(name, { kind: 'group', atLeast: threshold(count, members.length, refuse), members: rule });
        break;
      }
      case 'quorum': {
        if (words.length !== 1) refuse('expected: quorum NAME, or quorum none');
        if (quorum !== undefined) refuse('a second quorum');
        quorum = { rule: words[0] === 'none' ? undefined : lookUp(words[0]!) };
        break;
      }
      default:
        refuse(`expected log, witness, group or quorum, got ${JSON.stringify(item.slice(0, 32))}`);
    }
  }
  if (quorum === undefined) return refuse('there is no quorum line');
  return { logs, witnesses, quorum: quorum.rule };
}

/**
 * The policy that at least `atLeast` of the witnesses with these vkeys have cosigned.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when a vkey is none, one is given twice, or there are not so many.
 * @example
 * ```ts
 * const { signer } = createCosigner('witness.example/w1');
 * witnessPolicy(1, [signer.vkey]).quorum; // { kind: 'group', atLeast: 1, … }
 * ```
 */
export function witnessPolicy(atLeast: number, vkeys: readonly string[]): WitnessPolicy {
  const witnesses = new Map(vkeys.map(vkey => [vkey, parseCosigner(vkey)]));
  if (witnesses.size !== vkeys.length) throw new CloisterError('INVALID_ARGUMENT', 'a witness is given twice');
  if (!Number.isSafeInteger(atLeast) || atLeast < 1 || atLeast > vkeys.length) {
    throw new CloisterError('INVALID_ARGUMENT', `expected 1 to ${vkeys.length} of the witnesses, got ${atLeast}`);
  }
  const named = new Map([...witnesses.values()].map(one => [one.name, one]));
  // The names of their keys read better than vkeys, where they tell the witnesses apart.
  const called = named.size === vkeys.length ? named : witnesses;
  const members = [...called.keys()].map(name => ({ kind: 'witness', name }) as const);
  return { logs: [], witnesses: called, quorum: { kind: 'group', atLeast, members } };
}

/**
 * Verifies that a checkpoint is of the log and was cosigned as `policy` demands: then none of those witnesses has seen another history of
 * it, so that a log that shows two histories must deceive them first.
 *
 * @param note - The checkpoint as stored or received. Hostile bytes are refused, never thrown on.
 * @param options.vkey - Key of the log; by default those that the policy lists.
 * @param options.verify - By default Ed25519 alone, without Node; pass `nodeCosignature` where a witness signs with ML-DSA-44.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is neither `vkey` nor a log in the policy, or `verify` lacks a type of key.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const { signer } = createCosigner('witness.example/w1', 'ed25519');
 * const note = await log.checkpoint();
 * const policy = witnessPolicy(1, [signer.vkey]);
 * verifyWitnessed(note, policy, { vkey: log.vkey }).ok; // false: nobody has cosigned it
 * const cosigned = addSignatures(note, [cosign(parseNote(note).text, signer, 1_767_225_600)]);
 * verifyWitnessed(cosigned, policy, { vkey: log.vkey }).ok; // true
 * ```
 */
export function verifyWitnessed(
  note: Uint8Array | string,
  policy: WitnessPolicy,
  options: { readonly vkey?: string | undefined; readonly verify?: CosignatureVerify | undefined } = {},
): WitnessVerdict {
  const logs = options.vkey === undefined ? policy.logs : [parseVkey(options.vkey)];
  if (logs.length === 0) throw new CloisterError('INVALID_ARGUMENT', 'the policy lists no log: pass the vkey of one');
  const heads = logs.map(log => verifyCheckpoint(note, log));
  const head = heads.find(one => one.ok) ?? heads[0]!;
  if (!head.ok) return { ok: false, reason: heads.length === 1 ? head.reason : 'no log of the policy has signed it' };
  return quorumOf(note, policy, options.verify ?? pureCosignature);
}

/** {@link verifyWitnessed} without the log's own signature, which the caller has verified. */
export function quorumOf(note: Uint8Array | string, policy: WitnessPolicy, verify: CosignatureVerify): WitnessVerdict {
  const verdict = verifyCosignatures(note, [...policy.witnesses.values()], verify);
  if (!verdict.ok) return verdict;
  const { checkpoint, cosigned } = verdict;
  const witnessed = [...policy.witnesses].flatMap(([witness, cosigner]) => {
    const found = cosigned.find(one => one.cosigner === cosigner);
    return found === undefined ? [] : [{ witness, time: found.time }];
  });
  const names = new Set(witnessed.map(one => one.witness));
  if (policy.quorum !== undefined && !meets(policy.quorum, names)) {
    const by = names.size === 0 ? 'no witness' : [...names].join(', ');
    return { ok: false, reason: `too few witnesses: the checkpoint of ${checkpoint.size} is cosigned by ${by}` };
  }
  return { ok: true, checkpoint, witnessed };
}

function meets(rule: WitnessRule, cosigned: ReadonlySet<string>): boolean {
  if (rule.kind === 'witness') return cosigned.has(rule.name);
  return rule.members.filter(member => meets(member, cosigned)).length >= rule.atLeast;
}

function threshold(count: string, members: number, refuse: (why: string) => never): number {
  if (count === 'all') return members;
  if (count === 'any') return 1;
  const atLeast = /^[1-9][0-9]{0,5}$/.test(count) ? Number(count) : 0;
  return atLeast >= 1 && atLeast <= members ? atLeast : refuse(`expected all, any or 1 to ${members}, got ${count}`);
}
