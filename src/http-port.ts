/** What is served on the HTTP port: the KV API, the admin API, metrics and their description. Part of the composition root. */
import { randomBytes } from 'node:crypto'
import { packageVersion } from './cli/version.ts'
import { systemClock } from './common/clock.ts'
import type { Limits } from './common/limits.ts'
import type { Logger } from './common/logging.ts'
import type { Telemetry } from './common/telemetry.ts'
import type { Config } from './config/parse.ts'
import type { Engine } from './engine.ts'
import { createAttachmentsPlugin } from './gateway/admin/attachments.ts'
import { createBackupsPlugin } from './gateway/admin/backups.ts'
import { createClusterPlugin, type ClusterControl } from './gateway/admin/cluster.ts'
import { createFlushPlugin } from './gateway/admin/flush.ts'
import { createMetricsPlugin } from './gateway/admin/metrics.ts'
import { createMountsPlugin, type Mounts } from './gateway/admin/mounts.ts'
import { createNodesPlugin, type NodeControl } from './gateway/admin/nodes.ts'
import { createStatusPlugin } from './gateway/admin/status.ts'
import { createTokensPlugin } from './gateway/admin/tokens.ts'
import { createAuthenticator } from './gateway/http/auth/authenticator.ts'
import { createPortAuthenticator } from './gateway/http/auth/port-authenticator.ts'
import type { Condition } from './gateway/http/health.ts'
import type { ListenerOptions } from './gateway/http/listener.ts'
import { createOpenApiPlugin } from './gateway/http/openapi.ts'
import { createHttpPort, type HttpPort, type PortPlugin } from './gateway/http/port.ts'
import type { RequestMetrics } from './gateway/http/request-metrics.ts'
import { registerBatchRoute } from './gateway/kv/batch.ts'
import { registerBucketRoutes } from './gateway/kv/buckets.ts'
import { createKvPlugin } from './gateway/kv/door.ts'
import { registerExistsRoute } from './gateway/kv/exists.ts'
import { registerIncrementRoute } from './gateway/kv/increment.ts'
import { registerMatchRoute } from './gateway/kv/match.ts'
import { registerScanOrWatchRoute } from './gateway/kv/scan-or-watch.ts'
import { registerTransactRoute } from './gateway/kv/transact.ts'
import { registerValueRoutes } from './gateway/kv/values.ts'
import { createStatus, type NeighbourStatus } from './status.ts'
import type { AccessControl, UserDirectory } from './store/access.ts'
import { createTokens } from './store/tokens.ts'

export interface HttpPortParts {
  readonly config: Config
  readonly limits: Limits
  readonly engine: Engine
  readonly mounts: Mounts
  /** Where this gateway is a node of a cluster. */
  readonly cluster: ClusterControl | undefined
  /** Where it shares its metadata. */
  readonly nodes: NodeControl | undefined
  readonly neighbours: NeighbourStatus | undefined
  readonly telemetry: Telemetry
  readonly metrics: RequestMetrics
  readonly users: UserDirectory
  readonly access: AccessControl
  readonly logger: Logger
  readonly listener: Omit<ListenerOptions, 'host' | 'port'>
  readonly ready: () => boolean
  readonly condition: () => Condition | undefined
  readonly onBug: (error: Error) => void
}

export function httpPortOf(parts: HttpPortParts): HttpPort {
  const { config, limits, engine, telemetry, access, logger, users } = parts
  const tokens = createTokens({ metadata: engine.namespace, clock: systemClock, randomBytes })
  const { authenticate } = createPortAuthenticator({
    users,
    tokens,
    sigv4: createAuthenticator({
      users,
      clock: systemClock,
      region: config.region,
      services: ['s3'],
      externalUrl: config.externalUrl,
      trustedProxies: config.trustedProxy,
      allowPresignedV2: false,
      bodilessHashOptional: true,
    }),
    trustedProxies: config.trustedProxy,
    externalUrl: config.externalUrl,
  })
  return createHttpPort({
    ...parts.listener,
    host: config.http.host,
    port: config.http.port,
    metrics: parts.metrics,
    accessLog: config.accessLog,
    tracing: telemetry.tracing,
    ready: parts.ready,
    condition: parts.condition,
    onBug: parts.onBug,
    authenticate,
    plugins: [
      createOpenApiPlugin({ version: packageVersion() }),
      createMetricsPlugin({ collect: () => telemetry.collect(), authenticate }),
      createTokensPlugin({ tokens, access }),
      createMountsPlugin(parts.mounts),
      statusPlugin(parts),
      createFlushPlugin({ flush: engine.writeBehind, access }),
      createBackupsPlugin({ names: engine.names, access, monotonicMs: () => systemClock.monotonicMs() }),
      ...attachmentsPlugin(engine, parts),
      ...clusterPlugin(parts),
      ...nodesPlugin(parts),
      createKvPlugin(
        { store: engine.store, access, region: config.region, limits, logger, bodyIdleMsMax: config.idleTimeout },
        [
          registerBucketRoutes,
          registerScanOrWatchRoute,
          registerBatchRoute,
          registerTransactRoute,
          registerIncrementRoute,
          registerExistsRoute,
          registerMatchRoute,
          registerValueRoutes,
        ],
      ),
    ],
  })
}

function statusPlugin({ engine, config, neighbours, access, condition }: HttpPortParts): PortPlugin {
  const status = createStatus({
    engine,
    slabBytes: config.cacheMemory,
    version: packageVersion(),
    clock: systemClock,
    trouble: () => condition()?.words,
    neighbours,
  })
  return createStatusPlugin({ status, access })
}

function attachmentsPlugin({ attaching }: Engine, { access, config }: HttpPortParts): PortPlugin[] {
  if (!attaching) return []
  return [createAttachmentsPlugin({ attachments: attaching.control, access, defaultAck: config.ack })]
}

function clusterPlugin({ cluster, access }: HttpPortParts): PortPlugin[] {
  return cluster ? [createClusterPlugin({ cluster, access })] : []
}

function nodesPlugin({ nodes, access }: HttpPortParts): PortPlugin[] {
  return nodes ? [createNodesPlugin({ nodes, access })] : []
}
