/**
 * The plan of an encrypted inference: every operation on every ciphertext, with its level and scale, before any key exists. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { type HeOperation, milliseconds } from './costs.ts';
import type { AffineLayer, Layers } from './layers.ts';
import {
  diagonalsOf,
  type Grid,
  type Layout,
  layoutAfter,
  naturalLayout,
  offsetsOf,
  type Placement,
  placements,
  powerOfTwo,
  type Steps,
  splitSteps,
} from './packing.ts';
import { chooseParameters, type HeParameters } from './parameters.ts';
import type { Sparse } from './sparse.ts';

/** A ciphertext of the plan, by its place in {@link HePlan.steps}. */
export type CipherId = number;

/** Numbers that are encoded once, when the model is loaded: they repeat over all slots. */
export interface Plain {
  readonly values: Float64Array;
  readonly scale: number;
  readonly level: number;
}

/** One operation. Inputs come first in a plan; each step makes one ciphertext. */
export type HeStep = {
  /** Data primes of the result, less one. */
  readonly level: number;
  readonly scale: number;
  /** Index of the layer that it belongs to; -1 for inputs. */
  readonly layer: number;
} & (
  | { readonly op: 'input'; readonly input: number }
  | { readonly op: 'rotate'; readonly of: CipherId; readonly steps: number }
  | { readonly op: 'multiplyPlain' | 'addPlain'; readonly of: CipherId; readonly plain: number }
  | { readonly op: 'multiply' | 'add'; readonly of: CipherId; readonly by: CipherId }
  | { readonly op: 'relinearise' | 'rescale' | 'modSwitch'; readonly of: CipherId }
);

/** Where the client puts the elements of an input, or finds those of an output. */
export interface Port {
  readonly name: string;
  readonly shape: readonly number[];
  readonly layout: Layout;
  /** For inputs: which element of the tensor each element of the layout is; -1 for zero. Left out: each itself. */
  readonly gather?: Int32Array;
}

export interface HePlan {
  readonly parameters: HeParameters;
  readonly inputs: readonly Port[];
  readonly outputs: readonly (Port & { readonly cipher: CipherId })[];
  readonly steps: readonly HeStep[];
  readonly plains: readonly Plain[];
  /** Names of the layers that {@link HeStep.layer} points at. */
  readonly layers: readonly string[];
  /** The rotations that keys are needed for, ascending. */
  readonly rotations: readonly number[];
  /** Whether products of ciphertexts need a relinearisation key. */
  readonly relinearises: boolean;
}

/** What {@link planLayers} may be told. */
export interface PlanOptions {
  /** The largest absolute value that an output takes; see `rangesOf`. */
  readonly magnitude: number;
}

/** How many partial plans are followed at a time. */
const BEAM = 8;

/**
 * Plans `layers` for the least predicted time.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` when the model is too deep or too wide for any secure parameters.
 */
export function planLayers(layers: Layers, options: PlanOptions): HePlan {
  const variants = [layers, gatherWindows(layers)].filter(variant => variant !== undefined);
  const plans = variants.map(variant => planVariant(variant, options));
  return plans.reduce((best, plan) => (predictedMs(plan) < predictedMs(best) ? plan : best));
}

/** Milliseconds that the server's steps are predicted to take on one core; see `milliseconds`. */
export function predictedMs(plan: HePlan): number {
  return plan.steps.reduce((sum, step) => sum + (step.op === 'input' ? 0 : stepMs(plan, step)), 0);
}

/** Milliseconds of one step. */
export function stepMs({ parameters, steps }: HePlan, step: HeStep): number {
  if (step.op === 'input') return 0;
  const operation: HeOperation = step.op;
  return milliseconds(operation, parameters.degree, steps[step.of]!.level + 1);
}

/** Layers whose first input may be laid out by the client as windows. */
interface Windowed extends Layers {
  readonly gather?: Int32Array;
}

function planVariant(layers: Windowed, options: PlanOptions): HePlan {
  const used = depths(layers);
  const levels = Math.max(...layers.outputs.map(({ base }) => used[base]!));
  const slots = Math.max(...layers.sizes.map(powerOfTwo));
  const parameters = chooseParameters({ levels, slots, magnitude: options.magnitude });
  const state = search(layers, parameters, used);
  return new Emitter(layers, parameters, state).emit();
}

