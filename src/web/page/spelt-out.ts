/**
 * Characters that a reader does not see, or that turn the direction of writing, made visible. Pure.
 * @module
 */

const MARKS =
  /([\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u00a0\u2000-\u200a\u202f\u205f\u3000\u115f\u1160\u3164\uffa0])/u;

/** Takes a text apart: what stands at odd places of the result is one character to be spelt out. */
export function markedParts(text: string): string[] {
  return text.split(new RegExp(MARKS, 'gu'));
}

/** `\u{202e}` for such a character. */
export function speltOut(mark: string): string {
  return `\\u{${mark.codePointAt(0)!.toString(16)}}`;
}
