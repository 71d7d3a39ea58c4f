/**
 * That each fault bites, and that nothing of it is left when it is healed, shown on small containers: three that answer questions, and one in the part of
 * the store. Who leads in etcd is a question to a real cluster only.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { must } from '../../../src/common/assert.ts'
import { Random, testSeed } from '../../model/random.ts'
import type { Engine } from '../engine/engine.ts'
import { ComposeProject, type Container } from '../project.ts'
import { FAULT_NAMES, faultNamed, type FaultName, type FaultyCluster } from './catalogue.ts'
import { faultOf, type Fault } from './fault.ts'
import { NetworkNamespace } from './network-namespace.ts'
import { NodeClocks } from './node-clocks.ts'
import { cutOneWay } from './partitions.ts'
import { etcdOf, readProcess, untilHealthy } from './processes.ts'
import { SmallVolume } from './small-volume.ts'

const PORT = 7000
const NODES = ['a', 'b', 'c']
const STORE = 's'
const VOLUME_BYTES = 16 * 1024 * 1024
const VOLUME_AT = '/var/lib/tidegate'
const ANSWER_WITHIN_MS = 15_000
/** At 8 Mbit/s a second, less what may go at once. */
const PULLED_BYTES = 600_000
const HOUR_MS = 3_600_000
const SUBJECT = join(import.meta.dirname, 'subject-process.ts')

const seed = testSeed()
const random = new Random(seed)
const cleanUps: (() => Promise<void>)[] = []
let cluster: FaultyCluster

function composeFile(): object {
  const service = {
    image: 'node:26-trixie-slim',
    command: ['node', '/subject/subject.ts'],
    volumes: [{ type: 'bind', source: SUBJECT, target: '/subject/subject.ts', read_only: true }],
    ports: [`127.0.0.1::${PORT}`],
    stop_grace_period: '10s',
  }
  // Another one for each run, as two networks of an engine may not overlap.
  const subnet = `fd00:7469:${(process.pid & 0xffff).toString(16)}::/64`
  const full = { ...service, volumes: [...service.volumes, `small:${VOLUME_AT}`] }
  return {
    services: { a: full, b: service, c: service, [STORE]: service },
    volumes: { small: {} },
    networks: { default: { enable_ipv6: true, ipam: { config: [{ subnet }] } } },
  }
}

async function bringUp(engine: Engine): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-faults-'))
  cleanUps.push(async () => await Promise.resolve(rmSync(directory, { recursive: true })))
  const clocks = await NodeClocks.make(NODES)
  cleanUps.push(async () => await Promise.resolve(clocks.remove()))
  const volume = await SmallVolume.make(VOLUME_BYTES)
  cleanUps.push(async () => await volume.remove())
  const file = join(directory, 'compose.json')
  writeFileSync(file, JSON.stringify(composeFile()))
  const override = { ...clocks.override, volumes: { small: volume.definition } }
  const project = await ComposeProject.up(engine, { name: `faults-${process.pid}`, files: [file], override })
  cleanUps.push(async () => await project.down())
  const nodes = await Promise.all(NODES.map(async (service) => await project.container(service)))
  const store = await project.container(STORE)
  cluster = { nodes, store, smallVolumes: new Map([['a', volume]]), clocks }
  await Promise.all([...nodes, store].map(answers))
}

/** The last first, and each whatever became of the others. */
async function tearDown(): Promise<void> {
  const errors: unknown[] = []
  for (const cleanUp of cleanUps.reverse()) await cleanUp().catch((error: unknown) => errors.push(error))
  expect(errors).toEqual([])
}

async function ask(container: Container, question: string, withinMs: number = ANSWER_WITHIN_MS): Promise<string> {
  const url = `http://${await container.published(PORT)}${question}`
  const response = await fetch(url, { signal: AbortSignal.timeout(withinMs), headers: { connection: 'close' } })
  const body = await response.text()
  if (!response.ok) throw new Error(body)
  return body
}

/** Once it has started; rejects when it does not. */
async function answers(container: Container): Promise<void> {
  const deadlineMs = performance.now() + ANSWER_WITHIN_MS
  while (performance.now() < deadlineMs) if (await ask(container, '/up', 1_000).catch(() => '')) return
  throw new Error(`${container.service} does not answer`)
}

let rounds = 0