/** How many levels each base has used up. */
function depths(layers: Layers): readonly number[] {
  const used: number[] = layers.inputs.map(() => 0);
  for (const layer of layers.layers) {
    const deepest = Math.max(...layer.inputs.map(base => used[base]!));
    used.push(layer.kind === 'affine' && isShift(layer) ? deepest : deepest + 1);
  }
  return used;
}

/** A layer that doubles at most, and adds a constant: additions alone, and no level. */
function isShift(layer: AffineLayer): boolean {
  const [map] = layer.maps;
  if (layer.maps.length !== 1 || map === undefined || map.rows !== map.columns || map.value.length !== map.rows)
    return false;
  const [factor] = map.value;
  return (factor === 1 || factor === 2) && map.value.every((value, i) => value === factor && map.column[i] === i);
}

interface State {
  readonly layouts: readonly Layout[];
  readonly chosen: readonly (Placement | undefined)[];
  readonly ms: number;
}

function search(layers: Windowed, parameters: HeParameters, used: readonly number[]): State {
  const slots = parameters.degree / 2;
  const first = layers.inputs.map((_, base) => naturalLayout(layers.sizes[base]!));
  let states: State[] = [{ layouts: first, chosen: [], ms: 0 }];
  const offsets = new Map<string, Steps & { readonly count: number }>();
  layers.layers.forEach((layer, index) => {
    const base = layers.inputs.length + index;
    const next: State[] = [];
    for (const state of states) {
      if (layer.kind === 'function')
        throw new CloisterError('UNSUPPORTED_MODEL', `${layer.name}: no polynomial was fitted`);
      const inputs = layer.inputs.map(input => state.layouts[input]!);
      if (layer.kind === 'product') {
        const [a, b] = inputs as [Layout, Layout];
        if (sameLayout(a, b)) next.push(grown(state, a, undefined, 0));
        continue;
      }
      if (isShift(layer)) {
        next.push(grown(state, inputs[0]!, undefined, 0));
        continue;
      }
      const primes = parameters.levels - used[base]! + 2;
      const ms = (operation: HeOperation): number => milliseconds(operation, parameters.degree, primes);
      placements(layer.bias.length, inputs, slots, gridOf(layers, layer, base)).forEach((to, number) => {
        let cost = (Math.log2(to.narrow) + Math.log2(to.ring / Math.min(to.wide, to.ring))) * ms('rotate');
        layer.maps.forEach((map, i) => {
          const key = `${index}:${i}:${number}:${inputs[i]!.period}:${signature(inputs[i]!)}`;
          let split = offsets.get(key);
          if (split === undefined) {
            const all = offsetsOf(map, inputs[i]!, to);
            split = { ...splitSteps(all, slots), count: all.size };
            offsets.set(key, split);
          }
          cost += (split.babies + split.giants) * ms('rotate') + split.count * ms('multiplyPlain');
        });
        next.push(grown(state, layoutAfter(to), to, cost));
      });
    }
    if (next.length === 0) {
      throw new CloisterError(
        'UNSUPPORTED_MODEL',
        `encrypted inference: ${layer.name} multiplies two values that no packing brings to the same slots`,
      );
    }
    states = next.sort((a, b) => a.ms - b.ms).slice(0, BEAM);
  });
  return states[0]!;
}

function grown(state: State, layout: Layout, placement: Placement | undefined, ms: number): State {
  return {
    layouts: [...state.layouts, layout],
    chosen: [...state.chosen, placement],
    ms: state.ms + ms,
  };
}

function sameLayout(a: Layout, b: Layout): boolean {
  return a === b || (a.period === b.period && a.place.every((slot, i) => slot === b.place[i]));
}

/** Enough of a layout to tell those of one search apart. */
function signature({ place }: Layout): string {
  const [last, middle] = [place.length - 1, place.length >> 1];
  return `${place[0]},${place[1] ?? 0},${place[middle]},${place[last]},${place.length}`;
}

function gridOf(layers: Layers, layer: AffineLayer, base: number): Grid | undefined {
  const from = layers.shapes[layer.inputs[0]!]!;
  const to = layers.shapes[base]!;
  const planes = (shape: readonly number[]): [number, number, number] | undefined =>
    shape.length === 4 && shape[0] === 1
      ? [shape[1]!, shape[2]!, shape[3]!]
      : shape.length === 3 && shape[0] === 1
        ? [shape[1]!, shape[2]!, 1]
        : undefined;
  const [input, output] = [planes(from), planes(to)];
  return input === undefined || output === undefined ? undefined : { input, output };
}

