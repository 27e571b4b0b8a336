/**
 * What a plugin can be.
 * @module
 */

/** Every kind of plugin. Closed: the library knows what to do with each. */
export const PLUGIN_KINDS = ['operator', 'processor', 'policy', 'statistic'] as const;

/**
 * `operator`: operators with a shape rule and a kernel. `processor`: what happens to inputs before a model runs, or to outputs
 * after it. `policy`: which backend runs what. `statistic`: what one record contributes to a release.
 */
export type PluginKind = (typeof PLUGIN_KINDS)[number];
