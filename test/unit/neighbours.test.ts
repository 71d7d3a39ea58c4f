/** Gateways' neighbours as the composition root opens them: over etcd in memory and real sockets. */
import { hostname } from 'node:os'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { silentLogger, type Logger } from '../../src/common/logging.ts'
import { EtcdLayout } from '../../src/meta/raft/layout.ts'
import {
  advertised,
  openNeighbours,
  type NeighbourConfig,
  type NeighbourContext,
  type Neighbours,
} from '../../src/neighbours.ts'
import type { FabricFigures } from '../../src/rdma/ports.ts'
import { FakeEtcd, type FakeEtcdClient } from '../support/fake-etcd.ts'
import { FakeFabricNetwork, type FakeDevice } from '../support/fake-fabric.ts'

const CONFIG: NeighbourConfig = {
  neighbour: { host: '127.0.0.1', port: 0 },
  neighbourAdvertise: undefined,
  nodeWeight: 7,
  nodeLabel: [{ name: 'zone', value: 'a' }],
  clusterNode: undefined,
  fabric: 'off',
  fabricAddress: undefined,
}
const NOTHING = new Uint8Array(0)

let etcd: FakeEtcd
let opened: Neighbours[]
let clients: FakeEtcdClient[]

beforeEach(() => {
  etcd = new FakeEtcd({ clock: systemClock, callTimeoutMs: 500 })
  opened = []
  clients = []
})

afterEach(async () => {
  await Promise.all(opened.map((neighbours) => neighbours.stop()))
  await Promise.all(clients.map((client) => client.stop()))
})

async function open(
  node: number,
  config: Partial<NeighbourConfig> = {},
  { life = 'a', ...context }: Partial<NeighbourContext> & { life?: string } = {},
): Promise<Neighbours> {
  const client = etcd.client()
  await client.start()
  clients.push(client)
  const shared = {
    etcd: client,
    layout: new EtcdLayout('/test/'),
    nodeNumber: node,
    incarnation: life.repeat(16),
    tls: undefined,
  }
  const neighbours = await openNeighbours({ ...CONFIG, ...config }, shared, { logger: silentLogger, ...context })
  opened.push(neighbours)
  return neighbours
}

async function asks(one: Neighbours, node: number): Promise<string> {
  const { head } = await one.calls.call(node, { method: 'copies', head: NOTHING }, { timeoutMs: 2_000 })
  return Buffer.from(head).toString()
}

describe('the address that others are told', () => {
  it.each([
    [{ host: '127.0.0.1', port: 0 }, undefined, '127.0.0.1:7000'],
    [{ host: '::1', port: 7000 }, undefined, '[::1]:7000'],
    [{ host: '127.0.0.1', port: 0 }, { host: 'n1', port: 0 }, 'n1:7000'],
    [{ host: '0.0.0.0', port: 7000 }, { host: 'n1', port: 9000 }, 'n1:9000'],
    [{ host: '0.0.0.0', port: 7000 }, undefined, `${hostname()}:7000`],
    [{ host: '::', port: 0 }, undefined, `${hostname()}:7000`],
  ])('of %j with %j is %s', (neighbour, neighbourAdvertise, told) => {
    expect(advertised({ ...CONFIG, neighbour, neighbourAdvertise }, `${neighbour.host}:7000`)).toBe(told)
  })
})