/**
 * The same layers with the first input spread out by the client, so that a convolution over it is one small matrix for all windows:
 * element t * windows + w is tap t of window w. Undefined where the first layer is no such thing.
 */
function gatherWindows(layers: Layers): Windowed | undefined {
  const [first] = layers.layers;
  if (first?.kind !== 'affine' || layers.inputs.length !== 1 || first.inputs.length !== 1) return undefined;
  if (layers.layers.slice(1).some(layer => layer.inputs.includes(0))) return undefined;
  const map = first.maps[0]!;
  const groups = new Map<string, number[]>();
  for (let r = 0; r < map.rows; r++) {
    const key = map.column.subarray(map.start[r]!, map.start[r + 1]!).join();
    const rows = groups.get(key);
    if (rows === undefined) groups.set(key, [r]);
    else rows.push(r);
  }
  const windows = powerOfTwo(groups.size);
  const widths = [...groups.values()].map(([r]) => map.start[r! + 1]! - map.start[r!]!);
  const taps = powerOfTwo(Math.max(...widths));
  const size = windows * taps;
  if (groups.size < 2 || size > 16_384 || groups.size * 2 > map.rows) return undefined;
  const gather = new Int32Array(size).fill(-1);
  const column = new Uint32Array(map.column.length);
  [...groups.values()].forEach((rows, w) => {
    for (const r of rows) {
      for (let k = map.start[r]!; k < map.start[r + 1]!; k++) {
        const element = (k - map.start[r]!) * windows + w;
        gather[element] = map.column[k]!;
        column[k] = element;
      }
    }
  });
  const spread: Sparse = { ...map, columns: size, column };
  return {
    ...layers,
    gather,
    layers: [{ ...first, maps: [spread] }, ...layers.layers.slice(1)],
    sizes: [size, ...layers.sizes.slice(1)],
    shapes: [[1, size], ...layers.shapes.slice(1)],
  };
}

/** A ciphertext as it is written. */
interface Cipher {
  readonly id: CipherId;
  readonly level: number;
  readonly scale: number;
}

class Emitter {
  readonly #layers: Windowed;
  readonly #parameters: HeParameters;
  readonly #state: State;
  readonly #steps: HeStep[] = [];
  readonly #plains: Plain[] = [];
  readonly #rotated = new Map<string, Cipher>();
  #layer = -1;

  constructor(layers: Windowed, parameters: HeParameters, state: State) {
    this.#layers = layers;
    this.#parameters = parameters;
    this.#state = state;
  }

