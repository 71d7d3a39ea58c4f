/** From which size on a body goes by the fabric. */
import { describe, expect, it } from 'vitest'
import { measureLine, type ProbeOnce } from '../../../../src/rdma/fabric/line.ts'

/** Milliseconds to begin with, and for each MiB; now and then something else is in the way. */
function costs(connection: readonly [number, number], fabric: readonly [number, number]): ProbeOnce {
  let asked = 0
  return async (bytes, way) => {
    const [begin, each] = way === 'fabric' ? fabric : connection
    return begin + (each * bytes) / 2 ** 20 + (asked++ % 3 === 0 ? 50 : 0)
  }
}

describe('the line', () => {
  it('lies where the fabric is faster from there on', async () => {
    expect(await measureLine(costs([0.1, 1], [0.2, 0.5]))).toBe(256 * 1024)
    expect(await measureLine(costs([0.1, 1], [0.05, 0.5]))).toBe(4 * 1024)
    expect(await measureLine(costs([0.1, 1], [0.7, 0.5]))).toBe(Number.POSITIVE_INFINITY)
    // Faster for small ones alone: of no use.
    expect(await measureLine(costs([0.2, 0.5], [0.1, 1]))).toBe(Number.POSITIVE_INFINITY)
  })

  it('is not measured where bodies cannot be brought', async () => {
    await expect(measureLine(() => Promise.reject(new Error('no way')))).rejects.toThrow('no way')
  })
})