describe('neighbours', () => {
  it('find and call each other, say how they are, and are gone when they have stopped', async () => {
    const one = await open(1)
    const two = await open(2, { clusterNode: 'second' })
    one.calls.serve('copies', async ({ from }) => ({ head: Buffer.from(`1 to ${from}`) }))
    two.calls.serve('copies', async ({ from }) => ({ head: Buffer.from(`2 to ${from}`) }))
    await Promise.all([one.serving(), two.serving()])
    await expect.poll(() => one.view.member(2)?.state).toBe('serving')
    expect(one.view.member(2)).toMatchObject({
      name: 'second',
      incarnation: 'aaaaaaaaaaaaaaaa',
      address: two.transport.address,
      weight: 7,
      labels: { zone: 'a' },
    })
    expect(await asks(one, 2)).toBe('2 to 1')
    await expect.poll(() => two.view.member(1)?.state).toBe('serving')
    expect(await asks(two, 1)).toBe('1 to 2')
    await two.leave()
    await expect.poll(() => one.view.member(2)?.state).toBe('leaving')
    // It serves what it has until it ends.
    expect(await asks(one, 2)).toBe('2 to 1')
    await two.stop()
    await expect.poll(() => one.view.members().map(({ number }) => number)).toEqual([1])
    await expect(asks(one, 2)).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
  })

  it('are called again as another process with the same number', async () => {
    const one = await open(1)
    const before = await open(2)
    before.calls.serve('copies', async () => ({ head: Buffer.from('before') }))
    expect(await asks(one, 2)).toBe('before')
    const after = await open(2, {}, { life: 'b' })
    after.calls.serve('copies', async () => ({ head: Buffer.from('after') }))
    await expect.poll(() => one.view.member(2)?.incarnation).toBe('b'.repeat(16))
    expect(await asks(one, 2)).toBe('after')
  })

  it('are told the address that is to be told, with the port that is listened on where none is said', async () => {
    const advertise = (port: number): Partial<NeighbourConfig> => ({ neighbourAdvertise: { host: 'fd00::1', port } })
    const one = await open(1, advertise(0))
    const two = await open(2, advertise(7_000))
    expect(one.view.member(1)?.address).toBe(`[fd00::1]:${one.transport.address.split(':')[1]}`)
    expect(two.view.member(2)?.address).toBe('[fd00::1]:7000')
  })

  it('leave nothing behind where etcd does not answer', async () => {
    etcd.planner = ({ kind }) => (kind === 'lease' ? { fails: 'unavailable' } : undefined)
    await expect(open(1)).rejects.toMatchObject({ code: 'Unavailable' })
    etcd.planner = undefined
    const { transport } = await open(1)
    expect(transport.figures.peers).toEqual([])
  })
})

describe('neighbours with a fabric', () => {
  const BYTES = 1024 * 1024
  const HELD = Uint8Array.from({ length: BYTES }, (_, at) => at % 251)

  interface Node {
    readonly neighbours: Neighbours
    readonly device: FakeDevice
    /** What it has lent. */
    readonly slab: Uint8Array
    readonly warnings: string[]
  }

  /** One that gives, from its slab, what is held. */
  async function start(node: number, network: FakeFabricNetwork, refusesRegistration = false): Promise<Node> {
    const device = network.device()
    device.refusesRegistration = refusesRegistration
    const warnings: string[] = []
    const warn = (fields: object, text: string): void => void warnings.push(`${text} ${JSON.stringify(fields)}`)
    const logger: Logger = { ...silentLogger, warn }
    const neighbours = await open(node, { fabric: 'tcp' }, { logger, openFabric: async () => ({ device }) })
    const slab = new Uint8Array(new SharedArrayBuffer(BYTES))
    neighbours.lend(slab.buffer)
    neighbours.calls.serve('block', async () => ({ head: NOTHING, pieces: [slab] }))
    return { neighbours, device, slab, warnings }
  }

  async function fetched({ neighbours, slab }: Node, node: number): Promise<Uint8Array | undefined> {
    const call = { method: 'block', head: NOTHING } as const
    const { body } = await neighbours.calls.call(node, call, { timeoutMs: 5_000, into: slab })
    return body
  }

  const figures = ({ neighbours }: Node): FabricFigures | undefined => neighbours.transport.figures.peers[0]?.fabric

  it('agree on it when they see each other, read what the other has lent, and leave nothing of it behind', async () => {
    const network = new FakeFabricNetwork()
    const one = await start(1, network)
    const two = await start(2, network)
    two.slab.set(HELD)
    await expect.poll(() => figures(one)?.isUsed).toBe(true)
    expect(await fetched(one, 2)).toEqual(HELD)
    expect(figures(one)).toMatchObject({ reads: 1, bytesRead: BYTES, fallbacks: 0 })
    expect(one.warnings).toEqual([])
    await Promise.all([one.neighbours.stop(), two.neighbours.stop()])
    for (const { device } of [one, two]) {
      expect(device.regionsRegistered + device.channelsOpen).toBe(0)
      expect(() => device.open()).toThrow('the device is closed')
    }
  })

  it('use the connection where the memory cannot be lent, and say what to raise', async () => {
    const network = new FakeFabricNetwork()
    const one = await start(1, network, true)
    const two = await start(2, network)
    two.slab.set(HELD)
    await expect.poll(() => one.neighbours.view.member(2)).toBeDefined()
    expect(await fetched(one, 2)).toEqual(HELD)
    expect(figures(one)?.reads).toBe(0)
    expect(one.warnings[0]).toMatch(/memory cannot be read by other nodes.*no more memory.*LimitMEMLOCK/)
  })
})
