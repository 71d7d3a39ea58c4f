/**
 * Metadata in etcd, as the engine wants them: the client, this node's number (node-identity.ts), and the ordered store with its copy in DATA/meta. The
 * etcd is one that somebody else runs (`--meta`), or that of a cluster of gateways, of which this one is a node and runs a member
 * itself (`--cluster`). Part of the composition root.
 */
import { randomFillSync } from 'node:crypto'
import { join } from 'node:path'
import { clusterSettings } from './cli/cluster-settings.ts'
import { systemClock } from './common/clock.ts'
import type { Logger } from './common/logging.ts'
import { PREFIX_DEFAULT } from './config/metadata-location.ts'
import type { Config } from './config/parse.ts'
import { viewOfEtcd, type EtcdView } from './etcd-view.ts'
import type { Condition } from './gateway/http/health.ts'
import { LmdbBackend } from './meta/lmdb/lmdb-backend.ts'
import { etcdToServe } from './meta/migrate/serving.ts'
import { createEtcdAdmin } from './meta/raft/admin-client.ts'
import { createEtcdClient, type EtcdClientOptions } from './meta/raft/client.ts'
import { createEtcdStore, newIncarnation } from './meta/raft/etcd-store.ts'
import type { EtcdFigures, SharedStore } from './meta/raft/figures.ts'
import { EtcdLayout } from './meta/raft/layout.ts'
import type { Etcd } from './meta/raft/ports.ts'
import { forgetNode } from './meta/raft/node-number.ts'
import { startClusterNode, type ClusterNode } from './meta/raft/member/cluster-node.ts'
import type { StageOptions } from './meta/stage/options.ts'
import type { EmbeddedStore } from './meta/stage/ports.ts'
import { nodeIdentity, refuseMissingCluster, refuseMissingSharedMetadata, refuseOwnMetadata } from './node-identity.ts'

const ADMIN_CALL_MS_MAX = 2_000
/** How long etcd may be away when the gateway starts. */
const START_MS_MAX = 60_000
/** Every body that lies in metadata lies in the memory of every member of etcd (docs/decisions/0016). */
export const SHARED_INLINE_BYTES_MAX = 512

export interface SharedMetadata {
  readonly nodeNumber: number
  /** Of this process, as its session row says it: 16 hex digits. */
  readonly incarnation: string
  /** For what else lies below the prefix (neighbours.ts). Its revisions are etcd's own. Stopped with the rest. */
  readonly etcd: Etcd
  readonly layout: EtcdLayout
  /** Certificates that this gateway has for its etcd: of its cluster, or those of `--meta`. */
  readonly tls: SharedTls | undefined
  readonly createOrderedStore: (options: Omit<StageOptions, 'unwantedGroupMsMax'>) => EmbeddedStore
  /** Where this gateway runs a member of etcd itself. */
  readonly cluster: ClusterNode | undefined
  /** What clients are to be told while a majority of etcd does not answer; undefined while it does. */
  condition(): Condition | undefined
  /** Undefined before the store is made. */
  figures(): EtcdFigures | undefined
  /** Asks the members. */
  view(): Promise<EtcdView>
  /** Shuts a node out for good. False: there is no such node. */
  forgetNode(number: number): Promise<boolean>
  /** After the store has stopped. */
  stop(): Promise<void>
}

/** Paths; each may be missing where somebody else runs etcd. */
export interface SharedTls {
  readonly authorityPath?: string | undefined
  readonly certificatePath?: string | undefined
  readonly keyPath?: string | undefined
}

export interface SharedMetadataOptions {
  readonly dataPath: string
  readonly logger: Logger
  /** Ends the wait for etcd at start: what was opened then rejects with the signal's reason. */
  readonly signal: AbortSignal
  /** Another process has become this node. */
  readonly onFenced: (error: Error) => void
}

export function isShared(config: Pick<Config, 'meta' | 'cluster'>): boolean {
  return (config.meta ?? config.cluster) !== undefined
}

/**
 * Undefined where the gateway has metadata of its own.
 * @throws DataDirectoryUnusable or ClusterRefused when the directory and the metadata do not belong together, TidegateError when etcd does not answer
 */
