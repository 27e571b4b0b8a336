export { hadamardResponse } from './hadamard-response.ts';
export type { LocalEstimate, LocalMechanism, LocalOptions } from './local-mechanism.ts';
export { randomizedResponse } from './randomized-response.ts';
export { type UnaryEncodingOptions, unaryEncoding } from './unary-encoding.ts';
