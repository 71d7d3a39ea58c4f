/**
 * The other nodes that share the metadata: who they are (meta/raft/nodes), and how they are called (rdma). Part of the composition root.
 *
 * Opened before the engine starts, so that a long recovery is not taken for a loss: the node's row says `starting` until the engine serves. Handlers are set before `serving`.
 */
import { randomFillSync } from 'node:crypto'
import { hostname } from 'node:os'
import { packageVersion } from './cli/version.ts'
import { systemClock } from './common/clock.ts'
import type { Logger } from './common/logging.ts'
import type { NodeCalls } from './common/node-calls.ts'
import type { NodeMember, NodeView } from './common/node-view.ts'
import { isWildcard } from './config/neighbour-options.ts'
import type { Config } from './config/parse.ts'
import { NodeRegister } from './meta/raft/nodes/register.ts'
import { readNodeSecret } from './meta/raft/nodes/secret.ts'
import { unavailable } from './meta/raft/words.ts'
import { chooseFabric, tellPath, type FabricChoice } from './neighbour-fabric.ts'
import { FabricTransport } from './rdma/fabric/fabric-transport.ts'
import { FabricFailure, type FabricDevice } from './rdma/fabric/ports.ts'
import type { Transport } from './rdma/ports.ts'
import type { TransportTls } from './rdma/tcp/secured.ts'
import { TcpTransport } from './rdma/tcp/tcp-transport.ts'
import type { SharedMetadata, SharedTls } from './shared-metadata.ts'

export interface Neighbours {
  readonly calls: NodeCalls
  readonly view: NodeView
  readonly transport: Transport
  /** Memory that blocks lie in: what is of use there can be read by the other nodes. Fabric or not. */
  lend(memory: ArrayBufferLike): void
  /** The engine serves: what the other nodes are told from here on. */
  serving(): Promise<void>
  /** Drains: the others give this node nothing new. */
  leave(): Promise<void>
  /** After the engine has stopped. */
  stop(): Promise<void>
}

export type NeighbourConfig = Pick<
  Config,
  'neighbour' | 'neighbourAdvertise' | 'nodeWeight' | 'nodeLabel' | 'clusterNode' | 'fabric' | 'fabricAddress'
>

export interface NeighbourContext {
  readonly logger: Logger
  /** A handler failed with what is no error of operation. Default: it is logged. */
  readonly onBug?: ((error: unknown) => void) | undefined
  /** Default: that of this machine. */
  readonly openFabric?: FabricChoice['open']
}

/** @throws TidegateError when etcd does not answer, and what listening throws */
export async function openNeighbours(
  config: NeighbourConfig,
  {
    etcd,
    layout,
    nodeNumber,
    incarnation,
    tls,
  }: Pick<SharedMetadata, 'etcd' | 'layout' | 'nodeNumber' | 'incarnation' | 'tls'>,
  { logger, onBug = (error) => logger.error({ error }, 'a call of another node failed'), openFabric }: NeighbourContext,
): Promise<Neighbours> {
  const fillRandom = (bytes: Uint8Array): void => void randomFillSync(bytes)
  const readSecret = (): Promise<Uint8Array> => readNodeSecret({ etcd, layout, fillRandom })
  let secret = await readSecret().catch((error: unknown) => Promise.reject(unavailable(error)))
  let register: NodeRegister | undefined
  const nodeTls = transportTls(tls)
  const device = await chooseFabric(config, { isEncrypted: nodeTls !== undefined, logger, open: openFabric })
  const member = (node: number): NodeMember | undefined => register?.member(node)
  const tcp = new TcpTransport({
    self: { node: nodeNumber, incarnation, secret: () => secret, fillRandom },
    listen: config.neighbour,
    member,
    tls: nodeTls,
    clock: systemClock,
    random: Math.random,
    onBug,
  })
  const isForced = config.fabric !== 'auto'
  const fabric = device && fabricOver(tcp, { device, member, logger, fillRandom, isForced })
  const transport = fabric ?? tcp
  try {
    await transport.start()
  } catch (error) {
    await device?.close()
    throw error
  }
  const self: NodeMember = {
    number: nodeNumber,
    name: config.clusterNode ?? hostname(),
    incarnation,
    address: advertised(config, transport.address),
    weight: config.nodeWeight,
    labels: Object.fromEntries(config.nodeLabel.map(({ name, value }) => [name, value])),
    state: 'starting',
    version: packageVersion(),
  }
  const view = (register = new NodeRegister({
    etcd,
    layout,
    clock: systemClock,
    member: self,
    onLooked: async () => void (secret = await readSecret()),
    onTrouble: (reason) => {
      if (reason === undefined) logger.info({}, 'this node is known to the others again, and they to it')
      else logger.warn({ reason }, 'this node cannot tell the others that it is there, or not see them')
    },
  }))
  try {
    await view.start()
  } catch (error) {
    await view.stop()
    await transport.stop()
    await device?.close()
    throw error
  }
  const changed = (): void => {
    transport.viewChanged()
    for (const { number } of view.members()) if (number !== nodeNumber) void fabric?.prepare(number)
  }
  changed()
  const forget = [view.onChange(changed), logged(view, logger)]
  logger.info({ node: nodeNumber, address: self.address, tls: nodeTls !== undefined }, 'other nodes reach this one')
  return {
    calls: transport,
    view,
    transport,
    lend: (memory) => lend(fabric, memory, logger),
    serving: () => view.setState('serving'),
    leave: () => view.setState('leaving'),
    async stop() {
      for (const end of forget) end()
      await transport.drain()
      await view.stop()
      await transport.stop()
      await device?.close()
    },
  }
}

