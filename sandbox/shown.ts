/**
 * A model for people's eyes: what the guest drew, checked by the host.
 *
 * The guest draws, since it has the graph. What it sends is a claim like all else that it says: a guest that was taken over could
 * send a picture with a script in it. So the host lets pass only what our own drawing is made of.
 * @module
 */
import { type CloisterError, decodeUtf8 } from '../src/base/index.ts';
import { limitError } from './limit-error.ts';
import { refuseGuest } from './untrusted.ts';

/** `text` for reading, `svg` a picture, `dot` for Graphviz. */
export type ShownForm = 'text' | 'svg' | 'dot';

/** Bytes of one of them, at most, whatever the limits of the sandbox are. */
export const MAX_SHOWN_BYTES: number = 16 * 1_048_576;

const FORMS: ReadonlySet<unknown> = new Set<ShownForm>(['text', 'svg', 'dot']);

/** Whether `value` names a form. */
export function isShownForm(value: unknown): value is ShownForm {
  return FORMS.has(value);
}

/**
 * Returns what a guest sent as `form`, checked: UTF-8 without control characters and overrides of the writing direction; an SVG
 * only of the elements and attributes that our own pictures have.
 *
 * @throws {CloisterError} `GUEST_FAILED` on anything else; `LIMIT_EXCEEDED`.
 */
export function parseShown(bytes: Uint8Array, form: ShownForm, limitBytes: number): string {
  if (bytes.length > limitBytes) throw limitError('outputBytes', limitBytes, bytes.length);
  let text: string;
  try {
    text = decodeUtf8(bytes);
  } catch {
    throw refuseGuest(form, 'UTF-8', 'other bytes');
  }
  if (/[^\P{Cc}\n]|[\p{Bidi_Control}\u2028\u2029]/u.test(text)) throw refuseGuest(form, 'printable text', 'other text');
  if (form === 'svg') assertPicture(text);
  return text;
}

const ELEMENTS: ReadonlySet<string> = new Set(['svg', 'title', 'desc', 'style', 'rect', 'text', 'g', 'path']);
const ATTRIBUTES: ReadonlySet<string> = new Set([
  ...[
    'xmlns',
    'viewBox',
    'width',
    'height',
    'role',
    'aria-labelledby',
    'id',
    'class',
    'x',
    'y',
    'rx',
    'd',
    'transform',
  ],
]);
/** A tag with attributes in double quotes, or text. */
const PART = /<(\/?)([a-zA-Z]+)((?: [\w-]+="[^"<]*"){0,12})(\/?)>|([^<]+)/y;

function assertPicture(text: string): void {
  const refuse = (): CloisterError => refuseGuest('svg', 'a picture of shapes and text', 'something else');
  if (/&(?!(?:amp|lt|gt|quot|#39);)/.test(text)) throw refuse();
  const open: string[] = [];
  const part = new RegExp(PART);
  while (part.lastIndex < text.length) {
    const match = part.exec(text);
    if (!match) throw refuse();
    const [, end, name, attributes, empty, words] = match;
    if (words !== undefined) {
      // A style sheet could fetch; ours has colours and sizes.
      if (open.at(-1) === 'style' && /url\s*\(|@import|\\/i.test(words)) throw refuse();
      continue;
    }
    if (!ELEMENTS.has(name!)) throw refuse();
    for (const [, attribute] of attributes!.matchAll(/ ([\w-]+)="/g)) if (!ATTRIBUTES.has(attribute!)) throw refuse();
    if (end) {
      if (attributes !== '' || open.pop() !== name) throw refuse();
    } else if (!empty) open.push(name!);
  }
  if (open.length > 0 || !text.startsWith('<svg xmlns="http://www.w3.org/2000/svg"')) throw refuse();
}
