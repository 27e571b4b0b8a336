/**
 * Tensors from files: what `--input NAME=FILE` accepts.
 * @module
 */
import { extname } from 'node:path';
import { CloisterError } from '../base/index.ts';
import { readRegularFile } from '../service/files.ts';
import { decodeTensorProto, type InputValue } from '../service/index.ts';

/** Bytes of one input file, at most. */
const INPUT_LIMIT_BYTES = 1_073_741_824;

/**
 * Reads the inputs that the command line names. `.json` holds nested arrays of numbers; `.pb` an ONNX TensorProto; any other
 * file raw little-endian elements of the model's dtype in row-major order.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a malformed option or file.
 */
export async function readInputs(options: readonly string[]): Promise<Record<string, InputValue>> {
  const inputs = new Map<string, InputValue>();
  for (const option of options) {
    const at = option.indexOf('=');
    if (at < 1)
      throw new CloisterError('INVALID_ARGUMENT', `--input: expected NAME=FILE, got ${JSON.stringify(option)}`);
    const name = option.slice(0, at);
    if (inputs.has(name)) throw new CloisterError('INVALID_ARGUMENT', `--input: ${name} is given twice`);
    inputs.set(name, await readInput(option.slice(at + 1)));
  }
  return Object.fromEntries(inputs);
}

async function readInput(file: string): Promise<InputValue> {
  const bytes = await readRegularFile(file, INPUT_LIMIT_BYTES);
  if (extname(file) === '.pb') return decodeTensorProto(bytes);
  if (extname(file) !== '.json') return bytes;
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as InputValue;
  } catch {
    // The parser's own message quotes the file, which may be protected data.
    throw new CloisterError('INVALID_ARGUMENT', `--input: ${file} is not JSON`, { file });
  }
}
