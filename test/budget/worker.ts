/**
 * A child process that spends from the ledger in `argv[2]`: an SQLite file, or `schema:NAME` of the PostgreSQL server of the tests. Mode `race COST`: spends until it is refused and
 * prints how often it was granted. Mode `loop COST`: reserves, charges, releases for ever, and prints each step once it has
 * resolved.
 * @module
 */
import { createHash, randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';

import { openLedger } from '../../privacy/budget/index.ts';
import { encodeUtf8, limitOf, systemClock } from '../../src/base/index.ts';
import { costing } from './faults.ts';
import { openTarget } from './targets.ts';

const [, , target = '', mode = '', costText = '', epsilon = '1'] = process.argv;
const event = costing(Number(costText));
const store = await openTarget(target);
const ledger = await openLedger({
  store,
  clock: systemClock,
  budgets: [{ scope: 's', limit: limitOf(Number(epsilon)) }],
});
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const say = (line: string): number => writeSync(1, `${line}\n`);
const life = randomUUID(); // numbers of processes come again
say('ready');
if (mode === 'race') {
  let granted = 0;
  for (let i = 0; ; i++) {
    const outcome = await ledger.spend({ scope: 's', event, requestDigest: digest(`${life} ${i}`) });
    if (outcome.kind === 'refused') break;
    granted++;
  }
  say(String(granted));
  await ledger.close();
  await store.close();
} else {
  for (let i = 0; ; i++) {
    const name = `${life}-${i}`;
    const request = { scope: 's', event, requestDigest: digest(name), idempotencyKey: name };
    const held = await ledger.reserve(request);
    if (held.kind !== 'reserved') throw new Error(`unexpected ${held.kind}`);
    if (i % 7 === 6) {
      await ledger.void(held);
      continue;
    }
    const charge = await ledger.charge(held);
    say(`charged ${name}`);
    await ledger.release(charge, encodeUtf8(`answer ${name}`));
    say(`released ${name}`);
  }
}
