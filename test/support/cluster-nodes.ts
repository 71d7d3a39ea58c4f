/** Nodes of a cluster with members that they supervise, on the loopback address: started, stopped and started again with the same directory. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/common/clock.ts'
import { silentLogger } from '../../src/common/logging.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { createEtcdClient } from '../../src/meta/raft/client.ts'
import { startClusterNode } from '../../src/meta/raft/member/cluster-node.ts'
import type { ClusterHealth, ClusterNode } from '../../src/meta/raft/member/cluster-node.ts'
import type { ClusterNodeOptions } from '../../src/meta/raft/member/cluster-options.ts'
import { initCluster } from '../../src/meta/raft/member/prepare-node.ts'
import type { Etcd } from '../../src/meta/raft/ports.ts'
import { ETCD_PROGRAM } from './etcd-member.ts'

const LOOK_EVERY_MS = 100
const WRITE_EVERY_MS = 10

export class ClusterNodes {
  readonly nodes: (ClusterNode | undefined)[] = []
  readonly #scratch: string
  readonly #ports: readonly number[]
  readonly #extra: Partial<ClusterNodeOptions>

  private constructor(ports: readonly number[], extra: Partial<ClusterNodeOptions>) {
    this.#scratch = mkdtempSync(join(tmpdir(), 'tidegate-cluster-'))
    this.#ports = ports
    this.#extra = extra
  }

  static async create(count: number, extra: Partial<ClusterNodeOptions> = {}): Promise<ClusterNodes> {
    return new ClusterNodes(await freePorts(count * 2), extra)
  }

  options(index: number): ClusterNodeOptions {
    const scheme = this.#extra.tls === undefined ? 'http' : 'https'
    const url = (place: number): string => `${scheme}://127.0.0.1:${this.#ports[place]}`
    return {
      directory: join(this.#scratch, `n${index}`, 'etcd'),
      clusterName: 'test',
      nodeName: `n${index}`,
      peerUrl: url(index * 2),
      clientUrl: url(index * 2 + 1),
      join: this.#ports.flatMap((_, place) => (place % 2 === 1 ? [url(place)] : [])),
      voters: 3,
      quotaBytes: 2 ** 30,
      etcd: ETCD_PROGRAM,
      startMsMax: 30_000,
      clock: systemClock,
      logger: silentLogger,
      ...this.#extra,
    }
  }

  async init(): Promise<void> {
    await initCluster(this.options(0))
  }

  async start(index: number): Promise<ClusterNode> {
    const node = await startClusterNode(this.options(index))
    this.nodes[index] = node
    return node
  }

  async stop(index: number): Promise<void> {
    await this.nodes[index]?.stop()
    this.nodes[index] = undefined
  }

  node(index: number): ClusterNode {
    const node = this.nodes[index]
    if (node === undefined) throw new Error(`node ${index} is not running`)
    return node
  }

  loseDisk(index: number): void {
    rmSync(join(this.#scratch, `n${index}`), { recursive: true, force: true })
  }

  /** As that node sees it, once it is as wanted. */
  async until(index: number, wanted: (health: ClusterHealth) => boolean, withinMs = 30_000): Promise<ClusterHealth> {
    const untilMs = Date.now() + withinMs
    for (;;) {
      const health = await this.node(index).health()
      if (wanted(health)) return health
      if (Date.now() > untilMs) throw new Error(`not in time: ${JSON.stringify(health)}`)
      await systemClock.sleep(LOOK_EVERY_MS)
    }
  }

  /** A client that is the caller's to stop. */
  async client(index: number): Promise<Etcd> {
    const { tls } = this.#extra
    const etcd = createEtcdClient({
      endpoints: this.node(index).endpoints,
      tls,
      clock: systemClock,
      callTimeoutMs: 2_000,
    })
    await etcd.start()
    return etcd
  }

  async remove(): Promise<void> {
    await Promise.allSettled(this.nodes.flatMap((node) => node?.stop() ?? []))
    rmSync(this.#scratch, { recursive: true, force: true })
  }
}

/** Puts one row again and again, many at once, and remembers when answers came. */
export class Writer {
  readonly #etcd: Etcd
  readonly #answeredMs: number[] = []
  readonly #timer: NodeJS.Timeout
  #writes = 0

  constructor(etcd: Etcd) {
    this.#etcd = etcd
    this.#timer = setInterval(() => void this.#write(), WRITE_EVERY_MS)
  }

  get answers(): number {
    return this.#answeredMs.length
  }

  /** The longest time without an answer since then, up to the last. */
  longestGapMs(sinceMs: number): number {
    const times = [sinceMs, ...this.#answeredMs.filter((timeMs) => timeMs >= sinceMs)]
    return Math.max(...times.slice(1).map((timeMs, index) => timeMs - (times[index] ?? timeMs)))
  }

  async settledFor(ms: number): Promise<void> {
    const before = this.answers
    await systemClock.sleep(ms)
    while (this.answers < before + 20) await systemClock.sleep(LOOK_EVERY_MS)
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#etcd.stop()
  }

  async #write(): Promise<void> {
    const key = `gap/${this.#writes++ % 10}` as ByteString
    const success = [{ kind: 'put', key, value: Buffer.from('x') }] as const
    await this.#etcd.transact({ compares: [], success, failure: [] }).then(
      () => this.#answeredMs.push(performance.now()),
      () => undefined,
    )
  }
}

/** Several at once, so that none is given out twice. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => once(server, 'listening')))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  for (const server of servers) server.close()
  return ports
}
