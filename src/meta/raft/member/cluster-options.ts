/** What a node of a cluster is told, checked. Names of options are those of the command line, since that is where whoever reads a message can change them. */
import { isIP } from 'node:net'
import type { Clock } from '../../../common/clock.ts'
import type { Logger } from '../../../common/logging.ts'
import type { HungLimits } from './hung-member.ts'

export interface ClusterTls {
  readonly authorityPath: string
  readonly certificatePath: string
  readonly keyPath: string
}

export interface ClusterNodeOptions {
  /** `DATA/etcd`; made if absent. */
  readonly directory: string
  readonly clusterName: string
  readonly nodeName: string
  /** Where the other members reach this one's member: `http[s]://host:port`. */
  readonly peerUrl: string
  /** Where nodes reach it. */
  readonly clientUrl: string
  /** Client addresses of members that may be there already. */
  readonly join: readonly string[]
  /** For a cluster that is begun. */
  readonly voters: number
  readonly tls?: ClusterTls | undefined
  readonly quotaBytes: number
  /** Program, by path or looked for in the PATH. */
  readonly etcd: string
  readonly metricsUrl?: string | undefined
  /** How long the cluster may take to answer for the first time. */
  readonly startMsMax?: number | undefined
  /** Ends that wait: the start rejects with its reason. */
  readonly signal?: AbortSignal | undefined
  readonly clock: Clock
  readonly logger: Logger
  /** Which members answer may have changed. */
  readonly onChange?: (() => void) | undefined
  readonly upkeep?: UpkeepOptions | undefined
  /** How long its member may be silent before it is killed and started again. */
  readonly hung?: HungLimits | undefined
}

export interface UpkeepOptions {
  /** Between two looks at how full the members are. */
  readonly everyMs: number
}

/** What is told cannot be used, or does not fit what is there; a person has to change something. */
export class ClusterRefused extends Error {
  override readonly name = 'ClusterRefused'
}

const VOTERS: readonly number[] = [1, 3, 5]
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/
export const START_MS_MAX = 10 * 60_000

/** @throws ClusterRefused naming the value at fault */
export function checkClusterOptions(options: ClusterNodeOptions): void {
  const { clusterName, nodeName, peerUrl, clientUrl, join, voters, tls } = options
  checkName('--cluster', clusterName)
  checkName('--cluster-node', nodeName)
  if (!VOTERS.includes(voters)) throw new ClusterRefused(`--cluster-voters: ${voters} is not one of 1, 3 and 5`)
  checkUrl('--cluster-peer', peerUrl, tls)
  checkUrl('--cluster-client', clientUrl, tls)
  for (const url of join) checkUrl('--cluster-join', url, tls)
  if (new URL(peerUrl).host === new URL(clientUrl).host)
    throw new ClusterRefused(`--cluster-peer and --cluster-client: ${new URL(peerUrl).host} is one address for both`)
}

function checkName(option: string, name: string): void {
  if (!NAME.test(name))
    throw new ClusterRefused(`${option}: ${JSON.stringify(name)} is no name of letters, digits and ._- (up to 63)`)
}

function checkUrl(option: string, text: string, tls: ClusterTls | undefined): void {
  const url = URL.parse(text)
  const isPlain = url?.protocol === 'http:'
  const isWhole = url !== null && url.host !== '' && url.pathname === '/' && url.search === '' && url.username === ''
  if (!isWhole || (!isPlain && url.protocol !== 'https:') || text.endsWith('/') || url.port === '')
    throw new ClusterRefused(`${option}: ${JSON.stringify(text)} is not of the form http[s]://HOST:PORT`)
  if (isPlain && tls !== undefined)
    throw new ClusterRefused(`${option}: ${text} must be https://, since --cluster-cert is given`)
  if (!isPlain && tls === undefined)
    throw new ClusterRefused(`${option}: ${text} needs --cluster-ca, --cluster-cert and --cluster-key`)
  if (isPlain && !isLoopback(hostOf(url)))
    throw new ClusterRefused(
      `${option}: ${text} can be reached from elsewhere, where anybody could change all metadata: use https:// with ` +
        '--cluster-ca, --cluster-cert and --cluster-key, or an address of this machine alone',
    )
}

/** Without brackets. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1')
}

function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith('127.')
  return host === 'localhost' || host === '::1'
}
