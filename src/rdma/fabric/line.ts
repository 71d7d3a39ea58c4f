/**
 * From how many bytes on a body goes faster by the fabric than by the connection: measured once for each agreement, with the node that it is about. It is also what shows that the fabric works before anything is
 * entrusted to it: what is read must be what the reply brings.
 *
 * Small bodies are better off by the connection, since the fabric costs a second round trip; how large is small depends on the network, the provider and the processors, and cannot be told beforehand.
 */

const KIB = 1024
const SIZES = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB] as const
/** What is smaller goes by the connection. */
export const PROBE_BYTES_MIN: number = SIZES[0]
export const PROBE_BYTES_MAX: number = SIZES[SIZES.length - 1] ?? 0
/** Bodies at once: a node that reads one after another is the exception. */
export const PROBES_AT_ONCE = 4
/** The best of so many counts: whatever else the machine does only makes it slower. */
const ROUNDS = 4

export type ProbeWay = 'connection' | 'fabric'

/** Milliseconds that moving `PROBES_AT_ONCE` bodies takes. @throws what keeps them from being moved */
export type ProbeOnce = (bytes: number, way: ProbeWay) => Promise<number>

/** Infinity: it is never faster. @throws what `probe` throws */
export async function measureLine(probe: ProbeOnce): Promise<number> {
  let line = Number.POSITIVE_INFINITY
  for (const bytes of SIZES.toReversed()) {
    const best = { connection: Number.POSITIVE_INFINITY, fabric: Number.POSITIVE_INFINITY }
    for (let round = 0; round < ROUNDS; round++)
      for (const way of ['connection', 'fabric'] as const) best[way] = Math.min(best[way], await probe(bytes, way))
    if (best.fabric > best.connection) return line
    line = bytes
  }
  return line
}
