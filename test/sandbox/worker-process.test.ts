import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseLimits } from '../../sandbox/limits.ts';
import { WorkerProcess } from '../../sandbox/worker/process.ts';
import { isCloisterError } from '../../src/base/index.ts';

const limits = parseLimits({ wallMs: 5_000, outputBytes: 1_024 });

/** A process that speaks frames by hand: what it answers is whatever the test wants a hostile worker to say. */
function liar(answers: string, greet = true, first = ''): WorkerProcess {
  const script = `
    const fs = require('node:fs');
    const head = (id, text, payload) => {
      const b = Buffer.alloc(16 + text.length);
      b.write('CLF1'); b.writeUInt32LE(id, 4); b.writeUInt32LE(text.length, 8); b.writeUInt32LE(payload, 12);
      b.write(text, 16); return b;
    };
    const say = bytes => { try { fs.writeSync(3, bytes); } catch {} };
    ${greet ? "say(head(0, '{}', 0));" : first}
    const s = new (require('node:net').Socket)({ fd: 3 });
    s.once('data', () => { ${answers} });
    s.on('error', () => process.exit());
  `;
  return new WorkerProcess({ file: process.execPath, args: ['-e', script] });
}

async function failure(worker: WorkerProcess): Promise<unknown> {
  try {
    await worker.greeted();
    return await worker.request({ op: 'run' }, [], limits);
  } catch (error) {
    return error;
  } finally {
    await worker.close();
  }
}

const lies: Record<string, string> = {
  'random bytes': "say(require('node:crypto').randomBytes(4096))",
  'an id that nobody asked for': "say(head(77, '{}', 0))",
  'a second greeting': "say(head(0, '{}', 0))",
  'a payload over outputBytes': "say(head(1, '{}', 1025))",
  'a payload of 4 GiB': "say(head(1, '{}', 0xffffffff))",
  'a header that is no JSON': "say(head(1, '{oops}', 0))",
  'a header that is no object': "say(head(1, '[1]', 0))",
  'half a frame and its end': "say(head(1, '{}', 100)); process.exit(0)",
};

describe('a worker process', () => {
  for (const [what, answers] of Object.entries(lies)) {
    it(`that sends ${what} is ended, and its caller told`, async () => {
      const error = await failure(liar(answers));
      expect(isCloisterError(error, 'WORKER_CRASHED'), String(error)).toBe(true);
    });
  }

  it('that answers a request before its turn is ended: none can be kept waiting past its limits', async () => {
    const worker = liar("s.on('data', () => {}); setTimeout(() => say(head(2, '{}', 0)), 50)");
    await worker.greeted();
    const answers = await Promise.allSettled([1, 2].map(() => worker.request({ op: 'run' }, [], limits)));
    expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await worker.close();
  });

  it('that greets twice in one breath is ended', async () => {
    const twice = "const g = head(0, '{}', 0); say(Buffer.concat([g, g]));";
    const error = await failure(liar("setTimeout(() => say(head(1, '{}', 0)), 50)", false, twice));
    expect(isCloisterError(error, 'WORKER_CRASHED'), String(error)).toBe(true);
  });

  it('is not sent what does not fit a frame, and serves on', async () => {
    const worker = liar("say(head(1, '{}', 0))");
    await worker.greeted();
    const error = await worker.request({ op: 'x'.repeat(5 << 20) }, [], limits).catch((cause: unknown) => cause);
    expect(isCloisterError(error, 'INVALID_ARGUMENT'), String(error)).toBe(true);
    expect((await worker.request({ op: 'run' }, [], limits)).header).toEqual({});
    await worker.close();
  });

  it.skipIf(process.platform !== 'linux')(
    'that finds no free descriptor is an error, not the end of its caller',
    () => {
      const script = `
      import { openSync } from 'node:fs';
      import { WorkerProcess } from ${JSON.stringify(new URL('../../sandbox/worker/process.ts', import.meta.url).href)};
      try { for (;;) openSync('/dev/null'); } catch {}
      const worker = new WorkerProcess();
      const error = await worker.greeted().catch(cause => cause);
      await worker.close();
      console.log(error.code);`;
      const args = ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, script];
      expect(execFileSync('sh', args, { encoding: 'utf8' }).trim()).toBe('WORKER_CRASHED');
    },
  );

  it('that answers in order is heard (the control of the lies above)', async () => {
    const worker = liar(`say(Buffer.concat([head(1, '{"x":1}', 3), Buffer.from([1, 2, 3])]))`);
    const answer = (await failure(worker)) as { header: unknown; payload: Uint8Array };
    expect(answer.header).toEqual({ x: 1 });
    expect([...answer.payload]).toEqual([1, 2, 3]);
  });

  it('that floods its channel and its stderr does not make the supervisor grow', async () => {
    const before = process.memoryUsage().rss;
    const error = await failure(
      liar(
        "for (let i = 0; i < 64; i++) { process.stderr.write('x'.repeat(1 << 20)); } for (;;) say(Buffer.alloc(1 << 20, 7))",
      ),
    );
    expect(isCloisterError(error, 'WORKER_CRASHED')).toBe(true);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1_048_576);
  });

  it('that claims an error of another room is not believed', async () => {
    const error = await failure(
      liar(`say(head(1, '{"error":{"code":"AUDIT_INVALID","message":"\\\\u001b[2Jx"}}', 0))`),
    );
    expect(isCloisterError(error, 'GUEST_FAILED')).toBe(true);
    expect(String(error)).not.toContain('\u001b');
  });

  it('does not show what a guest wrote to stderr', async () => {
    const error = await failure(liar("process.stderr.write('the secret 0.25 0.5\\n', () => process.exit(3))"));
    expect(isCloisterError(error, 'WORKER_CRASHED')).toBe(true);
    expect(JSON.stringify(error)).not.toContain('secret');
    expect((error as { detail: unknown }).detail).toMatchObject({ exitCode: 3 });
  });

  it('that never greets is ended by its caller without waiting', async () => {
    const worker = liar('', false);
    const greeted = worker.greeted().catch((error: unknown) => error);
    await worker.close();
    expect(isCloisterError(await greeted, 'CLOSED')).toBe(true);
  });

  it('that cannot be started says so', async () => {
    const worker = new WorkerProcess({ file: '/nonexistent/node', args: [] });
    const error = await worker.greeted().catch((cause: unknown) => cause);
    expect(isCloisterError(error, 'WORKER_CRASHED')).toBe(true);
    await worker.close();
  });

  it.skipIf(process.platform !== 'linux')('leaves no descriptor, no child and no zombie behind', async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const children = (): string =>
      readFileSync('/proc/self/task/self/children'.replace('self/children', `${process.pid}/children`), 'utf8');
    await failure(liar("say(head(1, '{}', 0))"));
    const before = descriptors();
    for (let i = 0; i < 5; i++) {
      const worker = new WorkerProcess();
      if (i % 2 === 0) await worker.greeted();
      await worker.close();
      expect(children()).not.toContain(String(worker.pid));
    }
    expect(descriptors()).toBeLessThanOrEqual(before);
  });
});
