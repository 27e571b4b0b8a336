/** Protobuf fields and ONNX messages spelt by hand, for tests that need files which no writer makes. */
import { concatBytes, encodeUtf8 } from '../../src/base/index.ts';

/** A protobuf field: a varint for numbers, length-delimited otherwise. */
export function field(number: number, value: number | string | Uint8Array): Uint8Array {
  const varint = (rest: number): number[] =>
    rest < 128 ? [rest] : [(rest % 128) | 128, ...varint(Math.floor(rest / 128))];
  if (typeof value === 'number') return Uint8Array.from([...varint(number * 8), ...varint(value)]);
  const bytes = typeof value === 'string' ? encodeUtf8(value) : value;
  return concatBytes(Uint8Array.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes);
}

export const message = (...fields: readonly Uint8Array[]): Uint8Array => concatBytes(...fields);

/** ValueInfoProto of a tensor. A negative size is left out; text is a symbol. */
export const port = (name: string, elementType = 1, shape: readonly (number | string)[] = [2]): Uint8Array =>
  message(
    field(1, name),
    field(
      2,
      field(1, message(field(1, elementType), field(2, message(...shape.map(dim => field(1, dimension(dim))))))),
    ),
  );

function dimension(dim: number | string): Uint8Array {
  if (typeof dim === 'string') return field(2, dim);
  return dim < 0 ? new Uint8Array() : field(1, dim);
}

/** NodeProto. */
export const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...more: readonly Uint8Array[]
): Uint8Array =>
  message(...inputs.map(name => field(1, name)), ...outputs.map(name => field(2, name)), field(4, op), ...more);

/** A model of these graph fields, with input x and output y of shape [2], at opset 13 of the default domain and 3 of ai.onnx.ml. */
export function model(graph: readonly Uint8Array[], ...more: readonly Uint8Array[]): Uint8Array {
  const ports = [field(11, port('x')), field(12, port('y'))];
  const opsets = [field(8, field(2, 13)), field(8, message(field(1, 'ai.onnx.ml'), field(2, 3)))];
  return message(field(1, 8), ...opsets, field(7, message(...graph, ...ports)), ...more);
}
