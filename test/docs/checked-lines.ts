/**
 * Lines of examples with the value that they promise: `expression; // literal`.
 * @module
 */

/** The literal at the head of a comment, up to the end or a colon, and whether it leaves things out. */
function literalOf(comment: string): { literal: string; partial: boolean } | undefined {
  for (const text of [comment, comment.replace(/: .*$/, '')]) {
    const literal = text.trim().replace(/,? ?…(?= ?[\]}])/g, '');
    try {
      // Without a scope of ours: whatever is no literal does not parse, or names something that does not exist.
      const value: unknown = new Function(`'use strict'; return (${literal});`)();
      if (typeof value !== 'function') return { literal, partial: literal !== text.trim() };
    } catch {}
  }
  return undefined;
}

/** Turns `statement; // literal` into the statement and a check of its value. Needs `assert` of `node:assert/strict`. */
export function withCheck(line: string): string {
  const match = /^(\s*)(\S.*?);\s*\/\/ (.*)$/.exec(line);
  const expected = match && literalOf(match[3]!);
  if (!match || !expected) return line;
  const [, indent, statement] = match;
  const check = expected.partial ? 'partialDeepStrictEqual' : 'deepStrictEqual';
  const declared = /^const (?:\{ (\w+) \}|(\w+)) = /.exec(statement!);
  return declared
    ? `${indent}${statement}; assert.${check}(${declared[1] ?? declared[2]}, ${expected.literal});`
    : `${indent}assert.${check}(${statement}, ${expected.literal});`;
}
