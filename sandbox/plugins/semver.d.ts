/** What we use of `semver`, which brings no types. */
declare module 'semver' {
  const semver: {
    /** The version in its one spelling, without build metadata; null when it is none. */
    valid(version: string): string | null;
    /** The range in its one spelling; null when it is none. */
    validRange(range: string): string | null;
    satisfies(version: string, range: string): boolean;
    /** -1, 0 or 1 by precedence. */
    compare(a: string, b: string): number;
  };
  export default semver;
}
