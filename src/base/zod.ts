/**
 * The part of zod that schemas here are made of. The build puts that part alone in this file's place (`.ci/inline.ts`): all of zod, with
 * messages in fifty languages, takes longer to load than everything else that an import of the facade needs.
 * @module
 */
export {
  array,
  boolean,
  custom,
  discriminatedUnion,
  enum,
  int,
  lazy,
  literal,
  number,
  prettifyError,
  type RefinementCtx,
  record,
  strictObject,
  string,
  union,
  type ZodType,
} from 'zod';
