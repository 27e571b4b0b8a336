/**
 * Models of a few nodes as ONNX bytes, written by hand so that these tests need no file.
 */

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))];
const number = (field: number, value: number): number[] => [...varint(field * 8), ...varint(value)];
const bytes = (field: number, value: Iterable<number>): number[] => {
  const content = [...value];
  return [...varint(field * 8 + 2), ...varint(content.length), ...content];
};
const text = (field: number, value: string): number[] => bytes(field, Buffer.from(value));

type Dim = number | string;

function valueInfo(name: string, shape: readonly Dim[]): number[] {
  const dims = shape.flatMap(dim => bytes(1, typeof dim === 'number' ? number(1, dim) : text(2, dim)));
  return [...text(1, name), ...bytes(2, bytes(1, [...number(1, 1), ...bytes(2, dims)]))];
}

function initialiser(name: string, shape: readonly number[], values: readonly number[]): number[] {
  const raw = new Uint8Array(Float32Array.from(values).buffer);
  return [...shape.flatMap(dim => number(1, dim)), ...number(2, 1), ...text(8, name), ...bytes(9, raw)];
}

function node(op: string, inputs: readonly string[], outputs: readonly string[]): number[] {
  return [
    ...inputs.flatMap(name => text(1, name)),
    ...outputs.flatMap(name => text(2, name)),
    ...text(3, `the ${op}`),
    ...text(4, op),
  ];
}

function model(
  name: string,
  nodes: number[][],
  initialisers: number[][],
  inputs: number[][],
  outputs: number[][],
): Uint8Array {
  const graph = [
    ...nodes.flatMap(item => bytes(1, item)),
    ...text(2, name),
    ...initialisers.flatMap(item => bytes(5, item)),
    ...inputs.flatMap(item => bytes(11, item)),
    ...outputs.flatMap(item => bytes(12, item)),
  ];
  return Uint8Array.from([...number(1, 8), ...bytes(7, graph), ...bytes(8, number(2, 13))]);
}

/** `y (n,2) = relu(x (n,3) * [[1,2],[3,4],[5,6]] + [0.5,-100])` */
export function affineModel(output = 'y'): Uint8Array {
  return model(
    'affine',
    [node('MatMul', ['x', 'w'], ['p']), node('Add', ['p', 'b'], ['s']), node('Relu', ['s'], [output])],
    [initialiser('w', [3, 2], [1, 2, 3, 4, 5, 6]), initialiser('b', [2], [0.5, -100])],
    [valueInfo('x', ['n', 3])],
    [valueInfo(output, ['n', 2])],
  );
}

/** {@link affineModel}, whose `w` lies at `offset` of the file at `location`. */
export function externalModel(location: string, offset = 0): Uint8Array {
  const entries = { location, offset: String(offset), length: '24' };
  const external = [
    ...[3, 2].flatMap(dim => number(1, dim)),
    ...number(2, 1),
    ...text(8, 'w'),
    ...Object.entries(entries).flatMap(([key, value]) => bytes(13, [...text(1, key), ...text(2, value)])),
    ...number(14, 1),
  ];
  return model(
    'external',
    [node('MatMul', ['x', 'w'], ['p']), node('Add', ['p', 'b'], ['s']), node('Relu', ['s'], ['y'])],
    [external, initialiser('b', [2], [0.5, -100])],
    [valueInfo('x', ['n', 3])],
    [valueInfo('y', ['n', 2])],
  );
}

/** What {@link externalModel} finds in its file, behind `offset` other bytes. */
export function externalWeights(offset = 0): Uint8Array {
  const weights = new Uint8Array(offset + 24).fill(0xff);
  weights.set(new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer), offset);
  return weights;
}

/** `y (4) = op(x (4))` */
export function unaryModel(op: string): Uint8Array {
  return model('unary', [node(op, ['x'], ['y'])], [], [valueInfo('x', [4])], [valueInfo('y', [4])]);
}

/** A chain of `count` matrix products of (size,size): minutes of work in a few bytes of file. */
export function slowModel(size: number, count: number): Uint8Array {
  const nodes = Array.from({ length: count }, (_, i) =>
    node('MatMul', [i === 0 ? 'x' : `v${i}`, 'x'], [i === count - 1 ? 'y' : `v${i + 1}`]),
  );
  return model('slow', nodes, [], [valueInfo('x', [size, size])], [valueInfo('y', [size, size])]);
}
