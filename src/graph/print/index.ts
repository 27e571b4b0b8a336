/**
 * Graphs for people: as text, for Graphviz, as a picture.
 * @module
 */
export { toDot } from './dot.ts';
export type { PrintOptions } from './names.ts';
export { toSvg } from './svg.ts';
export { printGraph } from './text.ts';
