/**
 * File formats: readers that bound what hostile bytes can cost, and writers. Pure.
 * @module
 */
export {
  DEFAULT_FOLDER_LIMITS,
  type HuggingFaceModel,
  type HuggingFaceOptions,
  parseHuggingFace,
} from './huggingface/read.ts';
export type { FolderLimits } from './huggingface/weights.ts';
export { parseNpy, writeNpy } from './npy.ts';
export { DEFAULT_NPZ_LIMITS, type NpzLimits, parseNpz, writeNpz } from './npz.ts';
export { type ExternalData, staysInFolder } from './onnx/external.ts';
export { DEFAULT_ONNX_LIMITS, type OnnxLimits } from './onnx/limits.ts';
export { listExternalData, type OnnxOptions, parseOnnx } from './onnx/read.ts';
export { parseTensorProto } from './onnx/tensor.ts';
export { type WriteOnnxOptions, writeOnnx, writeTensorProto } from './onnx/write.ts';
export {
  DEFAULT_SAFETENSORS_LIMITS,
  parseSafetensors,
  type Safetensors,
  type SafetensorsLimits,
  type StoredTensor,
  type WriteSafetensorsOptions,
  writeSafetensors,
} from './safetensors.ts';
export { bytesSource, type ModelSource, withExternalData } from './source.ts';