export async function openSharedMetadata(
  config: Config,
  options: SharedMetadataOptions,
): Promise<SharedMetadata | undefined> {
  const { meta, metaCa, metaCert, metaKey, metaLogin } = config
  const { dataPath, logger, signal } = options
  if (meta) {
    refuseMissingCluster(dataPath)
    const tls = { authorityPath: metaCa, certificatePath: metaCert, keyPath: metaKey }
    const reached = { endpoints: meta.endpoints, tls, login: metaLogin }
    const opened = await openStore({ ...reached, prefix: meta.prefix, option: '--meta' }, config, options)
    const admin = createEtcdAdmin({ ...reached, clock: systemClock, callTimeoutMs: ADMIN_CALL_MS_MAX })
    const stop = async (): Promise<void> => {
      admin.close()
      await opened.stop()
    }
    return { ...opened, tls, cluster: undefined, view: () => viewOfEtcd(admin, meta.endpoints), stop }
  }
  const settings = clusterSettings(config, dataPath, logger)
  if (!settings) {
    refuseMissingSharedMetadata(dataPath)
    return undefined
  }
  const option = `--cluster ${settings.clusterName}`
  refuseOwnMetadata(dataPath, option)
  const cluster = await startClusterNode({ ...settings, signal })
  try {
    const { endpoints } = cluster
    const place = { endpoints, tls: settings.tls, prefix: PREFIX_DEFAULT, option }
    const opened = await openStore(place, config, options)
    const stop = async (): Promise<void> => {
      await opened.stop()
      await cluster.stop()
    }
    return { ...opened, tls: settings.tls, cluster, view: () => cluster.health(), stop }
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

interface Place extends Pick<EtcdClientOptions, 'endpoints' | 'tls' | 'login'> {
  readonly prefix: string
  readonly option: string
}

async function openStore(
  { prefix, option, ...reached }: Place,
  { staleReads }: Pick<Config, 'staleReads'>,
  { dataPath, logger, signal, onFenced }: SharedMetadataOptions,
): Promise<Omit<SharedMetadata, 'cluster' | 'tls' | 'view'>> {
  const etcd = createEtcdClient({ ...reached, clock: systemClock })
  await etcd.start()
  const stop = async (): Promise<void> => {
    await etcd.drain()
    await etcd.stop()
  }
  try {
    const onWaiting = (reason: string): void => logger.warn({}, `waiting for ${option}: ${reason}`)
    const waiting = { waitMsMax: START_MS_MAX, signal, onWaiting }
    const { number } = await nodeIdentity({ etcd, prefix, dataPath, option, ...waiting })
    const layout = new EtcdLayout(prefix)
    const served = await etcdToServe(etcd, layout)
    const incarnation = newIncarnation(randomFillSync)
    let store: SharedStore | undefined
    const createOrderedStore: SharedMetadata['createOrderedStore'] = (stage) =>
      (store = createEtcdStore({
        ...stage,
        etcd: served,
        prefix,
        node: number,
        incarnation,
        replica: new LmdbBackend({ directory: join(dataPath, 'meta') }),
        startSignal: signal,
        staleReads,
        onAway: (reason) => {
          if (reason === undefined) logger.info({}, 'etcd answers again')
          else logger.error({ reason, staleReads }, quorumLost(staleReads))
        },
        onFenced: () =>
          onFenced(
            new Error(
              `another process serves as node ${number}, or the others have shut this one out because it was away: it must end, and may be started again`,
            ),
          ),
      }))
    const condition = (): Condition | undefined =>
      store?.away === undefined ? undefined : { words: quorumLost(staleReads), serves: staleReads }
    const forget = async (other: number): Promise<boolean> => {
      const asked = { etcd, layout, clock: systemClock, waitMsMax: ADMIN_CALL_MS_MAX }
      return (await forgetNode(asked, other)).wasKnown
    }
    return {
      nodeNumber: number,
      incarnation: Buffer.from(incarnation, 'latin1').toString('hex'),
      etcd,
      layout,
      createOrderedStore,
      condition,
      figures: () => store?.figures,
      forgetNode: forget,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function quorumLost(staleReads: boolean): string {
  const reads = staleReads
    ? 'reads are answered from what was known before, nothing can be written'
    : 'nothing can be read or written'
  return `quorum is lost: etcd has no majority, or cannot be reached from here; ${reads} until it is back`
}
