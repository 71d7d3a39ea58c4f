/** From which size on bodies of requests are written to what another node grants (src/rdma/fabric/granted.ts). That a grant is asked for again: fabric-trouble.test.ts. */
import { beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { Granted } from '../../../../src/rdma/fabric/granted.ts'
import { FABRIC_LIMITS } from '../../../../src/rdma/fabric/limits.ts'
import { PROBE_BYTES_MAX, PROBE_BYTES_MIN, PROBES_AT_ONCE } from '../../../../src/rdma/fabric/line.ts'
import { decodeProbe, encodeGrant } from '../../../../src/rdma/fabric/messages.ts'
import { FabricFailure } from '../../../../src/rdma/fabric/ports.ts'
import { FakeFabricNetwork } from '../../../support/fake-fabric.ts'

const NOTHING = new Uint8Array(0)
const LIMITS = { ...FABRIC_LIMITS, lineMs: 600_000, lineNeverMs: 60_000, restMs: 1_000 }
const GRANT_BYTES = 16 * 1024 * 1024

describe('what another node grants', () => {
  let nowMs: number
  /** What a body costs by either way. */
  let costsMs: { connection: number; fabric: number }
  let probes: number
  let failing: Error | undefined
  let told: string[]
  let granted: Granted

  beforeEach(() => {
    nowMs = 1_000_000
    costsMs = { connection: 2, fabric: 1 }
    probes = 0
    failing = undefined
    told = []
    granted = new Granted({
      node: 2,
      device: new FakeFabricNetwork().device(),
      clock: { ...systemClock, monotonicMs: () => nowMs },
      limits: LIMITS,
      agreement: 5n,
      operations: {
        transfer: async () => {
          if (failing instanceof FabricFailure) throw failing
          nowMs += costsMs.fabric
        },
      },
      inner: {
        call: async (_node, { method, head }) => {
          if (failing instanceof TidegateError) throw failing
          if (method === 'fabric-grant')
            return { head: encodeGrant({ key: 1n, address: 0n, bytes: GRANT_BYTES }), body: NOTHING }
          probes++
          if (decodeProbe(head).how === 'in the call') nowMs += costsMs.connection
          return { head: NOTHING, body: NOTHING }
        },
      },
      onTrouble: (why) => told.push(`trouble: ${why}`),
      onBroken: (why) => told.push(`broken: ${why}`),
    })
  })

  const line = async (): Promise<number | undefined> => {
    granted.get()
    // All that it does in the background is of promises alone.
    await new Promise((resolve) => setTimeout(resolve, 5))
    return granted.get()?.lineBytes
  }

  it('is measured when it is there, and again after ten minutes', async () => {
    expect(await line()).toBe(PROBE_BYTES_MIN)
    costsMs = { connection: 1, fabric: 2 }
    const before = probes
    nowMs += LIMITS.lineMs - 1
    expect([await line(), probes]).toEqual([PROBE_BYTES_MIN, before])
    nowMs += 1
    expect(await line()).toBe(Number.POSITIVE_INFINITY)
    expect(granted.get()?.ranges.rangesOut).toBe(0)
  })

  it('is measured again after a minute where writing was never faster', async () => {
    costsMs = { connection: 1, fabric: 2 }
    expect(await line()).toBe(Number.POSITIVE_INFINITY)
    costsMs = { connection: 2, fabric: 1 }
    nowMs += LIMITS.lineNeverMs
    expect(await line()).toBe(PROBE_BYTES_MIN)
  })

  it('is not measured where bodies lie that are under way', async () => {
    expect(await line()).toBe(PROBE_BYTES_MIN)
    const ranges = granted.get()?.ranges
    const taken = ranges?.take(GRANT_BYTES - PROBES_AT_ONCE * PROBE_BYTES_MAX + 64)
    costsMs = { connection: 1, fabric: 2 }
    nowMs += LIMITS.lineMs
    expect(await line()).toBe(PROBE_BYTES_MIN)
    ranges?.give(taken ?? -1)
    nowMs += LIMITS.lineMs
    expect(await line()).toBe(Number.POSITIVE_INFINITY)
  })

  it('goes on as before when it cannot be measured now', async () => {
    expect(await line()).toBe(PROBE_BYTES_MIN)
    nowMs += LIMITS.lineMs
    failing = new TidegateError('Unavailable', 'busy')
    expect([await line(), told]).toEqual([PROBE_BYTES_MIN, ['trouble: busy']])
    nowMs += LIMITS.restMs
    failing = new FabricFailure('late', 'others were in the way')
    expect([await line(), told[1]]).toEqual([PROBE_BYTES_MIN, 'trouble: others were in the way'])
    failing = undefined
    costsMs = { connection: 1, fabric: 2 }
    nowMs += 2 * LIMITS.restMs
    expect(await line()).toBe(Number.POSITIVE_INFINITY)
  })

  it('says that it is broken when writing fails, and nothing once it has ended', async () => {
    expect(await line()).toBe(PROBE_BYTES_MIN)
    nowMs += LIMITS.lineMs
    failing = new FabricFailure('gone', 'nobody is there')
    await line()
    expect(told).toEqual(['broken: nobody is there'])
    expect(granted.end()?.memory.length).toBe(GRANT_BYTES)
    nowMs += LIMITS.lineMs
    expect([await line(), told.length]).toEqual([undefined, 1])
  })
})
