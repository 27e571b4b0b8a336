/**
 * Where the boxes and lines of a picture lie: a layered layout (Sugiyama, Tagawa & Toda 1981), in four steps of bounded work.
 *
 * 1. Layers: each box one below the lowest of those it reads (longest path); what reads nothing sinks to just above its reader.
 * 2. Lanes: a value that is read further down gets one place in every layer between, shared by all who read it.
 * 3. Order: a fixed number of sweeps that sort each layer by the mean place of its neighbours (barycentre).
 * 4. Columns: each box wants to stand at the mean of its neighbours; the nearest places that keep order and distance are the
 *    isotonic regression of those wishes, which pooling adjacent violators gives in linear time. Once with the neighbours above,
 *    once with those below, and the mean of both.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';

/** A box of the picture. Positions are of its top left corner, in pixels. */
export interface Box {
  readonly kind: 'input' | 'node' | 'output';
  /** The index of the node; the value of an input or output. */
  readonly index: number;
  readonly width: number;
  readonly height: number;
  x: number;
  y: number;
}

/** A point of the picture. */
export type Point = readonly [x: number, y: number];

/** All lines of one value. */
export interface Wire {
  readonly value: ValueId;
  /** The box that makes the value. */
  readonly from: number;
  /** The lane: from the bottom of the box down through the layers, two points for each. */
  readonly lane: readonly Point[];
  /** From a point of the lane to the top of the box that reads the value. */
  readonly ends: readonly { readonly to: number; readonly start: Point; readonly end: Point }[];
  /** Boxes too far away for a lane: they say the name of the value instead. */
  readonly stubs: readonly number[];
}

/** A picture without colours. */
export interface Layout {
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly Box[];
  readonly wires: readonly Wire[];
}

/** How large things are, and how many lanes there may be. */
export interface LayoutOptions {
  readonly measure: (kind: Box['kind'], index: number) => { readonly width: number; readonly height: number };
  /** Width of what is written below a box, to the right of its centre; 0 where there is nothing. */
  readonly labelWidth: (box: number) => number;
  /** Places of lanes in all. */
  readonly maxLanes?: number;
}

const GAP_X = 24;
const LANE_WIDTH = 10;
const GAP_Y = 18;
const LABEL_Y = 14;
/** Room that is kept for a label; the end of a longer one may lie over what is beside it. */
const MAX_LABEL = 80;
const MARGIN = 24;
const SWEEPS = 8;

/** One place in a layer: a box, or the lane of a value. */
interface Slot {
  readonly layer: number;
  /** What it takes to the left and to the right of its centre. */
  readonly before: number;
  readonly after: number;
  readonly box: number | undefined;
  readonly up: number[];
  readonly down: number[];
  place: number;
  /** The centre. */
  x: number;
}

/** Returns where the boxes of `graph` lie. No two boxes overlap; each line ends at the edges of its boxes. */
export function layoutGraph(graph: Graph, options: LayoutOptions): Layout {
  const collected = collect(graph, options);
  const { boxes, makers, readers } = collected;
  const layers = assignLayers(boxes, makers, readers);
  const lanes = addLanes(boxes, layers, collected, options);
  orderRows(lanes.rows, lanes.slots);
  placeColumns(lanes.rows, lanes.slots);
  return draw(boxes, lanes, layers, collected, options);
}

interface Collected {
  readonly boxes: Box[];
  /** The box that makes a value. */
  readonly makers: ReadonlyMap<ValueId, number>;
  /** The boxes that read a value, each once. */
  readonly readers: ReadonlyMap<ValueId, readonly number[]>;
}

function collect(graph: Graph, { measure }: LayoutOptions): Collected {
  const boxes: Box[] = [];
  const makers = new Map<ValueId, number>();
  const readers = new Map<ValueId, number[]>();
  const add = (kind: Box['kind'], index: number): number =>
    boxes.push({ kind, index, x: 0, y: 0, ...measure(kind, index) }) - 1;
  const read = (value: ValueId, box: number): void => {
    if (!makers.has(value)) return;
    const list = readers.get(value);
    if (!list) readers.set(value, [box]);
    else if (list.at(-1) !== box) list.push(box);
  };
  for (const id of graph.inputs) if (!graph.constants.has(id)) makers.set(id, add('input', id));
  graph.nodes.forEach((node: Node, i) => {
    const box = add('node', i);
    for (const id of node.inputs) if (id !== undefined) read(id, box);
    for (const id of node.outputs) if (id !== undefined) makers.set(id, box);
  });
  for (const id of graph.outputs) {
    const box = add('output', id);
    read(id, box);
  }
  return { boxes, makers, readers };
}