/** A pair of nodes for which it is never faster is left alone, unless the fabric was asked for by name. */
const FORCED_LINE_BYTES_MAX = 1024 * 1024

function fabricOver(
  inner: TcpTransport,
  parts: {
    device: FabricDevice
    member: (node: number) => NodeMember | undefined
    logger: Logger
    fillRandom: (bytes: Uint8Array) => void
    isForced: boolean
  },
): FabricTransport {
  const { device, member, logger, fillRandom, isForced } = parts
  return new FabricTransport({
    inner,
    device,
    member,
    clock: systemClock,
    random: Math.random,
    fillRandom,
    onChange: (node, event) => tellPath(logger, node, event),
    limits: isForced ? { lineBytesMax: FORCED_LINE_BYTES_MAX } : {},
  })
}

function lend(fabric: FabricTransport | undefined, memory: ArrayBufferLike, logger: Logger): void {
  try {
    fabric?.lend(memory)
  } catch (error) {
    if (!(error instanceof FabricFailure)) throw error
    const advice =
      'RDMA pins the memory: its limit (ulimit -l, LimitMEMLOCK, --ulimit memlock) must be above --cache-memory'
    logger.warn(
      { why: error.message, advice },
      "the cache's memory cannot be read by other nodes: blocks go by the connections",
    )
  }
}

/** Undefined unless there are all three: both ends of a connection show a certificate. */
function transportTls({ authorityPath, certificatePath, keyPath }: SharedTls = {}): TransportTls | undefined {
  if (authorityPath === undefined || certificatePath === undefined || keyPath === undefined) return undefined
  return { ca: authorityPath, cert: certificatePath, key: keyPath }
}

export function advertised({ neighbour, neighbourAdvertise }: NeighbourConfig, listening: string): string {
  // Containers and many machines are known to the others by their name; who listens on every address has no better one to tell.
  const told = isWildcard(neighbour.host) ? hostname() : neighbour.host
  const { host, port } = neighbourAdvertise ?? { host: told, port: 0 }
  const listeningPort = listening.slice(listening.lastIndexOf(':') + 1)
  return `${host.includes(':') ? `[${host}]` : host}:${port === 0 ? listeningPort : port}`
}

/** Who comes and goes, for people. */
function logged(view: NodeView, logger: Logger): () => void {
  const said = new Map<number, string>()
  const look = (): void => {
    for (const { number, name, address, state, incarnation } of view.members()) {
      const now = `${state} ${incarnation}`
      if (number === view.self || said.get(number) === now) continue
      said.set(number, now)
      logger.info({ node: number, name, address, state }, 'another node')
      if (isLoopback(address) !== isLoopback(view.member(view.self)?.address ?? address))
        logger.warn(
          { node: number, address },
          'of this node and that one, one can be reached from its own machine only',
        )
    }
    for (const number of [...said.keys()].filter((one) => view.member(one) === undefined)) {
      said.delete(number)
      logger.warn({ node: number }, 'another node is not there any more')
    }
  }
  look()
  return view.onChange(look)
}

function isLoopback(address: string): boolean {
  return /^(127\.|\[::1\]|localhost:)/.test(address)
}
