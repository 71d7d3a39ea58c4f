/** Whether this node reaches the memory of others, and by what (rdma/fabric): chosen at its start. Part of the composition root. */
import { lookup } from 'node:dns/promises'
import { hostname, networkInterfaces } from 'node:os'
import type { Logger } from './common/logging.ts'
import { isWildcard } from './config/neighbour-options.ts'
import type { Config } from './config/parse.ts'
import { openFabricDevice } from './rdma/fabric/device.ts'
import type { PathEvent } from './rdma/fabric/pair.ts'
import type { FabricDevice, FabricProvider } from './rdma/fabric/ports.ts'

export type FabricConfig = Pick<Config, 'fabric' | 'fabricAddress' | 'neighbour' | 'neighbourAdvertise'>

export interface FabricChoice {
  /** The nodes speak TLS to each other. */
  readonly isEncrypted: boolean
  readonly logger: Logger
  readonly open?: typeof openFabricDevice | undefined
  readonly resolve?: typeof ownAddress
}

/** libfabric's TCP takes connections from anybody, and what it is sent can end the process (docs/decisions/0020-fabric.md): unasked it is not opened. */
const PROVIDERS = {
  auto: 'verbs',
  verbs: 'verbs',
  tcp: 'tcp',
} as const satisfies Record<Exclude<FabricConfig['fabric'], 'off'>, FabricProvider>

/** Undefined: bodies go by the connections. A node without the fabric that was asked for serves all the same, only slower; so it is a warning and no error. Never rejects. */
export async function chooseFabric(
  config: FabricConfig,
  { isEncrypted, logger, open = openFabricDevice, resolve = ownAddress }: FabricChoice,
): Promise<FabricDevice | undefined> {
  const { fabric } = config
  if (fabric === 'off') return undefined
  if (fabric === 'auto' && isEncrypted) {
    const why =
      'the nodes speak TLS, and a fabric encrypts nothing; --fabric verbs or --fabric tcp uses it all the same'
    logger.info({ why }, 'no fabric is used between nodes')
    return undefined
  }
  const { device, reason } = await opened(config, PROVIDERS[fabric], { open, resolve })
  if (device === undefined) {
    const level = fabric === 'auto' ? 'info' : 'warn'
    logger[level]({ fabric, why: reason }, 'no fabric is used between nodes: there is none')
    return undefined
  }
  const { provider, domain, version } = device
  logger.info({ provider, domain, libfabric: version }, "nodes read each other's memory by a fabric")
  if (isEncrypted) {
    const text = 'what goes by the fabric is not encrypted, though the nodes speak TLS: its network must be yours'
    logger.warn({ provider }, text)
  }
  return device
}

/** By the connection: for the log. */
export function tellPath(logger: Logger, node: number, event: PathEvent): void {
  if (event.path === 'fabric') {
    const { provider, lineBytes } = event
    const isUsed = Number.isFinite(lineBytes)
    const text = isUsed
      ? 'large bodies go to a node by the fabric'
      : 'the fabric to a node is slower than its connection, and not used'
    logger.info({ node, provider, ...(isUsed && { fromBytes: lineBytes }) }, text)
  } else logger.warn({ node, why: event.why }, 'large bodies go to a node by its connection: not by the fabric now')
}

async function opened(
  config: FabricConfig,
  provider: FabricProvider,
  { open, resolve }: { readonly open: typeof openFabricDevice; readonly resolve: typeof ownAddress },
): Promise<Awaited<ReturnType<typeof openFabricDevice>>> {
  const host = fabricHost(config)
  const address = await resolve(host)
  if (address === undefined)
    return { reason: `${host} is no address of this machine; --fabric-address says which one the others reach` }
  return await open({ provider, address })
}

export function fabricHost({ fabricAddress, neighbourAdvertise, neighbour }: FabricConfig): string {
  return fabricAddress ?? neighbourAdvertise?.host ?? (isWildcard(neighbour.host) ? hostname() : neighbour.host)
}

/** IP address of this machine that the host stands for; undefined: it is another's, or nobody's. */
export async function ownAddress(host: string): Promise<string | undefined> {
  const found = await lookup(host, { all: true }).catch(() => [])
  const own = new Set(Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address)))
  return found.map(({ address }) => address).find((address) => own.has(address) || address.startsWith('127.'))
}
