/**
 * From how many bytes on a body goes faster by the fabric than in the reply: measured once for each agreement, with the node that it is about. It is also what shows that the fabric works before anything is
 * entrusted to it: what is read must be what the reply brings.
 *
 * Small bodies are better off in the reply, since a lease costs a second round trip; how large is small depends on the network, the provider and the processors, and cannot be told beforehand.
 */

const KIB = 1024
const SIZES = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB] as const
export const PROBE_BYTES_MAX: number = SIZES[SIZES.length - 1] ?? 0
/** Bodies at once: a node that reads one after another is the exception. */
export const PROBES_AT_ONCE = 4
/** The best of so many counts: whatever else the machine does only makes it slower. */
const ROUNDS = 4

export type ProbeWay = 'in the reply' | 'lent'

/** Milliseconds that bringing `PROBES_AT_ONCE` bodies takes. @throws what keeps it from being brought */
export type ProbeOnce = (bytes: number, way: ProbeWay) => Promise<number>

/** Infinity: it is never faster. @throws what `probe` throws */
export async function measureLine(probe: ProbeOnce): Promise<number> {
  let line = Number.POSITIVE_INFINITY
  for (const bytes of SIZES.toReversed()) {
    const best = { 'in the reply': Number.POSITIVE_INFINITY, lent: Number.POSITIVE_INFINITY }
    for (let round = 0; round < ROUNDS; round++)
      for (const way of ['in the reply', 'lent'] as const) best[way] = Math.min(best[way], await probe(bytes, way))
    if (best.lent > best['in the reply']) return line
    line = bytes
  }
  return line
}
