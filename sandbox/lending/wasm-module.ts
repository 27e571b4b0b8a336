/**
 * What a WebAssembly module asks for, read out of its bytes before they are compiled.
 *
 * A module (WebAssembly core specification 2.0, §5.5) is the magic `\0asm`, the version 1 and sections: `u8 id | u32 size | content`,
 * numbers in LEB128. Looked into are the imports (2), tables (4) and memories (5); what is not understood is refused.
 * @module
 */
import { Refusal } from './capability.ts';

const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
/** From custom to data count. Tags (13), whose exceptions may carry what is not the module's, and all later ones are refused. */
const LAST_SECTION = 12;
const IMPORTS = 2;
const TABLES = 4;
const MEMORIES = 5;
/** funcref and externref. */
const REFERENCES: ReadonlySet<number> = new Set([0x70, 0x6f]);
/** i32, i64, f32, f64, v128, funcref, externref. */
const VALUES: ReadonlySet<number> = new Set([0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f]);

/** What a module may ask for. */
export interface ModuleCaps {
  /** Pages of 64 KiB of the largest memory. */
  readonly pages: number;
  /** Elements of all tables of one instance. */
  readonly tableElements: number;
}

/**
 * Checks that a module makes no memory of its own, and that each memory and table that it imports or makes has a maximum, under `caps`.
 *
 * @returns the elements that the tables of an instance may grow to.
 * @throws {Refusal} on anything else. That the module is valid beyond that is for the engine to say.
 */
export function checkModule(bytes: Uint8Array, caps: ModuleCaps): number {
  const reader = new Reader(bytes);
  for (const byte of HEADER)
    if (reader.byte() !== byte) throw new Refusal('form', 'expected a WebAssembly module of version 1');
  let elements = 0;
  while (!reader.atEnd) {
    const id = reader.byte();
    const content = reader.part(reader.u32());
    if (id > LAST_SECTION) throw new Refusal('form', `the module has a section ${id}, which is not known here`);
    if (id === MEMORIES) throw new Refusal('form', 'the module makes a memory of its own: it has to import one');
    if (id === IMPORTS) elements += imports(content, caps);
    if (id === TABLES) for (let left = content.u32(); left > 0; left--) elements += table(content);
    if ((id === IMPORTS || id === TABLES) && !content.atEnd)
      throw new Refusal('form', 'a section is longer than what it holds');
  }
  if (elements > caps.tableElements) {
    throw new Refusal('limit', `the tables of the module are over tableElements (${caps.tableElements})`);
  }
  return elements;
}

function imports(content: Reader, caps: ModuleCaps): number {
  let elements = 0;
  for (let left = content.u32(); left > 0; left--) {
    content.part(content.u32());
    content.part(content.u32());
    const kind = content.byte();
    if (kind === 0) content.u32();
    else if (kind === 1) elements += table(content);
    else if (kind === 2) {
      const pages = maximum(content, 'memory');
      if (pages > caps.pages)
        throw new Refusal('limit', `the module imports a memory of up to ${pages} pages, over ${caps.pages}`);
    } else if (kind === 3) {
      if (!VALUES.has(content.byte()) || content.byte() > 1)
        throw new Refusal('form', 'an imported global has a type not known here');
    } else throw new Refusal('form', `the module imports something of kind ${kind}, which is not known here`);
  }
  return elements;
}

function table(content: Reader): number {
  if (!REFERENCES.has(content.byte())) throw new Refusal('form', 'a table has elements of a type not known here');
  return maximum(content, 'table');
}

/** Limits with a maximum: flag 1. Others are without one, shared, or counted in 64 bits. */
function maximum(content: Reader, what: string): number {
  if (content.byte() !== 1)
    throw new Refusal('form', `a ${what} of the module has no maximum, or is shared, or is of 64 bits`);
  content.u32();
  return content.u32();
}

/** Reads bytes in order. Throws a {@link Refusal} at the end of them. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  byte(): number {
    const value = this.#bytes[this.#at];
    if (value === undefined) throw new Refusal('form', 'the module ends too early');
    this.#at++;
    return value;
  }

  /** An unsigned LEB128 number of 32 bits, in at most five bytes. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      if (shift === 28 && byte > 0x0f) break;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new Refusal('form', 'a number of the module is over 32 bits');
  }

  part(length: number): Reader {
    if (length > this.#bytes.length - this.#at) throw new Refusal('form', 'the module ends too early');
    this.#at += length;
    return new Reader(this.#bytes.subarray(this.#at - length, this.#at));
  }
}
