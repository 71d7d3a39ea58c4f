/**
 * How etcd is started: only flags that 3.4, 3.5 and 3.6 all know, with the same meaning. Names of hosts are for others to reach it by; etcd listens on
 * addresses only, so for a name it listens on all.
 */
import { isIP } from 'node:net'
import { join } from 'node:path'
import { hostOf } from './cluster-options.ts'
import type { ClusterNodeOptions } from './cluster-options.ts'

const HEARTBEAT_MS = 50
const ELECTION_MS = 500
/** Also what the ordered store packs into one transaction at most (etcd-options.ts). */
const TRANSACTION_OPERATIONS_MAX = 4096
const REQUEST_BYTES_MAX = 1.5 * 1024 * 1024
/** How long a node may be away and go on from where it was. */
const HISTORY = '10m'

type FlagOptions = Pick<
  ClusterNodeOptions,
  'clusterName' | 'nodeName' | 'peerUrl' | 'clientUrl' | 'tls' | 'quotaBytes' | 'metricsUrl'
>

export interface Launch {
  /** `name=peer URL` of all members, this one's among them. Means nothing to a member that has data. */
  readonly initialCluster: string
  readonly state: 'new' | 'existing'
}

export function dataDirectoryOf(directory: string): string {
  return join(directory, 'data')
}

export function etcdFlags(options: FlagOptions & { directory: string }, launch: Launch): string[] {
  const { clusterName, nodeName, peerUrl, clientUrl, tls, quotaBytes, metricsUrl } = options
  const values: Readonly<Record<string, string | number>> = {
    name: nodeName,
    'data-dir': dataDirectoryOf(options.directory),
    'listen-peer-urls': listenUrl(peerUrl),
    'initial-advertise-peer-urls': peerUrl,
    'listen-client-urls': listenUrl(clientUrl),
    'advertise-client-urls': clientUrl,
    'initial-cluster': launch.initialCluster,
    'initial-cluster-state': launch.state,
    'initial-cluster-token': clusterName,
    'heartbeat-interval': HEARTBEAT_MS,
    'election-timeout': ELECTION_MS,
    'max-txn-ops': TRANSACTION_OPERATIONS_MAX,
    'max-request-bytes': REQUEST_BYTES_MAX,
    'quota-backend-bytes': quotaBytes,
    'auto-compaction-mode': 'periodic',
    'auto-compaction-retention': HISTORY,
    logger: 'zap',
    'log-level': 'warn',
    'log-outputs': 'stderr',
    ...(metricsUrl === undefined ? {} : { 'listen-metrics-urls': metricsUrl }),
    ...(tls === undefined
      ? {}
      : {
          'cert-file': tls.certificatePath,
          'key-file': tls.keyPath,
          'trusted-ca-file': tls.authorityPath,
          'peer-cert-file': tls.certificatePath,
          'peer-key-file': tls.keyPath,
          'peer-trusted-ca-file': tls.authorityPath,
        }),
  }
  return [
    ...Object.entries(values).map(([name, value]) => `--${name}=${value}`),
    '--pre-vote',
    '--strict-reconfig-check',
    ...(tls === undefined ? [] : ['--client-cert-auth', '--peer-client-cert-auth']),
  ]
}

/** What others call by a name is listened to on every address. */
function listenUrl(advertised: string): string {
  const url = new URL(advertised)
  const host = hostOf(url)
  if (isIP(host) !== 0) return advertised
  return `${url.protocol}//${host === 'localhost' ? '127.0.0.1' : '0.0.0.0'}:${url.port}`
}
