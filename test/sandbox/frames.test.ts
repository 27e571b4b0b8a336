import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  encodeHead,
  type Frame,
  FrameDecoder,
  MAX_HEADER_BYTES,
  ProtocolViolation,
} from '../../sandbox/worker/frames.ts';

const frame = fc.record({
  id: fc.integer({ min: 0, max: 0xffff_ffff }),
  header: fc.dictionary(fc.string(), fc.jsonValue()),
  payload: fc.uint8Array({ maxLength: 300 }),
});

function decodeInPieces(bytes: Uint8Array, cuts: readonly number[]): Frame[] {
  const decoder = new FrameDecoder(() => 1_000);
  const frames: Frame[] = [];
  let at = 0;
  for (const cut of [...cuts.map(cut => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]) {
    frames.push(...decoder.push(bytes.subarray(at, cut)));
    at = cut;
  }
  return frames;
}

describe('frames', () => {
  it('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 5 }), fc.array(fc.nat(), { maxLength: 20 }), (frames, cuts) => {
        const bytes = Buffer.concat(
          frames.flatMap(({ id, header, payload }) => [encodeHead(id, header, payload.length), payload]),
        );
        const seen = decodeInPieces(bytes, cuts);
        expect(seen.map(({ id, header, payload }) => ({ id, header: JSON.stringify(header), payload }))).toEqual(
          frames.map(({ id, header, payload }) => ({
            id,
            header: JSON.stringify(JSON.parse(JSON.stringify(header))),
            payload,
          })),
        );
      }),
      { numRuns: 300 },
    );
  });

  it('made of any bytes are a violation or wait for more, and nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (noise, magic) => {
        const bytes = magic ? Buffer.concat([Buffer.from('CLF1'), noise]) : Buffer.from(noise);
        try {
          for (const { payload } of new FrameDecoder(() => 64).push(bytes))
            expect(payload.length).toBeLessThanOrEqual(64);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolViolation);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('are refused by their announced lengths, before a byte of them is held', () => {
    const prefix = (header: number, payload: number): Buffer => {
      const bytes = encodeHead(1, {}, 0).subarray(0, 16);
      bytes.writeUInt32LE(header, 8);
      bytes.writeUInt32LE(payload, 12);
      return bytes;
    };
    const before = process.memoryUsage().arrayBuffers;
    for (const bytes of [prefix(MAX_HEADER_BYTES + 1, 0), prefix(0, 0), prefix(2, 65), prefix(2, 0xffff_ffff)]) {
      expect(() => new FrameDecoder(() => 64).push(bytes)).toThrow(ProtocolViolation);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_048_576);
  });

  it('with a header that is no JSON object are refused', () => {
    for (const text of ['[]', '12', 'null', '{"a":', '"{}"']) {
      const bytes = Buffer.concat([encodeHead(1, {}, 0).subarray(0, 16), Buffer.from(text)]);
      bytes.writeUInt32LE(text.length, 8);
      expect(() => new FrameDecoder(() => 0).push(bytes)).toThrow(ProtocolViolation);
    }
  });
});
