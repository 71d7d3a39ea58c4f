import { randomInt } from 'node:crypto'

/** Odd, so that multiplying by it modulo 2^32 is a permutation: ids of one process never repeat within 2^32 requests. */
const SPREAD = 0x9e37_79b1

/**
 * Makes request ids: 16 upper-case hex digits, the first half drawn at random for each source, the second a counter
 * spread over its range so that neighbouring requests differ at a glance. They identify, they are no secret.
 */
export function requestIdSource(seed: number = randomInt(2 ** 32)): () => string {
  const prefix = hex32(seed)
  let counter = randomInt(2 ** 32)
  return () => {
    counter = (counter + 1) >>> 0
    return prefix + hex32(Math.imul(counter, SPREAD) >>> 0)
  }
}

/** Two digits for each byte: several times faster than formatting the number, and every request pays it. */
const HEX_BY_BYTE: readonly string[] = Array.from({ length: 256 }, (_, byte) =>
  byte.toString(16).toUpperCase().padStart(2, '0'),
)

function hex32(value: number): string {
  return `${HEX_BY_BYTE[value >>> 24]}${HEX_BY_BYTE[(value >>> 16) & 255]}${HEX_BY_BYTE[(value >>> 8) & 255]}${HEX_BY_BYTE[value & 255]}`
}
