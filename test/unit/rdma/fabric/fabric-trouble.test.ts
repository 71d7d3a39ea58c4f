/** Nodes that grant nothing, say odd things, hold on to memory or are busy: what the fabric costs then, and that it comes back (src/rdma/fabric). */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../../../src/common/clock.ts'
import type { NodeAnswer, NodeReply } from '../../../../src/common/node-calls.ts'
import type { FabricTransport } from '../../../../src/rdma/fabric/fabric-transport.ts'
import { Leases } from '../../../../src/rdma/fabric/leases.ts'
import type { FabricLimits } from '../../../../src/rdma/fabric/limits.ts'
import {
  decodeAgree,
  decodeAgreement,
  decodeProbe,
  encodeAgree,
  encodeAgreement,
  encodeAgreementNumber,
  encodeCall,
  encodeGrant,
  encodeLease,
} from '../../../../src/rdma/fabric/messages.ts'
import type { PathEvent } from '../../../../src/rdma/fabric/pair.ts'
import { FabricFailure, type RegionAccess } from '../../../../src/rdma/fabric/ports.ts'
import type { FabricFigures } from '../../../../src/rdma/ports.ts'
import { methodNumber } from '../../../../src/rdma/tcp/frames.ts'
import type { TcpTransport } from '../../../../src/rdma/tcp/tcp-transport.ts'
import { FabricNodes } from '../../../support/fabric-nodes.ts'
import { FakeFabricNetwork, type FakeDevice } from '../../../support/fake-fabric.ts'

const MIB = 1024 * 1024
const NOTHING = new Uint8Array(0)
const SOON = { timeoutMs: 5_000 }
const QUICK: Partial<FabricLimits> = { lineBytes: 4_096, restMs: 20, restMsMax: 40, lineMs: 50, lineNeverMs: 50 }

