/**
 * A worker that greets, and then does what each request's `says` asks for with our own end of the channel.
 */
import { BlockingChannel } from '../../sandbox/worker/channel.ts';
import { isCredit, Outbox } from '../../sandbox/worker/credit.ts';
import type { CloisterError } from '../../src/base/index.ts';

const channel = new BlockingChannel(3);
channel.write(0, {});
while (true) {
  const frame = channel.read();
  if (frame === undefined) process.exit();
  if (isCredit(frame.header)) continue;
  const exceed = (error: CloisterError): never => {
    channel.write(frame.id, { error: error.toJSON() });
    process.exit();
  };
  const outbox = new Outbox(channel, frame, exceed);
  const { messages, text } = frame.header['says'] as { messages: number; text: string };
  let refused: string | undefined;
  try {
    for (let i = 0; i < messages; i++) outbox.send({ i, text });
  } catch (error) {
    refused = (error as CloisterError).code;
  }
  channel.write(frame.id, refused === undefined ? {} : { refused });
}