/** Who hears whom, as `ab` for a hears b: by datagrams, since what is heard one way only makes no connection, and by both protocols, which must agree. */
async function heardPairs(): Promise<string[]> {
  const all = [...cluster.nodes, cluster.store]
  const round = rounds++
  const attachments = await Promise.all(all.map(async (node) => await (await NetworkNamespace.of(node)).attachments()))
  expect(attachments.map((of) => of.map(({ family }) => family).sort())).toEqual(all.map(() => ['inet', 'inet6']))
  await Promise.all(
    all.map(async (speaker, index) => {
      const to = attachments.flatMap((of, other) => (other === index ? [] : of.map(({ address }) => `&to=${address}`)))
      await ask(speaker, `/send?message=${round}${speaker.service}${to.join('')}`)
    }),
  )
  const heard = await Promise.all(
    all.map(async (listener) => {
      const messages = JSON.parse(await ask(listener, '/heard')) as readonly string[]
      const speakers = (protocol: string): string[] =>
        all.map(({ service }) => service).filter((service) => messages.includes(`${round}${service} ${protocol}`))
      expect(speakers('udp6')).toEqual(speakers('udp4'))
      return speakers('udp4').map((speaker) => listener.service + speaker)
    }),
  )
  return heard.flat().sort()
}

function everyPair(): string[] {
  const all = [...NODES, STORE]
  return all.flatMap((listener) => all.filter((speaker) => speaker !== listener).map((speaker) => listener + speaker))
}

async function during<T>(fault: Fault, look: () => Promise<T>): Promise<T> {
  try {
    await fault.begin()
    return await look()
  } finally {
    await fault.end()
  }
}

const shown = new Set<FaultName>()

function named(name: FaultName): Fault {
  shown.add(name)
  return faultNamed(name, cluster, random)
}

function nodeNamed(service: string): Container {
  return must(
    cluster.nodes.find((node) => node.service === service),
    service,
  )
}

/** Milliseconds to move the bytes into `to`. */
async function pullMs(to: Container, from: Container): Promise<number> {
  return Number(await ask(to, `/pull?from=${await from.address()}&count=${PULLED_BYTES}`))
}

/** Milliseconds of each at its quickest: on a busy machine one may be slow for no reason of the network. */
async function bestOf(transfers: readonly (() => Promise<number>)[]): Promise<number[]> {
  const best: number[] = []
  for (const transfer of transfers) best.push(Math.min(await transfer(), await transfer(), await transfer()))
  return best
}

interface Time {
  readonly wallMs: number
  readonly waitedMs: number
  readonly wallWaitedMs: number
}

async function timeOf(container: Container): Promise<Time> {
  return JSON.parse(await ask(container, '/clock')) as Time
}

export function describeFaults(engine: () => Engine): void {
  describe(`faults of containers (seed ${seed})`, () => {
    beforeAll(async () => await bringUp(engine()))
    afterAll(async () => await tearDown())
    processFaults()
    partitionFaults()
    resourceFaults()
    clockFaults()
  })
}

function processFaults(): void {
  it('kills a node, and starts it again', async () => {
    const fault = named('node killed')
    const node = nodeNamed(fault.on)
    await during(fault, async () => {
      expect((await node.state()).status).toBe('exited')
    })
    await answers(node)
  })

  it('kills etcd alone, and ends when there is another', async () => {
    const fault = named('etcd killed')
    const node = nodeNamed(fault.on)
    const [first, etcd] = [await node.pid(), await etcdOf(node)]
    await during(fault, async () => await ask(node, '/up'))
    expect(await etcdOf(node)).not.toBe(etcd)
    expect(await node.pid()).toBe(first)
  })

  it('pauses a node', async () => {
    const fault = named('node paused')
    const node = nodeNamed(fault.on)
    await during(fault, async () => await expect(ask(node, '/up', 500)).rejects.toThrow('timeout'))
    await answers(node)
  })

  it('pauses etcd alone', async () => {
    const fault = named('etcd paused')
    const node = nodeNamed(fault.on)
    const etcd = await etcdOf(node)
    await during(fault, async () => {
      expect(readProcess(etcd)?.state).toBe('T')
      expect(readProcess(await node.pid())?.state).not.toBe('T')
      await ask(node, '/up')
    })
    expect(readProcess(etcd)?.state).not.toBe('T')
  })

  it('restarts all nodes, one by one', async () => {
    const before = await Promise.all(cluster.nodes.map(async (node) => await node.pid()))
    await during(named('rolling restart'), async () => await Promise.all(cluster.nodes.map(answers)))
    const after = await Promise.all(cluster.nodes.map(async (node) => await node.pid()))
    expect(after.filter((pid) => before.includes(pid) || pid === 0)).toEqual([])
  })
}

