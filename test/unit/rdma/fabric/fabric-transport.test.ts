/** What the fabric adds to calls between nodes, and what happens when it fails (src/rdma/fabric). That it is a transport like the others: test/conformance/transport.test.ts. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock, type Clock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { NodeAnswer } from '../../../../src/common/node-calls.ts'
import type { FabricTransport } from '../../../../src/rdma/fabric/fabric-transport.ts'
import type { FabricLimits } from '../../../../src/rdma/fabric/limits.ts'
import {
  decodeAgreement,
  encodeAgree,
  encodeAgreementNumber,
  encodeCall,
  encodeLeases,
} from '../../../../src/rdma/fabric/messages.ts'
import type { PathEvent } from '../../../../src/rdma/fabric/pair.ts'
import type { FabricFigures } from '../../../../src/rdma/ports.ts'
import { FabricNodes } from '../../../support/fabric-nodes.ts'
import { FakeFabricNetwork, type FakeDevice } from '../../../support/fake-fabric.ts'
import { incarnationOf } from '../../../support/tcp-nodes.ts'

const MIB = 1024 * 1024
const NOTHING = new Uint8Array(0)
const SOON = { timeoutMs: 5_000 }
const QUICK: Partial<FabricLimits> = { lineBytes: 1024, restMs: 50, restMsMax: 200 }

function patterned(bytes: number, salt = 1): Buffer {
  const made = Buffer.alloc(bytes)
  for (let at = 0; at + 4 <= bytes; at += 4) made.writeUInt32LE(Math.imul(at + salt, 2654435761) >>> 0, at)
  return made
}

describe('calls between nodes by a fabric', () => {
  let network: FakeFabricNetwork
  let nodes: FabricNodes
  let devices: FakeDevice[]
  let one: FabricTransport
  let two: FabricTransport
  let events: PathEvent[]

  beforeEach(() => {
    network = new FakeFabricNetwork()
    nodes = new FabricNodes()
    devices = []
    events = []
  })
  afterEach(() => nodes.stop())

  const made = (limits: Partial<FabricLimits> = {}, clock: Clock = systemClock): void => {
    devices = [network.device(), network.device()]
    const fabric = { ...QUICK, ...limits }
    one = nodes.make(1, devices[0] as FakeDevice, { fabric, clock, onChange: (_node, event) => events.push(event) })
    two = nodes.make(2, devices[1] as FakeDevice, { fabric })
  }
  const started = async (): Promise<void> => {
    await Promise.all([one.start(), two.start()])
    await nodes.ready()
  }
  const device = (node: 1 | 2): FakeDevice => devices[node - 1] as FakeDevice
  const figures = (): FabricFigures | undefined => one.figures.peers.find(({ node }) => node === 2)?.fabric
  /** Node 2 answers `block` with these bytes of its slab; counts how often they are its again. */
  const answering = (bytes: Uint8Array): { sent: number } => {
    const told = { sent: 0 }
    const memory = nodes.memory(2, bytes.length)
    memory.set(bytes)
    two.serve('block', async (): Promise<NodeAnswer> => ({
      head: Buffer.from('head'),
      pieces: [memory],
      sent: () => told.sent++,
    }))
    return told
  }
  /** What node 1 agrees on with node 2 by hand, in the place of what it had. */
  const agreed = async (): Promise<bigint> => {
    // Not sooner after the last one.
    await new Promise((resolve) => setTimeout(resolve, 50))
    const call = { method: 'fabric-agree', head: encodeAgree('tcp', device(1).open().name) } as const
    return decodeAgreement((await nodes.tcp.transport(1).call(2, call, SOON)).head).agreement
  }
  const block = (into: Uint8Array, timeoutMs = 5_000): Promise<Buffer> =>
    one.call(2, { method: 'block', head: NOTHING }, { timeoutMs, into }).then(({ body }) => Buffer.from(body))

  it('read what is lent from the other node, and give it back', async () => {
    made()
    const bytes = patterned(MIB)
    const told = answering(bytes)
    await started()
    expect((await block(nodes.memory(1, MIB))).equals(bytes)).toBe(true)
    await expect.poll(() => told.sent).toBe(1)
    expect(figures()).toMatchObject({
      provider: 'tcp',
      isUsed: true,
      lineBytes: 1024,
      reads: 1,
      bytesRead: MIB,
      fallbacks: 0,
    })
    expect(one.figures.peers[0]?.bytesIn).toBeGreaterThan(MIB)
    expect(two.figures.peers[0]?.bytesOut).toBeGreaterThan(MIB)
    expect(events).toEqual([{ path: 'fabric', provider: 'tcp', lineBytes: 1024 }])
  })

  it('bring in the reply what is small, what lies elsewhere, and what has nowhere to be read to', async () => {
    made()
    const elsewhere = patterned(MIB)
    two.serve('block', async () => ({ head: NOTHING, pieces: [elsewhere] }))
    two.serve('copies', async ({ head }) => ({ head: NOTHING, pieces: [nodes.memory(2, 100 * (head[0] ?? 0))] }))
    await started()
    expect((await block(nodes.memory(1, MIB))).equals(elsewhere)).toBe(true)
    const copies = async (hundreds: number, into: Uint8Array): Promise<number> =>
      (await one.call(2, { method: 'copies', head: Buffer.of(hundreds) }, { ...SOON, into })).body.length
    expect(await copies(1, nodes.memory(1, MIB))).toBe(100)
    expect(await copies(20, new Uint8Array(MIB))).toBe(2000)
    expect(figures()).toMatchObject({ isUsed: true, reads: 0 })
    expect(await copies(20, nodes.memory(1, MIB))).toBe(2000)
    expect(figures()).toMatchObject({ reads: 1, bytesRead: 2000 })
  })

  it('measure from which size on the fabric is faster', async () => {
    made({ lineBytes: undefined, lineNeverMs: 50 })
    device(2).slowMs = 60
    answering(patterned(MIB))
    await Promise.all([one.start(), two.start()])
    expect(await one.prepare(2)).toBe(false)
    expect(figures()).toMatchObject({ isUsed: false, lineBytes: Number.POSITIVE_INFINITY })
    await block(nodes.memory(1, MIB))
    expect(figures()).toMatchObject({ reads: 0, fallbacks: 0 })
    // Measured again, since the machine may have been busy; meanwhile as before.
    device(2).slowMs = 0
    await expect.poll(() => one.prepare(2), { timeout: 10_000 }).toBe(true)
    await block(nodes.memory(1, MIB))
    expect(figures()).toMatchObject({ isUsed: true, reads: 1, fallbacks: 0 })
    expect(events.map((event) => event.path === 'fabric' && Number.isFinite(event.lineBytes))).toEqual([false, true])
  })

  it('hold what is lent as long as the lease lasts if nobody says that it was read, and no longer (C13)', async () => {
    made({ leaseMs: 300, leaseMarginMs: 200, transferMs: 250 })
    const told = answering(patterned(MIB))
    await started()
    const agreement = await agreed()
    const call = {
      method: 'fabric-call',
      head: encodeCall({ agreement, method: 1, lendFrom: 1, granted: undefined, head: NOTHING }),
    } as const
    const began = performance.now()
    await nodes.tcp.transport(1).call(2, call, SOON)
    await new Promise((resolve) => setTimeout(resolve, 350))
    expect(told.sent).toBe(0)
    await expect.poll(() => told.sent, { timeout: 3_000 }).toBe(1)
    expect(performance.now() - began).toBeGreaterThan(480)
  })

  it('take back nothing that was lent to another', async () => {
    made({ leaseMs: 400, leaseMarginMs: 100, transferMs: 250 })
    const third = network.device()
    const three = nodes.make(3, third, { fabric: QUICK })
    const told = answering(patterned(MIB))
    await three.start()
    await started()
    const call = {
      method: 'fabric-call',
      head: encodeCall({ agreement: await agreed(), method: 1, lendFrom: 1, granted: undefined, head: NOTHING }),
    } as const
    await nodes.tcp.transport(1).call(2, call, SOON)
    const all = encodeLeases(Array.from({ length: 64 }, (_, id) => id))
    await nodes.tcp.transport(3).call(2, { method: 'fabric-done', head: all }, SOON)
    await expect(
      nodes.tcp.transport(3).call(2, { method: 'fabric-bring', head: encodeLeases([1]) }, SOON),
    ).rejects.toMatchObject({ code: 'Unavailable' })
    // With another's agreement nothing is done.
    const { head } = await nodes.tcp.transport(3).call(2, call, SOON)
    expect([...head]).toEqual([2])
    expect(told.sent).toBe(0)
    await expect.poll(() => told.sent, { timeout: 3_000 }).toBe(1)
  })

  it('lend one node so much at once, and bring it the rest', async () => {
    made({ lentBytesMax: 2 * MIB, leaseMs: 10_000 })
    const told = answering(patterned(MIB))
    await started()
    device(2).stall()
    const agreement = await agreed()
    const call = {
      method: 'fabric-call',
      head: encodeCall({ agreement, method: 1, lendFrom: 1, granted: undefined, head: NOTHING }),
    } as const
    const outcomes: (number | undefined)[] = []
    for (let index = 0; index < 3; index++) {
      const { head } = await nodes.tcp.transport(1).call(2, call, { ...SOON, into: new Uint8Array(MIB) })
      outcomes.push(head[0])
    }
    expect(outcomes).toEqual([1, 1, 0])
    expect(told.sent).toBe(1)
  })

  it('go by the connection when the other end is silent, in the time of the call, and write nowhere afterwards (C33)', async () => {
    made({ transferMs: 200 })
    const bytes = patterned(MIB)
    answering(bytes)
    await started()
    device(2).stall()
    const into = nodes.memory(1, MIB)
    expect((await block(into)).equals(bytes)).toBe(true)
    expect(figures()).toMatchObject({ isUsed: false, fallbacks: 1, reads: 0 })
    into.fill(0xee)
    device(2).release()
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(into.every((byte) => byte === 0xee)).toBe(true)
    await expect.poll(() => one.prepare(2), { timeout: 3_000 }).toBe(true)
    expect((await block(into)).equals(bytes)).toBe(true)
    expect(figures()).toMatchObject({ isUsed: true, fallbacks: 1, reads: 1 })
    expect(events.map(({ path }) => path)).toEqual(['fabric', 'connection', 'fabric'])
  })

  it('settle in time where neither way answers', async () => {
    made({ transferMs: 200 })
    const told = answering(patterned(MIB))
    await started()
    device(2).stall()
    const began = performance.now()
    const into = nodes.memory(1, MIB)
    await block(into, 100).catch((error: unknown) => expect(error).toBeInstanceOf(TidegateError))
    expect(performance.now() - began).toBeLessThan(2_000)
    expect(told.sent).toBeLessThanOrEqual(1)
  })

  for (const kind of ['refused', 'gone', 'failed'] as const)
    it(`go by the connection after a failure (${kind}), and agree anew`, async () => {
      made()
      const bytes = patterned(MIB)
      const told = answering(bytes)
      await started()
      device(2).failing = { every: 1, kind }
      const into = nodes.memory(1, MIB)
      expect((await block(into)).equals(bytes)).toBe(true)
      expect((await block(into)).equals(bytes)).toBe(true)
      expect(figures()).toMatchObject({ isUsed: false, reads: 0, bytesRead: 0 })
      device(2).failing = undefined
      await expect.poll(() => one.prepare(2), { timeout: 3_000 }).toBe(true)
      expect((await block(into)).equals(bytes)).toBe(true)
      expect(figures()).toMatchObject({ isUsed: true, reads: 1 })
      await expect.poll(() => told.sent).toBe(3)
    })

  it('do not believe what was read after the lease', async () => {
    let skewMs = 0
    const clock: Clock = { ...systemClock, monotonicMs: () => systemClock.monotonicMs() + skewMs }
    made({ leaseMs: 3_000, transferMs: 2_000 }, clock)
    const bytes = patterned(MIB)
    answering(bytes)
    await started()
    device(2).slowMs = 100
    const into = nodes.memory(1, MIB)
    const reading = block(into)
    await new Promise((resolve) => setTimeout(resolve, 40))
    skewMs = 4_000
    expect((await reading).equals(bytes)).toBe(true)
    expect(figures()).toMatchObject({ reads: 0 })
  })

  it("write bodies of requests to what was granted, which is nobody else's memory (C33)", async () => {
    made()
    const seen: { bytes: Buffer; shared: boolean }[] = []
    two.serve('copy-write', async ({ body }) => {
      seen.push({ bytes: Buffer.from(body), shared: body.byteLength !== body.buffer.byteLength })
      return { head: NOTHING }
    })
    await started()
    const bodies = [patterned(300_001, 7), patterned(MIB, 9), patterned(500, 3)]
    const write = (body: Uint8Array): Promise<unknown> =>
      one.call(2, { method: 'copy-write', head: NOTHING, pieces: [body.subarray(0, 100), body.subarray(100)] }, SOON)
    await write(patterned(2048))
    await expect
      .poll(async () => {
        await write(patterned(2048))
        return figures()?.writes
      })
      .toBeGreaterThan(0)
    seen.length = 0
    const before = figures()?.writes ?? 0
    for (const body of bodies) await write(body)
    expect(seen.map(({ bytes }, index) => bytes.equals(bodies[index] ?? NOTHING))).toEqual([true, true, true])
    expect(seen.every(({ shared }) => !shared)).toBe(true)
    expect((figures()?.writes ?? 0) - before).toBe(2)
  })

  it('send bodies with the call when they cannot be written', async () => {
    made()
    const seen: Buffer[] = []
    two.serve('copy-write', async ({ body }) => {
      seen.push(Buffer.from(body))
      return { head: NOTHING }
    })
    await started()
    const write = (body: Uint8Array): Promise<unknown> =>
      one.call(2, { method: 'copy-write', head: NOTHING, pieces: [body] }, SOON)
    await expect
      .poll(async () => {
        await write(patterned(2048))
        return figures()?.writes
      })
      .toBeGreaterThan(0)
    device(2).failing = { every: 1, kind: 'failed' }
    const body = patterned(MIB, 5)
    seen.length = 0
    await write(body)
    await write(body)
    expect(seen.map((each) => each.equals(body))).toEqual([true, true])
    expect(figures()).toMatchObject({ isUsed: false })
  })

  it('refuse a body where nothing was granted, and all that cannot be read', async () => {
    made()
    let ran = 0
    two.serve('copy-write', async () => {
      ran++
      return { head: NOTHING }
    })
    await started()
    const agreement = await agreed()
    const inner = nodes.tcp.transport(1)
    const granted = (offset: number, bytes: number): Promise<unknown> =>
      inner.call(
        2,
        {
          method: 'fabric-call',
          head: encodeCall({ agreement, method: 3, lendFrom: 1, granted: { offset, bytes }, head: NOTHING }),
        },
        SOON,
      )
    await expect(granted(0, 10)).rejects.toMatchObject({ code: 'InvalidRequest' })
    await inner.call(2, { method: 'fabric-grant', head: encodeAgreementNumber(agreement) }, SOON)
    await expect(granted(16 * MIB - 5, 10)).rejects.toMatchObject({ code: 'InvalidRequest' })
    await expect(granted(0xffff_fff0, 10)).rejects.toMatchObject({ code: 'InvalidRequest' })
    expect(ran).toBe(0)
    await granted(16 * MIB - 10, 10)
    expect(ran).toBe(1)
    for (const method of [
      'fabric-agree',
      'fabric-end',
      'fabric-probe',
      'fabric-grant',
      'fabric-call',
      'fabric-bring',
      'fabric-done',
    ] as const)
      await expect(inner.call(2, { method, head: Buffer.from([1, 2, 3]) }, SOON), method).rejects.toMatchObject({
        code: expect.stringMatching(/^(InvalidRequest|NotImplemented|SlowDown)$/) as string,
      })
  })

  it('agree with the process that is there now', async () => {
    made()
    const bytes = patterned(MIB)
    answering(bytes)
    await started()
    const before = device(2).channelsOpen
    await block(nodes.memory(1, MIB))
    const { address } = two
    nodes.tcp.tell(2, address, incarnationOf(2, 1))
    nodes.tcp.tell(2, address, incarnationOf(2))
    expect((await block(nodes.memory(1, MIB))).equals(bytes)).toBe(true)
    await expect.poll(() => one.prepare(2), { timeout: 3_000 }).toBe(true)
    await block(nodes.memory(1, MIB))
    expect(figures()?.reads).toBeGreaterThanOrEqual(2)
    await expect.poll(() => device(2).channelsOpen).toBeLessThanOrEqual(before)
  })

  it('go by the connection where the other node has another fabric, or can open no more', async () => {
    devices = [network.device({ provider: 'tcp' }), network.device({ provider: 'verbs' })]
    one = nodes.make(1, device(1), { fabric: QUICK })
    two = nodes.make(2, device(2), { fabric: QUICK })
    const bytes = patterned(MIB)
    answering(bytes)
    await Promise.all([one.start(), two.start()])
    expect(await one.prepare(2)).toBe(false)
    expect(figures()).toMatchObject({ isUsed: false, fallbacks: 0 })
    expect(figures()?.lastFailure).toContain('verbs')
    expect((await block(nodes.memory(1, MIB))).equals(bytes)).toBe(true)
  })

  it('end with reads under way: nothing is left of them', async () => {
    made({ transferMs: 10_000, leaseMs: 20_000 })
    const told = answering(patterned(MIB))
    await started()
    device(2).stall()
    const reading = block(nodes.memory(1, MIB), 20_000)
    reading.catch(() => undefined)
    await expect.poll(() => device(1).operations).toBeGreaterThan(1)
    await new Promise((resolve) => setTimeout(resolve, 30))
    await one.stop()
    await expect(reading).rejects.toMatchObject({ code: 'Unavailable' })
    expect(device(1).channelsOpen).toBe(0)
    await two.stop()
    expect(told.sent).toBe(1)
    expect([device(1).regionsRegistered, device(2).regionsRegistered, device(2).channelsOpen]).toEqual([0, 0, 0])
  })
})
