/**
 * Nominal types: a number that must not be mixed with another number of the same shape.
 * @module
 */

declare const brand: unique symbol;

/** `T`, told apart from every other `T` by `Name`. The checked constructor beside each brand is the only way in. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
