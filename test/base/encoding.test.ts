import { Buffer } from 'node:buffer';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CloisterError,
  canonicalJson,
  concatBytes,
  decodeUtf8,
  encodeUtf8,
  equalBytes,
  errorFromJson,
  fromBase64,
  fromHex,
  type Json,
  toBase64,
  toHex,
} from '../../src/base/index.ts';

const bytes = fc.uint8Array({ maxLength: 200 });

describe('bytes and text', () => {
  test('hexadecimal and base64 agree with Buffer and round-trip', () => {
    fc.assert(
      fc.property(bytes, value => {
        const buffer = Buffer.from(value);
        expect(toHex(value)).toBe(buffer.toString('hex'));
        expect(toBase64(value)).toBe(buffer.toString('base64'));
        expect(equalBytes(fromHex(toHex(value)), value)).toBe(true);
        expect(equalBytes(fromBase64(toBase64(value)), value)).toBe(true);
      }),
    );
  });

  test.each(['a', 'zz', '0x'])('%j is not hexadecimal', text => {
    expect(() => fromHex(text)).toThrow(CloisterError);
  });

  test.each(['A', 'AA', 'AB==', 'AAB=', 'AA=A', '=AAA', 'A A=', 'AA\n=', '_-=='])('%j is not strict base64', text => {
    expect(() => fromBase64(text)).toThrow(CloisterError);
  });

  test('UTF-8 agrees with TextEncoder on any string, lone surrogates included', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        const encoded = encodeUtf8(text);
        expect(toHex(encoded)).toBe(toHex(new TextEncoder().encode(text)));
        expect(decodeUtf8(encoded)).toBe(text.toWellFormed());
      }),
      { examples: [['\ud800'], ['\u{10ffff}'], ['\ufeffx']] },
    );
  });

  test('UTF-8 that TextDecoder refuses is refused, and nothing else', () => {
    const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const nasty = fc.array(
      fc.constantFrom(0x41, 0x80, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xa0, 0xf0, 0x90, 0xf4, 0xf5, 0xff),
    );
    fc.assert(
      fc.property(fc.oneof(bytes, nasty), value => {
        const array = Uint8Array.from(value);
        let expected: string | undefined;
        try {
          expected = strict.decode(array);
        } catch {}
        if (expected === undefined) expect(() => decodeUtf8(array)).toThrow(CloisterError);
        else expect(decodeUtf8(array)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
  });

  test('concatBytes keeps every byte in order', () => {
    expect(toHex(concatBytes(fromHex('00ff'), fromHex(''), fromHex('7f')))).toBe('00ff7f');
  });
});

describe('canonical JSON', () => {
  test('writes the example of RFC 8785 §3.2.2', () => {
    const value = {
      numbers: [Number('333333333.33333329'), 1e30, 4.5, 2e-3, 0.000000000000000000000000001],
      string: '€$\u000f\nA\'B"\\\\"/',
      literals: [null, true, false],
    };
    expect(canonicalJson(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    );
  });

  test('sorts keys by UTF-16 code units, as RFC 8785 §3.2.3 shows', () => {
    const keys = ['\u20ac', '\r', '\ufb33', '1', '\u{1f600}', '\u0080', '\u00f6'];
    const text = canonicalJson(Object.fromEntries(keys.map((key, i) => [key, i])));
    const order = ['\r', '1', '\u0080', '\u00f6', '\u20ac', '\u{1f600}', '\ufb33'];
    const places = order.map(key => text.indexOf(`${JSON.stringify(key)}:`));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(places[0]).toBe(1);
  });

  test('has one spelling per value: parsing and writing again changes nothing', () => {
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        const text = canonicalJson(value as Json);
        expect(canonicalJson(JSON.parse(text) as Json)).toBe(text);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test('keeps that order where objects would keep another, and loses no key', () => {
    expect(canonicalJson({ b: 1, 10: 2, 9: 3, a: 4 })).toBe('{"10":2,"9":3,"a":4,"b":1}');
    expect(canonicalJson(JSON.parse('[{"b":1,"__proto__":{"x":2},"a":3}]') as Json)).toBe(
      '[{"__proto__":{"x":2},"a":3,"b":1}]',
    );
    expect(canonicalJson({ z: { 2: undefined, 1: -0, y: undefined } })).toBe('{"z":{"1":0}}');
  });

  test.each([
    [NaN],
    [Infinity],
    ['\ud800'],
    [1n],
    [() => 0],
    [new Date(0)],
    [new Map()],
    [{ '\udfff': 1 }],
    [undefined],
  ])('refuses %s and says where', value => {
    expect(() => canonicalJson([value] as never)).toThrow(/at \$\[0\]/);
  });
});

describe('errors across a border', () => {
  test('keep code, message and detail, and lose stack and cause', () => {
    const error = new CloisterError(
      'SHAPE_MISMATCH',
      'expected [2], got [3]',
      { expected: [2] },
      { cause: new Error('secret') },
    );
    const back = errorFromJson(JSON.parse(JSON.stringify(error)), 'GUEST_FAILED');
    expect(back.toJSON()).toEqual({
      code: 'SHAPE_MISMATCH',
      message: 'expected [2], got [3]',
      detail: { expected: [2] },
    });
    expect(JSON.stringify(error)).not.toContain('secret');
  });

  test('an untrusted sender cannot invent a code or flood the message', () => {
    fc.assert(
      fc.property(fc.anything(), value => {
        expect(errorFromJson(value, 'GUEST_FAILED')).toBeInstanceOf(CloisterError);
      }),
    );
    expect(errorFromJson({ code: 'constructor', message: 'x'.repeat(5000) }, 'GUEST_FAILED')).toMatchObject({
      code: 'GUEST_FAILED',
    });
    expect(errorFromJson({ code: 'CLOSED', message: 'x'.repeat(5000) }, 'GUEST_FAILED').message).toHaveLength(2000);
  });
});
