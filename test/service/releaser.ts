/** A child that releases as fast as it can, and tells its parent of each reply: `releaser.ts DIR MODEL SCOPE`. */
import { histogram, openCloister } from '../../src/index.ts';

const [dir, file, scope] = process.argv.slice(2) as [string, string, string];
const cloister = await openCloister({ dir, policy: { isolation: 'isolate', budgets: { [scope]: { epsilon: 1000 } } } });
const model = await cloister.load(file);
const image = new Float32Array(784);
for (;;) {
  const reply = await model.release({
    records: [{ subject: 'a', inputs: { image } }],
    statistic: histogram({ of: 'argmax', classes: 10 }),
    epsilon: 0.001,
    scope,
  });
  process.send?.(reply.kind);
}
