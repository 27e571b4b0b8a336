/**
 * CRC-32C (Castagnoli), which tells an accident from an intact record. It keeps no attacker out: the Merkle tree does.
 * @module
 * @see RFC 3720 §12.1 and appendix B.4
 */

/**
 * The CRC-32C of `bytes[start, end)`, continued from `previous` (the CRC of what came before).
 *
 * @returns An unsigned 32-bit integer.
 */
export function crc32c(bytes: Uint8Array, start = 0, end: number = bytes.length, previous = 0): number {
  let crc = ~previous;
  let i = start;
  // Four bytes at a time (slicing-by-4): table k carries a byte over k further zero bytes.
  for (; i + 4 <= end; i += 4) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc = T3[crc & 255]! ^ T2[(crc >>> 8) & 255]! ^ T1[(crc >>> 16) & 255]! ^ T0[crc >>> 24]!;
  }
  for (; i < end; i++) crc = (crc >>> 8) ^ T0[(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}

const POLYNOMIAL = 0x82f63b78; // reflected
const T0: Int32Array = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc;
});
const T1: Int32Array = T0.map(crc => (crc >>> 8) ^ T0[crc & 255]!);
const T2: Int32Array = T1.map(crc => (crc >>> 8) ^ T0[crc & 255]!);
const T3: Int32Array = T2.map(crc => (crc >>> 8) ^ T0[crc & 255]!);
