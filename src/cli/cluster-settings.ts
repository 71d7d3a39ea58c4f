/** The options of a cluster, as its nodes are told them. */
import { hostname } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../common/clock.ts'
import type { Logger } from '../common/logging.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/parse.ts'
import { checkClusterOptions } from '../meta/raft/member/cluster-options.ts'
import type { ClusterNodeOptions, ClusterTls } from '../meta/raft/member/cluster-options.ts'

/** Undefined where this gateway is no node of a cluster. @throws ConfigError, ClusterRefused naming the option at fault */
export function clusterSettings(config: Config, dataPath: string, logger: Logger): ClusterNodeOptions | undefined {
  const { cluster } = config
  if (cluster === undefined) return undefined
  const options: ClusterNodeOptions = {
    directory: join(dataPath, 'etcd'),
    clusterName: cluster,
    nodeName: config.clusterNode ?? hostname(),
    peerUrl: config.clusterPeer,
    clientUrl: config.clusterClient,
    join: config.clusterJoin,
    voters: config.clusterVoters,
    tls: tlsOf(config),
    quotaBytes: config.clusterQuota,
    etcd: config.clusterEtcd,
    metricsUrl: config.clusterMetrics,
    clock: systemClock,
    logger,
  }
  checkClusterOptions(options)
  return options
}

function tlsOf({ clusterCa, clusterCert, clusterKey }: Config): ClusterTls | undefined {
  if ((clusterCa ?? clusterCert ?? clusterKey) === undefined) return undefined
  if (clusterCa === undefined || clusterCert === undefined || clusterKey === undefined)
    throw new ConfigError('--cluster-ca, --cluster-cert and --cluster-key: give all three or none')
  return { authorityPath: clusterCa, certificatePath: clusterCert, keyPath: clusterKey }
}