function assignLayers(
  boxes: readonly Box[],
  makers: ReadonlyMap<ValueId, number>,
  readers: ReadonlyMap<ValueId, readonly number[]>,
): number[] {
  const layers = boxes.map(() => 0);
  const reads: number[][] = boxes.map(() => []);
  const readBy: number[][] = boxes.map(() => []);
  for (const [value, list] of readers) {
    const from = makers.get(value)!;
    for (const to of list) {
      reads[to]!.push(from);
      readBy[from]!.push(to);
    }
  }
  // Boxes stand in an order in which makers come before readers.
  for (let box = 0; box < boxes.length; box++) {
    for (const from of reads[box]!) layers[box] = Math.max(layers[box]!, layers[from]! + 1);
  }
  // What no input leads to belongs beside its first reader, as does an input.
  const loose: boolean[] = [];
  for (let i = 0; i < boxes.length; i++) loose.push(boxes[i]!.kind === 'node' && reads[i]!.every(from => loose[from]));
  for (let box = boxes.length - 1; box >= 0; box--) {
    if (!(loose[box] || boxes[box]!.kind === 'input') || readBy[box]!.length === 0) continue;
    layers[box] = readBy[box]!.reduce((least, to) => Math.min(least, layers[to]!), Number.POSITIVE_INFINITY) - 1;
  }
  return layers;
}

interface Lanes {
  readonly slots: readonly Slot[];
  readonly rows: readonly number[][];
  /** The slots of a value's lane, from the layer below its maker on. */
  readonly lanes: ReadonlyMap<ValueId, readonly number[]>;
}

function addLanes(
  boxes: readonly Box[],
  layers: readonly number[],
  { makers, readers }: Collected,
  { labelWidth, maxLanes = 40_000 }: LayoutOptions,
): Lanes {
  const rows: number[][] = [];
  const slots: Slot[] = [];
  const lanes = new Map<ValueId, readonly number[]>();
  const add = (layer: number, before: number, after: number, box: number | undefined): number => {
    const slot = slots.push({ layer, before, after, box, up: [], down: [], place: 0, x: 0 }) - 1;
    while (rows.length <= layer) rows.push([]);
    rows[layer]!.push(slot);
    return slot;
  };
  boxes.forEach((box, i) => {
    add(layers[i]!, box.width / 2, Math.max(box.width / 2, Math.min(labelWidth(i), MAX_LABEL)), i);
  });
  const link = (above: number, below: number): void => {
    slots[above]!.down.push(below);
    slots[below]!.up.push(above);
  };
  const spans = [...readers].map(([value, list]) => {
    const from = makers.get(value)!;
    const last = list.reduce((most, to) => Math.max(most, layers[to]!), 0);
    return { value, from, list, length: last - layers[from]! - 1 };
  });
  let left = maxLanes;
  // The short ones first, so that a few long ones cannot take all.
  for (const { value, from, list, length } of spans.sort((a, b) => a.length - b.length)) {
    const top = layers[from]!;
    const lane: number[] = [];
    if (length <= left) {
      left -= length;
      let above = from;
      for (let layer = top + 1; layer <= top + length; layer++) {
        const slot = add(layer, LANE_WIDTH / 2, LANE_WIDTH / 2, undefined);
        link(above, slot);
        lane.push(slot);
        above = slot;
      }
    }
    lanes.set(value, lane);
    for (const to of list) {
      const above = layers[to]! === top + 1 ? from : lane[layers[to]! - top - 2];
      if (above !== undefined) link(above, to);
    }
  }
  return { slots, rows, lanes };
}

function orderRows(rows: readonly number[][], slots: readonly Slot[]): void {
  const renumber = (row: readonly number[]): void => {
    row.forEach((slot, i) => {
      slots[slot]!.place = i;
    });
  };
  rows.forEach(renumber);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    for (const row of down ? rows : rows.toReversed()) {
      const wish = new Map<number, number>();
      for (const slot of row) {
        const near = down ? slots[slot]!.up : slots[slot]!.down;
        const sum = near.reduce((total, other) => total + slots[other]!.place, 0);
        wish.set(slot, near.length > 0 ? sum / near.length : slots[slot]!.place);
      }
      row.sort((a, b) => wish.get(a)! - wish.get(b)! || slots[a]!.place - slots[b]!.place);
      renumber(row);
    }
  }
}

function placeColumns(rows: readonly number[][], slots: readonly Slot[]): void {
  // Side by side, each row around one middle.
  for (const row of rows) {
    const width = row.reduce((sum, slot) => sum + slots[slot]!.before + slots[slot]!.after + GAP_X, -GAP_X);
    let x = -width / 2;
    for (const slot of row) {
      const { before, after } = slots[slot]!;
      slots[slot]!.x = x + before;
      x += before + after + GAP_X;
    }
  }
  const follow = (down: boolean): readonly number[] => {
    for (const row of down ? rows : rows.toReversed()) {
      const wishes = row.map(slot => {
        const near = down ? slots[slot]!.up : slots[slot]!.down;
        const all = near.length > 0 ? near : slots[slot]!.down;
        const sum = all.reduce((total, other) => total + slots[other]!.x, 0);
        return all.length > 0 ? sum / all.length : slots[slot]!.x;
      });
      settle(row, wishes, slots);
    }
    return slots.map(({ x }) => x);
  };
  // Following what is above drifts one way, following what is below the other; the mean of both keeps order and distances too.
  follow(false);
  const down = follow(true);
  const up = follow(false);
  slots.forEach((slot, i) => {
    slot.x = (down[i]! + up[i]!) / 2;
  });
}