function partitionFaults(): void {
  it('cuts off what it says, and no client', async () => {
    const all = await heardPairs()
    expect(all).toEqual(everyPair())
    for (const [name, lost] of [
      ['node cut off', (on: string) => new RegExp(on)],
      ['node hears nobody', (on: string) => new RegExp(`^${on}`)],
      ['node heard by nobody', (on: string) => new RegExp(`${on}$`)],
      ['node cut from the store', (on: string) => new RegExp(`${on}${STORE}|${STORE}${on}`)],
      ['two nodes cut from each other', (on: string) => pairsOf(on, / and /, 'both')],
      ['one node does not hear another', (on: string) => pairsOf(on, / of /, 'one')],
    ] as const) {
      const fault = named(name)
      expect([fault.name, fault.on, await during(fault, heardPairs)]).toEqual([
        name,
        fault.on,
        all.filter((pair) => !lost(fault.on).test(pair)),
      ])
    }
    expect(await heardPairs()).toEqual(all)
  })

  it('ends connections both ways where one way is cut', async () => {
    const [a, b] = [nodeNamed('a'), nodeNamed('b')]
    const deaf = faultOf({
      name: 'deaf',
      on: 'a',
      begin: async (afterwards) => await cutOneWay(a, b, afterwards),
    })
    await during(deaf, async () => {
      await expect(ask(a, `/pull?from=${await b.address()}&count=1`, 1_000)).rejects.toThrow('timeout')
    })
    await pullMs(a, b)
  })

  it('is healed when a node was started again meanwhile, and when it failed halfway', async () => {
    const [a, b] = [nodeNamed('a'), nodeNamed('b')]
    await during(named('node cut off'), async () => {
      for (const node of cluster.nodes) await node.kill()
      for (const node of cluster.nodes) await node.start()
      await Promise.all(cluster.nodes.map(untilHealthy))
    })
    await Promise.all(cluster.nodes.map(answers))
    const halfway = faultOf({
      name: 'halfway',
      on: 'a',
      begin: async (afterwards) => {
        await cutOneWay(a, b, afterwards)
        expect(await heardPairs()).toEqual(everyPair().filter((pair) => pair !== 'ab'))
        throw new Error('no further')
      },
    })
    await expect(during(halfway, async () => await Promise.resolve())).rejects.toThrow('no further')
    expect(await heardPairs()).toEqual(everyPair())
  })
}

function pairsOf(on: string, between: RegExp, ways: 'both' | 'one'): RegExp {
  const [one = '', other = ''] = on.split(between)
  return new RegExp(ways === 'both' ? `${one}${other}|${other}${one}` : `${one}${other}`)
}

function resourceFaults(): void {
  it('slows links between nodes both ways, and no client', async () => {
    const [a, b] = [nodeNamed('a'), nodeNamed('b')]
    const s = cluster.store
    const links = [async () => await pullMs(a, b), async () => await pullMs(a, s), async () => await pullMs(s, a)]
    const client = async (): Promise<number> => {
      const startedMs = performance.now()
      await ask(a, `/bytes?count=${PULLED_BYTES}`)
      return performance.now() - startedMs
    }
    const quick = await bestOf([...links, client])
    const slow = await during(named('slow links'), async () => [await bestOf(links), await bestOf([client])] as const)
    const healed = await bestOf([...links, client])
    // 600 kB less a burst of 64 kB at each end take half a second at 8 Mbit/s.
    expect(slow[0].filter((ms) => ms < 400)).toEqual([])
    expect([...quick, ...slow[1], ...healed].filter((ms) => ms > 350)).toEqual([])
  })

  it('fills a disk', async () => {
    const a = nodeNamed('a')
    const write = ['sh', '-c', `head -c 65536 /dev/zero > ${VOLUME_AT}/file`]
    const used = async (): Promise<string> => (await a.exec(['df', '--output=pcent', VOLUME_AT])).stdout
    const owner = await a.exec(['sh', '-c', `stat -c %u ${VOLUME_AT}; ls -A ${VOLUME_AT}`])
    expect(owner.stdout).toBe('10001\n')
    await during(named('disk full'), async () => {
      expect(await used()).toContain('100%')
      expect(await a.exec(write)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('No space left') as unknown,
      })
    })
    expect(await used()).not.toContain('100%')
    expect((await a.exec(write)).code).toBe(0)
  })
}

function clockFaults(): void {
  it('makes the clock of one node jump and no timer', async () => {
    for (const [name, jumpMs] of [
      ['clock forward', HOUR_MS],
      ['clock back', -HOUR_MS],
    ] as const) {
      const fault = named(name)
      const others = cluster.nodes.filter(({ service }) => service !== fault.on)
      const offsets = async (nodes: readonly Container[]): Promise<number[]> =>
        await Promise.all(
          nodes.map(async (node) => {
            const { wallMs, waitedMs, wallWaitedMs } = await timeOf(node)
            expect(waitedMs).toBeGreaterThan(95)
            expect(Math.abs(wallWaitedMs - waitedMs)).toBeLessThan(1_000)
            return Math.round((wallMs - Date.now()) / 10_000) * 10_000
          }),
        )
      await during(fault, async () => {
        expect(await offsets([nodeNamed(fault.on)])).toEqual([jumpMs])
        expect((await offsets(others)).map(Math.abs)).toEqual(others.map(() => 0))
      })
      expect((await offsets(cluster.nodes)).map(Math.abs)).toEqual(cluster.nodes.map(() => 0))
    }
  })

  it('has shown all but one', () => {
    expect(FAULT_NAMES.filter((name) => !shown.has(name))).toEqual(['leader etcd killed'])
  })
}