  emit(): HePlan {
    const layers = this.#layers;
    const { levels, scale } = this.#parameters;
    const bases: Cipher[] = layers.inputs.map((_, input) => this.#push({ op: 'input', input }, levels, scale));
    layers.layers.forEach((layer, index) => {
      this.#layer = index;
      this.#rotated.clear();
      const inputs = layer.inputs.map(base => bases[base]!);
      if (layer.kind === 'product') bases.push(this.#product(inputs[0]!, inputs[1]!));
      else if (layer.kind === 'affine') bases.push(this.#affine(layer, index, inputs));
    });
    const rotations = new Set(this.#steps.flatMap(step => (step.op === 'rotate' ? [step.steps] : [])));
    return Object.freeze({
      parameters: this.#parameters,
      inputs: layers.inputs.map(({ name, shape }, base) => ({
        name,
        shape,
        layout: this.#state.layouts[base]!,
        ...(base === 0 && layers.gather !== undefined && { gather: layers.gather }),
      })),
      outputs: layers.outputs.map(({ value, shape, base }) => ({
        name: layers.graph.values[value]!.name,
        shape,
        layout: this.#state.layouts[base]!,
        cipher: this.#switchTo(bases[base]!, 0).id,
      })),
      steps: this.#steps,
      plains: this.#plains,
      layers: layers.layers.map(({ name }) => name),
      rotations: [...rotations].sort((a, b) => a - b),
      relinearises: this.#steps.some(({ op }) => op === 'relinearise'),
    });
  }

  #product(a: Cipher, b: Cipher): Cipher {
    const level = Math.min(a.level, b.level);
    const [x, y] = [this.#switchTo(a, level), this.#switchTo(b, level)];
    const squared = this.#push({ op: 'multiply', of: x.id, by: y.id }, level, x.scale * y.scale);
    return this.#rescale(this.#push({ op: 'relinearise', of: squared.id }, level, squared.scale));
  }

  #affine(layer: AffineLayer, index: number, inputs: readonly Cipher[]): Cipher {
    const layout = this.#state.layouts[this.#layers.inputs.length + index]!;
    if (isShift(layer)) {
      const [x] = inputs as [Cipher];
      return this.#addBias(layer.maps[0]!.value[0] === 2 ? this.#add(x, x) : x, layer.bias, layout);
    }
    const to = this.#state.chosen[index]!;
    const level = Math.min(...inputs.map(input => input.level));
    // The scale after the rescale is exactly the one that values are kept at, whatever the inputs' scales are.
    const product = this.#parameters.scale * Number(this.#parameters.primes[level]!);
    let total: Cipher | undefined;
    layer.maps.forEach((map, i) => {
      const input = this.#switchTo(inputs[i]!, level);
      const from = this.#state.layouts[layer.inputs[i]!]!;
      const part = this.#diagonals(map, input, from, to, product);
      if (part !== undefined) total = total === undefined ? part : this.#add(total, part);
    });
    if (total === undefined) throw new CloisterError('UNSUPPORTED_MODEL', `${layer.name} does not depend on any input`);
    for (let by = 1; by < to.narrow; by *= 2) total = this.#add(total, this.#rotate(total, by));
    for (let by = to.wide; by < to.ring; by *= 2) total = this.#add(total, this.#rotate(total, by));
    return this.#addBias(this.#rescale(total), layer.bias, layout);
  }

  /** A matrix by baby and giant steps: within a giant step the input is rotated, and the sum of each is rotated once. */
  #diagonals(map: Sparse, input: Cipher, from: Layout, to: Placement, product: number): Cipher | undefined {
    const diagonals = diagonalsOf(map, from, to);
    const { giant } = splitSteps(
      diagonals.map(({ offset }) => offset),
      this.#parameters.degree / 2,
    );
    let total: Cipher | undefined;
    const groups = Map.groupBy(diagonals, ({ offset }) => Math.floor(offset / giant));
    for (const [step, members] of groups) {
      const shift = step * giant;
      let inner: Cipher | undefined;
      for (const { offset, value } of members) {
        const ring = value.length;
        const moved = value.map((_, s) => value[(((s - shift) % ring) + ring) % ring]!);
        const plain = this.#plain(moved, product / input.scale, input.level);
        const turned = this.#rotate(input, offset - shift);
        const term = this.#push({ op: 'multiplyPlain', of: turned.id, plain }, input.level, product);
        inner = inner === undefined ? term : this.#add(inner, term);
      }
      const outer = this.#rotate(inner!, shift);
      total = total === undefined ? outer : this.#add(total, outer);
    }
    return total;
  }

  #addBias(x: Cipher, bias: Float64Array, layout: Layout): Cipher {
    if (bias.every(value => value === 0)) return x;
    const values = new Float64Array(layout.period);
    layout.place.forEach((slot, i) => {
      values[slot] = bias[i]!;
    });
    return this.#push({ op: 'addPlain', of: x.id, plain: this.#plain(values, x.scale, x.level) }, x.level, x.scale);
  }

  #add(a: Cipher, b: Cipher): Cipher {
    return this.#push({ op: 'add', of: a.id, by: b.id }, a.level, a.scale);
  }

  #rotate(x: Cipher, steps: number): Cipher {
    if (steps === 0) return x;
    const key = `${x.id}:${steps}`;
    let turned = this.#rotated.get(key);
    if (turned === undefined) {
      turned = this.#push({ op: 'rotate', of: x.id, steps }, x.level, x.scale);
      this.#rotated.set(key, turned);
    }
    return turned;
  }

  #rescale(x: Cipher): Cipher {
    const scale = x.scale / Number(this.#parameters.primes[x.level]!);
    return this.#push({ op: 'rescale', of: x.id }, x.level - 1, scale);
  }

  #switchTo(x: Cipher, level: number): Cipher {
    let at = x;
    while (at.level > level) at = this.#push({ op: 'modSwitch', of: at.id }, at.level - 1, at.scale);
    return at;
  }

  #plain(values: Float64Array, scale: number, level: number): number {
    this.#plains.push({ values, scale, level });
    return this.#plains.length - 1;
  }

  #push(step: Step, level: number, scale: number): Cipher {
    this.#steps.push({ ...step, level, scale, layer: this.#layer } as HeStep);
    return { id: this.#steps.length - 1, level, scale };
  }
}

/** A step without what {@link Emitter} adds. */
type Step = HeStep extends infer S ? (S extends HeStep ? Omit<S, 'level' | 'scale' | 'layer'> : never) : never;
