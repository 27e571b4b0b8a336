/**
 * What a graph is, in 32 bytes: for caches.
 * @module
 */
import { encodeUtf8, toHex } from '../base/index.ts';
import { sha256 } from '../base/sha256.ts';
import { Tensor } from '../tensor/index.ts';
import { type Attribute, type Graph, isGraph } from './graph.ts';

/**
 * Returns the SHA-256 of everything that `graph` says, in hexadecimal: names, facts, nodes, attributes, constants. Elements of inline
 * constants count; of `range` constants the place in their file counts, not the file: a digest that has to mean the weights needs the
 * file's digest beside it.
 * @example
 * ```ts
 * const graph = parseOnnx(bytesSource(await readFile('digits.onnx')));
 * graphDigest(graph) === graphDigest(parseOnnx(bytesSource(await readFile('digits.onnx')))); // true
 * ```
 */
export function graphDigest(graph: Graph): string {
  const hash = sha256.create();
  const put = (value: unknown): void => {
    // JSON spells -0 as 0 and has no NaN, which attributes may be.
    const text = JSON.stringify(value, (_, item: unknown) =>
      typeof item === 'number' && (!Number.isFinite(item) || Object.is(item, -0))
        ? { number: String(1 / item), item: String(item) }
        : item,
    );
    const bytes = encodeUtf8(`${text}\n`);
    hash.update(bytes);
  };
  const putTensor = (tensor: Tensor): void => {
    const bytes = tensor.bytes();
    put(['tensor', tensor.dtype, tensor.shape, bytes.length]);
    hash.update(bytes);
  };
  const putAttribute = (name: string, value: Attribute): void => {
    if (value instanceof Tensor) {
      put(['attribute', name]);
      putTensor(value);
    } else if (isGraph(value)) {
      put(['subgraph', name]);
      putGraph(value);
    } else {
      put(['attribute', name, value]);
    }
  };
  // As deep as subgraphs lie in each other, which inference has bounded.
  const putGraph = (each: Graph): void => {
    put(['graph', each.name, each.inputs, each.outputs, [...each.maps]]);
    for (const { name, facts } of each.values) put([name, facts.dtype, facts.shape]);
    for (const { name, domain, op, opset, inputs, outputs, attributes } of each.nodes) {
      put(['node', name, domain, op, opset, inputs, outputs]);
      for (const key of Object.keys(attributes).sort()) putAttribute(key, attributes[key]!);
    }
    for (const [id, constant] of each.constants) {
      if (constant.kind === 'inline') {
        put(['inline', id]);
        putTensor(constant.tensor);
      } else {
        put(['range', id, constant.offset, constant.length]);
      }
    }
    put(['end']);
  };
  putGraph(graph);
  return toHex(hash.digest());
}