describe('a fabric in trouble', () => {
  let network: FakeFabricNetwork
  let nodes: FabricNodes
  let devices: FakeDevice[]
  let one: FabricTransport
  let two: FabricTransport
  let agreements: number
  /** What node 2 does with bodies of `copies`. */
  let keeping: (body: Uint8Array) => Promise<void>

  beforeEach(() => {
    network = new FakeFabricNetwork()
    nodes = new FabricNodes()
  })
  afterEach(() => nodes.stop())

  const started = async (limits: Partial<FabricLimits> = {}): Promise<void> => {
    devices = [network.device(), network.device()]
    const fabric = { ...QUICK, ...limits }
    agreements = 0
    const onChange = (_node: number, { path }: PathEvent): void => void (path === 'fabric' && agreements++)
    one = nodes.make(1, devices[0] as FakeDevice, { fabric, onChange })
    two = nodes.make(2, devices[1] as FakeDevice, { fabric })
    two.serve('copy-write', async () => ({ head: NOTHING }))
    two.serve('copies', async ({ body }) => {
      await keeping(body)
      return { head: NOTHING }
    })
    const block = nodes.memory(2, MIB)
    two.serve('block', async (): Promise<NodeAnswer> => ({ head: NOTHING, pieces: [block], sent: () => undefined }))
    await Promise.all([one.start(), two.start()])
    await nodes.ready()
  }
  const deviceOfTwo = (): FakeDevice => devices[1] as FakeDevice
  const figures = (): FabricFigures | undefined => one.figures.peers.find(({ node }) => node === 2)?.fabric
  const write = (timeoutMs = 5_000): Promise<NodeReply> =>
    one.call(2, { method: 'copy-write', head: NOTHING, pieces: [new Uint8Array(MIB)] }, { timeoutMs })
  const read = (timeoutMs: number): Promise<NodeReply> =>
    one.call(2, { method: 'block', head: NOTHING }, { timeoutMs, into: nodes.memory(1, MIB) })

  /** Bodies of calls to node 2 are written there now. */
  const writing = async (): Promise<void> => {
    await expect.poll(async () => (await write(), figures()?.writes ?? 0), { timeout: 10_000 }).toBeGreaterThan(0)
  }

  it('refuses a grant of nothing, and goes on', async () => {
    const fabric = QUICK
    one = nodes.make(1, network.device(), { fabric })
    await one.start()
    await oddNode(nodes, network, encodeGrant({ key: 1n, address: 0n, bytes: 0 }))
    expect(await one.prepare(2)).toBe(true)
    for (let call = 0; call < 5; call++) await write()
    await expect.poll(() => figures()?.lastFailure).toContain('nothing can be written there')
    expect(figures()).toMatchObject({ isUsed: true, writes: 0, fallbacks: 0 })
  })

  it('asks again for what was not granted', async () => {
    await started()
    const register = deviceOfTwo().register.bind(deviceOfTwo())
    let refusals = 0
    deviceOfTwo().register = (memory: Uint8Array, access: RegionAccess, through) => {
      if (access === 'read and write' && refusals++ < 2) throw new FabricFailure('unfit', 'no memory now')
      return register(memory, access, through)
    }
    await writing()
    expect(refusals).toBe(3)
    expect(figures()).toMatchObject({ isUsed: true, fallbacks: 0 })
  })

  it('bounds what a node has held here, whatever it agrees on meanwhile', async () => {
    await started({ heldBytesMax: 32 * MIB })
    const nobody = nodes.tcp.make(3)
    await nobody.start()
    const go = Promise.withResolvers<void>()
    let held = 0
    keeping = async (body) => {
      held += body.length
      await go.promise
    }
    const filled = (agreement: bigint): Promise<NodeReply> => {
      const granted = { offset: 0, bytes: 16 * MIB }
      const [method, lendFrom] = [methodNumber('copies'), Number.POSITIVE_INFINITY]
      const head = encodeCall({ agreement, method, lendFrom, granted, head: NOTHING })
      return nobody.call(2, { method: 'fabric-call', head }, SOON)
    }
    const refused: string[] = []
    const calls: Promise<unknown>[] = []
    for (let round = 0; round < 4; round++) {
      const agreement = await agreedByHand(nobody, network.device())
      for (let call = 0; call < 2; call++)
        calls.push(filled(agreement).catch((error: { code: string }) => refused.push(error.code)))
      await new Promise((resolve) => setTimeout(resolve, 40))
    }
    expect(held).toBe(32 * MIB)
    expect(refused).toEqual(Array.from({ length: 6 }, () => 'SlowDown'))
    go.resolve()
    await Promise.all(calls)
    // And all of it is free again.
    const agreement = await agreedByHand(nobody, network.device())
    await Promise.all([filled(agreement), filled(agreement)])
    expect(held).toBe(64 * MIB)
  })

  it('is not given up because of a body that others were in the way of', async () => {
    await started({ operationsMax: 1 })
    deviceOfTwo().slowMs = 300
    const [first, second] = [read(4_000), read(250)]
    await second.catch(() => undefined)
    await first
    expect(figures()).toMatchObject({ isUsed: true, reads: 1, fallbacks: 0 })
  })

  it('says that the time was up, and nothing else, when writing took all of it', async () => {
    await started()
    await write()
    await writing()
    deviceOfTwo().slowMs = 3_000
    // Less than the deadlines of transfers are looked at.
    await expect(write(3)).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('uses again what calls had taken of the grant that were given up before anybody was told', async () => {
    await started()
    await writing()
    expect(agreements).toBe(1)
    deviceOfTwo().slowMs = 20
    // More than half of what is granted: of calls that were told of, so many lost ones would have both agree anew.
    for (let count = 0; count < 12; count++) {
      const giving = new AbortController()
      const { signal } = giving
      const pieces = [new Uint8Array(MIB)]
      const call = one.call(2, { method: 'copy-write', head: NOTHING, pieces }, { ...SOON, signal })
      giving.abort(new Error('enough'))
      await expect(call).rejects.toMatchObject({ code: 'Unavailable' })
    }
    const before = figures()?.writes ?? 0
    await write()
    expect(figures()).toMatchObject({ writes: before + 1, fallbacks: 0 })
    expect(agreements).toBe(1)
  })

  it('lets calls end that take more than one when the node drains', async () => {
    await started()
    await writing()
    const before = figures()?.writes ?? 0
    deviceOfTwo().slowMs = 200
    const written = write()
    await new Promise((resolve) => setTimeout(resolve, 20))
    let isWritten = false
    const drained = one.drain().then(() => isWritten)
    await expect(write()).rejects.toMatchObject({ code: 'Unavailable', message: expect.stringContaining('is ending') })
    await written
    isWritten = true
    expect(await drained).toBe(true)
    expect(figures()?.writes).toBe(before + 1)
  })
})

it('leases of a node that was started again have other numbers', () => {
  const numberOf = (seed: number): number | undefined => {
    const region = { memory: new Uint8Array(64), key: 1n, address: 0n, isClosed: false, close: () => undefined }
    const leases = new Leases({
      memory: { find: () => ({ region, offset: 0 }) },
      clock: systemClock,
      fillRandom: (bytes) => void bytes.fill(seed),
      limits: { leaseMs: 1, leaseMarginMs: 1, lentBytesMax: MIB },
    })
    const lease = leases.lend(2, { head: NOTHING, pieces: [new Uint8Array(64)] })
    leases.stop()
    return lease?.id
  }
  expect(numberOf(0x11)).toBe(0x1111_1112)
  expect(numberOf(0xff)).toBe(1)
})

/** Agrees, answers probes honestly, and grants as told. */
async function oddNode(nodes: FabricNodes, network: FakeFabricNetwork, grant: Uint8Array): Promise<void> {
  const odd = nodes.tcp.make(2)
  const device = network.device()
  const bytes = new Uint8Array(MIB).fill(3)
  const region = device.register(bytes, 'read')
  odd.serve('fabric-agree', async ({ head }) => {
    const channel = device.open()
    channel.connect(decodeAgree(head).name)
    return { head: encodeAgreement({ agreement: 5n, name: channel.name }) }
  })
  odd.serve('fabric-probe', async ({ head }) => {
    const probe = decodeProbe(head)
    const pieces = [{ key: region.key, address: region.address, bytes: probe.bytes }]
    if (probe.how === 'lent') return { head: encodeLease({ id: 0, leaseMs: 5_000, pieces }) }
    return { head: NOTHING, pieces: [bytes.subarray(0, probe.bytes)] }
  })
  odd.serve('fabric-grant', async () => ({ head: grant }))
  odd.serve('fabric-end', async () => ({ head: NOTHING }))
  odd.serve('copy-write', async () => ({ head: NOTHING }))
  await odd.start()
}

async function agreedByHand(from: TcpTransport, device: FakeDevice): Promise<bigint> {
  const channel = device.open()
  const agree = { method: 'fabric-agree', head: encodeAgree('tcp', channel.name) } as const
  const { agreement } = decodeAgreement((await from.call(2, agree, SOON)).head)
  await from.call(2, { method: 'fabric-grant', head: encodeAgreementNumber(agreement) }, SOON)
  return agreement
}