/** Moves a row to where the sum of weighted squared distances from its wishes is least, keeping order and distances. */
function settle(row: readonly number[], wishes: readonly number[], slots: readonly Slot[]): void {
  // With the distances taken off, «keeping order» is all that is left.
  const offsets: number[] = [];
  let offset = 0;
  row.forEach((slot, i) => {
    offset += i === 0 ? 0 : slots[row[i - 1]!]!.after + slots[slot]!.before + GAP_X;
    offsets.push(offset);
  });
  const blocks: { sum: number; weight: number; count: number }[] = [];
  row.forEach((slot, i) => {
    const weight = slots[slot]!.box === undefined ? 2 : 1; // long lines are better straight
    let block = { sum: (wishes[i]! - offsets[i]!) * weight, weight, count: 1 };
    for (;;) {
      const last = blocks.at(-1);
      if (!last || last.sum / last.weight <= block.sum / block.weight) break;
      blocks.pop();
      block = { sum: last.sum + block.sum, weight: last.weight + block.weight, count: last.count + block.count };
    }
    blocks.push(block);
  });
  let i = 0;
  for (const { sum, weight, count } of blocks) {
    for (const end = i + count; i < end; i++) slots[row[i]!]!.x = sum / weight + offsets[i]!;
  }
}

function draw(
  boxes: readonly Box[],
  { slots, rows, lanes }: Lanes,
  layers: readonly number[],
  { makers, readers }: Collected,
  { labelWidth }: LayoutOptions,
): Layout {
  const left = slots.reduce((least, { x, before }) => Math.min(least, x - before), Number.POSITIVE_INFINITY) - MARGIN;
  const right = slots.reduce((most, { x, after }) => Math.max(most, x + after - left), 0) + MARGIN;
  const label = rows.map(() => 0);
  for (let box = 0; box < boxes.length; box++) if (labelWidth(box) > 0) label[layers[box]!] = LABEL_Y;
  const tops: number[] = [];
  const bottoms: number[] = [];
  let y = MARGIN;
  rows.forEach((row, layer) => {
    const height = row.reduce((most, slot) => Math.max(most, boxes[slots[slot]!.box ?? -1]?.height ?? 0), 0);
    tops.push(y);
    bottoms.push(y + height);
    y += height + GAP_Y + label[layer]!;
  });
  boxes.forEach((box, i) => {
    box.x = round(slots[i]!.x - box.width / 2 - left);
    box.y = round(tops[layers[i]!]!);
  });

  /** How many lines leave each box, and which of them a value is. */
  const leaving = boxes.map(() => 0);
  const port = new Map<ValueId, number>();
  for (const [value, from] of makers) if (readers.has(value)) port.set(value, ++leaving[from]!);
  const arrivals: { readonly start: Point; readonly put: (end: Point) => void }[][] = boxes.map(() => []);
  const wires = [...readers].map(([value, list]): Wire => {
    const from = makers.get(value)!;
    const box = boxes[from]!;
    const top = layers[from]!;
    const share = port.get(value)! / (leaving[from]! + 1);
    const bottom: Point = [round(box.x + box.width * share), box.y + box.height];
    const lane: Point[] = [bottom];
    for (const slot of lanes.get(value)!) {
      const x = round(slots[slot]!.x - left);
      lane.push([x, round(tops[slots[slot]!.layer]!)], [x, round(bottoms[slots[slot]!.layer]!)]);
    }
    const ends: { to: number; start: Point; end: Point }[] = [];
    const stubs: number[] = [];
    for (const to of list) {
      const start = lane[(layers[to]! - top - 1) * 2];
      if (!start) {
        stubs.push(to);
        continue;
      }
      const end = { to, start, end: start };
      ends.push(end);
      arrivals[to]!.push({
        start,
        put: point => {
          end.end = point;
        },
      });
    }
    return { value, from, lane, ends, stubs };
  });
  arrivals.forEach((list, to) => {
    const { x, y: top, width } = boxes[to]!;
    list.sort((a, b) => a.start[0] - b.start[0]);
    list.forEach(({ put }, i) => {
      put([round(x + (width * (i + 1)) / (list.length + 1)), top]);
    });
  });
  return { width: Math.ceil(right), height: Math.ceil(y - GAP_Y + MARGIN), boxes, wires };
}

/** To tenths of a pixel: what is finer only makes files longer. */
function round(value: number): number {
  return Math.round(value * 10) / 10;
}
