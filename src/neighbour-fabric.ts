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

/** libfabric's TCP takes connections from anybody, and what it is sent can end the process: unasked, it is opened on no network. */
function providersOf(fabric: FabricConfig['fabric'], address: string): readonly FabricProvider[] {
  if (fabric === 'auto') return isLoopback(address) ? ['verbs', 'tcp'] : ['verbs']
  return fabric === 'off' ? [] : [fabric]
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

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
  const found = await opened(config, { open, resolve })
  if ('device' in found) {
    const { provider, domain, version } = found.device
    logger.info({ provider, domain, libfabric: version }, "nodes read each other's memory by a fabric")
    if (isEncrypted)
      logger.warn(
        { provider },
        'what goes by the fabric is not encrypted, though the nodes speak TLS: its network must be yours',
      )
    return found.device
  }
  const level = fabric === 'auto' ? 'info' : 'warn'
  logger[level]({ fabric, why: found.reasons }, 'no fabric is used between nodes: there is none')
  return undefined
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
  { open, resolve }: { readonly open: typeof openFabricDevice; readonly resolve: typeof ownAddress },
): Promise<{ readonly device: FabricDevice } | { readonly reasons: string }> {
  const host = fabricHost(config)
  const address = await resolve(host)
  if (address === undefined)
    return { reasons: `${host} is no address of this machine; --fabric-address says which one the others reach` }
  const reasons: string[] = []
  for (const provider of providersOf(config.fabric, address)) {
    const { device, reason } = await open({ provider, address })
    if (device !== undefined) return { device }
    reasons.push(`${provider}: ${reason}`)
  }
  return { reasons: reasons.join('; ') }
}

export function fabricHost({ fabricAddress, neighbourAdvertise, neighbour }: FabricConfig): string {
  return fabricAddress ?? neighbourAdvertise?.host ?? (isWildcard(neighbour.host) ? hostname() : neighbour.host)
}

/** IP address of this machine that the host stands for; undefined: it is another's, or nobody's. */
export async function ownAddress(host: string): Promise<string | undefined> {
  const found = await lookup(host, { all: true }).catch(() => [])
  const own = new Set(Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address)))
  return found.map(({ address }) => address).find((address) => own.has(address) || isLoopback(address))
}
