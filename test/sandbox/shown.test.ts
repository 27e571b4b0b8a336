/**
 * A model shown: the same under every isolation, bounded, and checked by the host.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Isolation, openSandbox } from '../../sandbox/index.ts';
import { parseShown, type ShownForm } from '../../sandbox/shown.ts';
import { CloisterError, encodeUtf8, isCloisterError } from '../../src/base/index.ts';
import { bytesSource, parseOnnx } from '../../src/formats/index.ts';
import { printGraph, toDot, toSvg } from '../../src/graph/index.ts';
import { affineModel } from './tiny-model.ts';

const FORMS: readonly ShownForm[] = ['text', 'svg', 'dot'];
const LIMIT = 1_048_576;

describe.each<Isolation>(['process', 'isolate', 'none'])('a model under isolation %s', isolation => {
  it('is shown as the graph is printed and drawn', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 0 });
    await using model = await sandbox.load(affineModel());
    const graph = parseOnnx(bytesSource(affineModel()));
    expect(await model.show('text')).toBe(printGraph(graph));
    expect(await model.show('svg')).toBe(toSvg(graph));
    expect(await model.show('dot')).toBe(toDot(graph));
    await model.close();
    await expect(model.show('text')).rejects.toMatchObject({ code: 'CLOSED' });
  });

  it('is not shown over the limit of an answer, and serves on', async () => {
    await using sandbox = await openSandbox({ isolation, warm: 0, limits: { outputBytes: 200 } });
    await using model = await sandbox.load(affineModel());
    const error = await model.show('svg').catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'LIMIT_EXCEEDED', detail: { limit: 'outputBytes', allowed: 200 } });
    expect(model.summary.nodes).toBeGreaterThan(0);
    await expect(model.show('dot')).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });
});

describe('what a guest sends as a picture', () => {
  const svg = toSvg(parseOnnx(bytesSource(affineModel())));
  const parsed = (text: string, form: ShownForm = 'svg'): string => parseShown(encodeUtf8(text), form, LIMIT);

  it('passes when it is ours', () => {
    expect(parsed(svg)).toBe(svg);
  });

  it.each([
    ['a script', svg.replace('</svg>', '<script>alert(1)</script></svg>')],
    ['a handler', svg.replace('<rect ', '<rect onload="alert(1)" ')],
    ['a link', svg.replace('</svg>', '<a href="javascript:1">x</a></svg>')],
    ['a foreign object', svg.replace('</svg>', '<foreignObject></foreignObject></svg>')],
    ['an image', svg.replace('</svg>', '<image href="http://h/"/></svg>')],
    ['a style that fetches', svg.replace('<style>', '<style>@import "http://h/";')],
    ['a style with a url', svg.replace('<style>', '<style>rect{fill:url(http://h/)}')],
    ['a style with an escape', svg.replace('<style>', '<style>rect{fill:u\\72l(x)}')],
    ['a style in a style', svg.replace('</style>', '<title>x</title>url(x)</style>')],
    ['a comment', svg.replace('</svg>', '<!-- x --></svg>')],
    ['a doctype', `<!DOCTYPE svg [<!ENTITY x "y">]>${svg}`],
    ['an entity', svg.replace('</svg>', '&x;</svg>')],
    ['an attribute without quotes', svg.replace('<rect ', '<rect x=1 ')],
    ['an open element', svg.replace('</svg>', '')],
    ['elements that cross', svg.replace('</svg>', '<g><path></g></path></svg>')],
    ['another root', 'hello'],
    ['nothing', ''],
    ['a control character', svg.replace('</svg>', '\u001b[2J</svg>')],
    ['text that turns around', svg.replace('</svg>', '\u202e</svg>')],
  ])('is refused with %s', (_, text) => {
    expect(() => parsed(text)).toThrow(CloisterError);
    try {
      parsed(text);
    } catch (error) {
      expect(isCloisterError(error, 'GUEST_FAILED')).toBe(true);
    }
  });

  it('is refused when it is no UTF-8 or too long', () => {
    expect(() => parseShown(Uint8Array.of(0xff, 0xfe), 'text', LIMIT)).toThrow(/UTF-8/);
    expect(() => parseShown(new Uint8Array(11), 'text', 10)).toThrow(/limit outputBytes/);
  });

  it('is read in bounded time, whatever it is', () => {
    fc.assert(
      fc.property(fc.constantFrom(...FORMS), fc.string({ unit: 'binary' }), (form, text) => {
        try {
          expect(parsed(`${form === 'svg' ? svg : ''}${text}`, form)).toContain(text);
        } catch (error) {
          if (!isCloisterError(error, 'GUEST_FAILED')) throw error;
        }
      }),
    );
    const start = performance.now();
    for (const text of [
      `<svg${' x="1"'.repeat(100_000)}>`,
      '<g>'.repeat(200_000),
      '<'.repeat(500_000),
      `<g x="${'&amp;'.repeat(100_000)}">`,
    ]) {
      expect(() => parsed(text)).toThrow(CloisterError);
    }
    expect(() => parsed(svg.replace('</svg>', `${'a&amp;'.repeat(100_000)}</svg>`))).not.toThrow();
    expect(performance.now() - start).toBeLessThan(5_000);
  });
});
