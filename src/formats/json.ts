/**
 * JSON that nobody vouches for.
 * @module
 */
import { CloisterError, decodeUtf8 } from '../base/index.ts';

/**
 * The entries of the JSON object that `bytes` are, as a map, so that no key means anything to JavaScript. Refused: a key that an
 * object has twice, which JSON parsers resolve silently, each in its own way.
 *
 * @param what - What the bytes are, for the message.
 * @throws {CloisterError} `INVALID_MODEL`.
 */
export function parseJsonObject(bytes: Uint8Array, what: string): ReadonlyMap<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = decodeUtf8(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    return fail(`${what} is not JSON in UTF-8: ${(cause as Error).message.slice(0, 200)}`);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) fail(`${what}: the key ${JSON.stringify(duplicate.slice(0, 80))} is given twice`);
  return entriesOf(value) ?? fail(`${what} is not an object`);
}

/** The entries of a JSON object; undefined for any other value. */
export function entriesOf(value: unknown): ReadonlyMap<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  return new Map(Object.entries(value));
}

/** The first key that an object of the valid JSON `text` has twice. One pass, without recursion. */
function findDuplicateKey(text: string): string | undefined {
  const objects: (Set<string> | undefined)[] = []; // undefined: an array
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '{') objects.push(new Set());
    else if (char === '[') objects.push(undefined);
    else if (char === '}' || char === ']') objects.pop();
    else if (char === '"') {
      const begin = i++;
      for (; text[i] !== '"'; i++) if (text[i] === '\\') i++;
      let next = i + 1;
      while (text[next] === ' ' || text[next] === '\t' || text[next] === '\n' || text[next] === '\r') next++;
      if (text[next] !== ':') continue;
      const key = JSON.parse(text.slice(begin, i + 1)) as string; // two spellings may be one key
      const keys = objects.at(-1)!;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

function fail(message: string): never {
  throw new CloisterError('INVALID_MODEL', message);
}
