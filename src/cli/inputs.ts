/**
 * Tensors from files: what `--input NAME=FILE` accepts.
 * @module
 */
import { extname } from 'node:path';
import { CloisterError } from '../base/index.ts';
import { readRegularFile } from '../service/files.ts';
import { decodeNpy, decodeNpz, decodeTensorProto, type InputValue } from '../service/index.ts';

/** Bytes of one input file, at most. */
const INPUT_LIMIT_BYTES = 1_073_741_824;

/**
 * Reads the inputs that the command line names. `.json` holds nested arrays of numbers or strings; `.npy` an array of NumPy; `.pb` an
 * ONNX TensorProto; `.npz` several arrays, of which the one of the input's name is taken, or the only one; any other file raw
 * little-endian elements of the model's dtype in row-major order. An `.npz` without a name gives each of its arrays as the input of that
 * name.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a malformed option or file; what the readers of the formats throw.
 */
export async function readInputs(options: readonly string[]): Promise<Record<string, InputValue>> {
  const inputs = new Map<string, InputValue>();
  const add = (name: string, value: InputValue): void => {
    if (inputs.has(name)) throw new CloisterError('INVALID_ARGUMENT', `--input: ${name} is given twice`);
    inputs.set(name, value);
  };
  for (const option of options) {
    const at = option.indexOf('=');
    if (at < 0 && extname(option) === '.npz') {
      for (const [name, tensor] of await readArchive(option)) add(name, tensor);
      continue;
    }
    if (at < 1) {
      const message = `--input: expected NAME=FILE, or an .npz file, got ${JSON.stringify(option)}`;
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
    const name = option.slice(0, at);
    add(name, await readInput(name, option.slice(at + 1)));
  }
  return Object.fromEntries(inputs);
}

async function readInput(name: string, file: string): Promise<InputValue> {
  if (extname(file) === '.npz') {
    const arrays = await readArchive(file);
    const array = arrays.get(name) ?? (arrays.size === 1 ? [...arrays.values()][0] : undefined);
    if (array !== undefined) return array;
    const names = [...arrays.keys()].slice(0, 20).join(', ');
    throw new CloisterError('INVALID_ARGUMENT', `--input: ${file} holds ${names || 'no array'}, and not ${name}`, {
      file,
    });
  }
  const bytes = await readRegularFile(file, INPUT_LIMIT_BYTES);
  if (extname(file) === '.pb') return named(file, () => decodeTensorProto(bytes));
  if (extname(file) === '.npy') return named(file, () => decodeNpy(bytes));
  if (extname(file) !== '.json') return bytes;
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as InputValue;
  } catch {
    // The parser's own message quotes the file, which may be protected data.
    throw new CloisterError('INVALID_ARGUMENT', `--input: ${file} is not JSON`, { file });
  }
}

async function readArchive(file: string): Promise<ReturnType<typeof decodeNpz>> {
  const bytes = await readRegularFile(file, INPUT_LIMIT_BYTES);
  return named(file, () => decodeNpz(bytes));
}

/** What `read` makes of a file; its errors say which file that was. */
function named<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof CloisterError)) throw error;
    throw new CloisterError(
      error.code,
      `--input: ${file}: ${error.message}`,
      { ...error.detail, file },
      { cause: error },
    );
  }
}
