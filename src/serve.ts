/** `tidegate serve`: the doors over an engine, from a configuration, until a signal ends it. */
import { randomFillSync } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { observeAttachments } from './attachment-metrics.ts'
import { AssertionFailed, must } from './common/assert.ts'
import { configuredAccess } from './cli/access.ts'
import { packageVersion } from './cli/version.ts'
import { systemClock } from './common/clock.ts'
import { prepareCrc32 } from './common/crc32.ts'
import { isTidegateError } from './common/errors.ts'
import { checkLimits, DEFAULT_LIMITS, type Limits } from './common/limits.ts'
import { createLogger, type Logger } from './common/logging.ts'
import { startTelemetry, type Telemetry } from './common/telemetry.ts'
import { rootUser, type RootUser } from './config/credentials.ts'
import { DataDirectoryUnusable, openDataDirectory, type DataDirectory } from './config/data-directory.ts'
import type { Config } from './config/parse.ts'
import { startEngine, type Engine } from './engine.ts'
import { observeSharedMetadata } from './etcd-metrics.ts'
import { externalBuckets } from './external-buckets.ts'
import type { EngineEvent, EngineParts, EngineRemote } from './engine-parts.ts'
import { createJournalStats, engineReadings, figuresOf, observeEngine, type EngineReadings } from './engine-metrics.ts'
import { MountMetrics } from './gateway/fuse/mount-metrics.ts'
import type { HttpPort } from './gateway/http/port.ts'
import { createAuthenticator } from './gateway/http/auth/authenticator.ts'
import { RequestMetrics } from './gateway/http/request-metrics.ts'
import type { ListenerOptions } from './gateway/http/listener.ts'
import { createDoorServer, type DoorServer } from './gateway/http/server.ts'
import { createS3Door } from './gateway/s3/door.ts'
import type { NodeControl } from './gateway/admin/nodes.ts'
import { httpPortOf } from './http-port.ts'
import { GatewayMounts } from './mounts.ts'
import { createLmdbStore } from './meta/lmdb/lmdb-store.ts'
import { WATCHED_ROWS } from './meta/namespace/changes.ts'
import { NAMES_KEY_LOG } from './meta/namespace/names-source.ts'
import { createHashWorkers } from './persist/hashing/hash-workers.ts'
import { createThreadDevice } from './persist/journal/device-threads.ts'
import { nodeFileSystem } from './persist/node-file-system.ts'
import { openRemote } from './remote-store.ts'
import { openSharedRemote } from './shared-remote.ts'
import { Neighbourhood } from './neighbourhood.ts'
import { isOfSharedMetadata } from './node-identity.ts'
import { isShared, openSharedMetadata, SHARED_INLINE_BYTES_MAX, type SharedMetadata } from './shared-metadata.ts'
import type { NeighbourStatus } from './status.ts'
import type { AccessControl, UserDirectory } from './store/access.ts'
import { createUserDirectory, userPrincipal, type UserConfig } from './store/users.ts'

/** Short for people and for S3 clients' eyes, long for `tar x`: what the mount did and nobody waits for is synced so much later. */
const UNWANTED_GROUP_MS_MAX = 10

export interface ServeOptions {
  /** Changes the engine's parts before it is built from them; for tests that stop the process at a given point. */
  readonly decorate?: (parts: EngineParts) => EngineParts
}

/** Resolves when the gateway was stopped by a signal. Rejects when it could not start, or had to end. */
export async function serve(config: Config, options: ServeOptions = {}): Promise<void> {
  const logger = createLogger({ level: config.logLevel, pretty: process.stderr.isTTY })
  const { users, access } = configuredAccess(config)
  const directory = await openDataDirectory(config.data)
  try {
    refuseUnnamedSegments(directory.path, config)
    const root = await rootUser(config.root, directory.path)
    if (root.made) showCredentials(root, { logger, dataPath: directory.path })
    await new Gateway(config, { logger, directory, dataPath: directory.path, root, users, access, ...options }).run()
  } finally {
    await directory.close()
  }
}

/**
 * Segments without the metadata that names them would look like orphans, and recovery removes orphans.
 * @throws DataDirectoryUnusable
 */
function refuseUnnamedSegments(dataPath: string, config: Config): void {
  const segments = join(storePath(dataPath, config), 'segments')
  const metadata = join(dataPath, 'meta', 'data.mdb')
  // What is in etcd is only copied here, and copied again when that is lost; who does not name it is refused for that (node-identity.ts).
  if (isOfSharedMetadata(dataPath)) return
  if (existsSync(metadata) || !existsSync(segments)) return
  const shards = readdirSync(segments)
  if (!shards.some((shard) => readdirSync(join(segments, shard)).length > 0)) return
  throw new DataDirectoryUnusable(
    `${segments} holds segments, and ${metadata}, which names what is in them, is not there: ` +
      'put it back, or point --data or --remote elsewhere',
  )
}

function storePath(dataPath: string, config: Config): string {
  // What nodes share is put into a directory, as into any other store, and not adopted there.
  return config.remote?.kind === 'file' && !isShared(config) ? config.remote.directory : join(dataPath, 'store')
}

interface Surroundings extends ServeOptions {
  readonly logger: Logger
  readonly directory: DataDirectory
  readonly dataPath: string
  readonly root: RootUser
  readonly users: readonly UserConfig[]
  readonly access: AccessControl
}

interface HttpPortOver {
  readonly telemetry: Telemetry
  readonly mounts: GatewayMounts
  readonly others: Neighbourhood | undefined
  readonly neighbours: NeighbourStatus | undefined
}

/** No failure: the gateway was told to end before it served. */
class EndedBySignal extends Error {}

class Gateway {
  readonly #config: Config
  readonly #surroundings: Surroundings
  readonly #metrics = new RequestMetrics()
  readonly #mountMetrics = new MountMetrics()
  readonly #journal = createJournalStats()
  readonly #directory: UserDirectory
  readonly #ended: Promise<void>
  /** Aborted by the signal that ends the gateway. */
  readonly #stopping = new AbortController()
  #end: () => void = () => undefined
  #fail: (error: unknown) => void = () => undefined
  #ready = false
  #shared: SharedMetadata | undefined

  constructor(config: Config, surroundings: Surroundings) {
    this.#config = config
    this.#surroundings = surroundings
    const { root, users } = surroundings
    this.#directory = createUserDirectory({
      root: { accessKey: root.accessKey, secretKey: root.secretKey.reveal() },
      users,
    })
    this.#ended = new Promise((resolve, reject) => {
      this.#end = () => {
        this.#stopping.abort(new EndedBySignal('the gateway was ended while it waited to start'))
        resolve()
      }
      this.#fail = reject
    })
    this.#ended.catch(() => undefined)
  }

  async run(): Promise<void> {
    const forgetSignals = this.#listenToSignals()
    // What has been started is ended in the opposite order, however far the start came.
    const ending: (() => Promise<void>)[] = []
    try {
      await this.#start(ending)
      await this.#ended
    } catch (error) {
      if (!(error instanceof EndedBySignal)) throw error
    } finally {
      this.#ready = false
      for (const end of ending.reverse()) {
        await end().catch((error: unknown) => this.#surroundings.logger.error({ error }, 'stopping failed'))
      }
      forgetSignals()
      this.#surroundings.logger.info({}, 'the gateway has stopped')
    }
  }

  async #start(ending: (() => Promise<void>)[]): Promise<void> {
    const { logger } = this.#surroundings
    const { otlpEndpoint } = this.#config
    const version = packageVersion()
    // Before any thread is started: each takes the twin that it finds.
    await prepareCrc32()
    const telemetry = await startTelemetry({
      version,
      otlpEndpoint,
      producers: [this.#metrics, this.#mountMetrics],
      logger,
    })
    ending.push(() => telemetry.stop())
    const { decorate } = this.#surroundings
    const { path, fresh } = this.#surroundings.directory
    const onFenced = (error: Error): void => this.#mustEnd(error)
    const opened = isShared(this.#config) ? undefined : await openRemote(this.#config, { path, fresh }, onFenced)
    const shared = await this.#sharedMetadata()
    this.#shared = shared
    if (shared) ending.push(() => shared.stop())
    const remote = shared
      ? await openSharedRemote(this.#config, { dataPath: path, ...shared }, onFenced)
      : opened?.remote
    const others = shared && (await Neighbourhood.open(this.#config, shared, this.#surroundings))
    if (others) ending.push(() => others.stop())
    const parts = { ...this.#engineParts(remote, shared), ...others?.parts }
    const engine = await startEngine(decorate ? decorate(parts) : parts)
    ending.push(() => engine.stop())
    await opened?.finishClaim()
    const readings = engineReadings(engine, this.#journal.stats)
    observeEngine(readings)
    if (shared) observeSharedMetadata(shared, systemClock)
    const neighbours = others?.attend(engine, remote?.carries === 'uploading')
    if (engine.attaching) observeAttachments({ ...engine.attaching, clock: systemClock })
    await makeBuckets(engine, this.#config)
    ending.push(() => engine.drain())
    const mounts = this.#mounts(engine, readings)
    const http = this.#httpPort(engine, { telemetry, mounts, others, neighbours })
    ending.push(() => drained(http))
    await http.start()
    const s3 = this.#s3Door(engine, telemetry)
    ending.push(() => drained(s3))
    await s3.start()
    ending.push(() => mounts.stop())
    await mounts.start(this.#config.mount)
    await others?.serving()
    if (others) ending.push(() => others.leave())
    this.#ready = true
    this.#announce(s3.url, http.url)
  }

  async #sharedMetadata(): Promise<SharedMetadata | undefined> {
    const { directory, logger } = this.#surroundings
    return await openSharedMetadata(this.#config, {
      dataPath: directory.path,
      logger,
      signal: this.#stopping.signal,
      onFenced: (error) => this.#mustEnd(error),
    })
  }

  #engineParts(remote: EngineRemote | undefined, shared: SharedMetadata | undefined): EngineParts {
    const { dataPath } = this.#surroundings
    const config = this.#config
    const limits = limitsOf(config)
    return {
      clock: systemClock,
      remote,
      // What carries their changes out knows of one node only.
      attach: shared ? undefined : externalBuckets(config),
      nodeNumber: shared?.nodeNumber,
      limits,
      fileSystem: nodeFileSystem,
      places: { journal: join(dataPath, 'journal'), store: storePath(dataPath, config) },
      slabBytes: config.cacheMemory,
      defaultAck: config.ack,
      diskReserveBytes: config.diskReserve,
      createDevice: ({ buffer, blockBytes, pageBytes }) =>
        createThreadDevice(
          { slab: buffer, blockBytes, pageBytes },
          { observer: this.#journal.observer, onDeath: (error) => this.#mustEnd(error) },
        ),
      createHashing: (slab) => createHashWorkers({ slab, workers: config.hashWorkers, queueSlicesMax: 64 }),
      createOrderedStore: (beforeCommit) => {
        const options = {
          beforeCommit,
          ...(remote ? { keyLog: NAMES_KEY_LOG } : {}),
          ...WATCHED_ROWS,
          changeLogRevisionsMax: config.changeLogRevisions,
          admissionWaitMsMax: limits.admissionWaitMsMax,
        }
        if (shared) return shared.createOrderedStore(options)
        const directory = join(dataPath, 'meta')
        return createLmdbStore({ ...options, directory, unwantedGroupMsMax: UNWANTED_GROUP_MS_MAX })
      },
      fillRandom: randomFillSync,
      random: Math.random,
      onEvent: (event) => logEvent(this.#surroundings.logger, event, shared?.condition() !== undefined),
    }
  }

  #httpPort(engine: Engine, { telemetry, mounts, others, neighbours }: HttpPortOver): HttpPort {
    const { logger, access } = this.#surroundings
    return httpPortOf({
      config: this.#config,
      limits: limitsOf(this.#config),
      engine,
      mounts,
      cluster: this.#shared?.cluster,
      nodes: this.#shared && others && nodeControl(this.#shared, engine, others),
      neighbours,
      telemetry,
      metrics: this.#metrics,
      users: this.#directory,
      access,
      logger,
      listener: this.#listener('http'),
      ready: () => this.#ready,
      condition: () => this.#shared?.condition(),
      onBug: (error) => this.#mustEnd(error),
    })
  }

  #listener(name: string): Omit<ListenerOptions, 'host' | 'port'> {
    const { tls, connectionsMax, idleTimeout, drainTimeout } = this.#config
    const { logger } = this.#surroundings
    return { name, tls, logger, connectionsMax, idleTimeoutMs: idleTimeout, drainTimeoutMs: drainTimeout }
  }

  #s3Door(engine: Engine, telemetry: Telemetry): DoorServer {
    const config = this.#config
    const { logger, users, access } = this.#surroundings
    const authenticator = createAuthenticator({
      users: this.#directory,
      clock: systemClock,
      region: config.region,
      services: ['s3'],
      externalUrl: config.externalUrl,
      trustedProxies: config.trustedProxy,
    })
    const names = new Map(users.map((user) => [userPrincipal(user).id, userPrincipal(user).displayName]))
    const handler = createS3Door({
      store: engine.store,
      access,
      authenticate: (request) => authenticator.authenticate(request),
      clock: systemClock,
      region: config.region,
      domains: config.domain,
      limits: limitsOf(config),
      owner: (id) => ({ id, displayName: names.get(id) ?? id }),
      log: logger,
      bodyIdleMsMax: config.idleTimeout,
    })
    return createDoorServer({
      ...this.#listener('s3'),
      host: config.s3.host,
      port: config.s3.port,
      handler,
      metrics: this.#metrics,
      ready: () => this.#ready,
      condition: () => this.#shared?.condition(),
      accessLog: config.accessLog,
      onBug: (error) => this.#mustEnd(error),
      tracing: telemetry.tracing,
    })
  }

  #mounts({ store }: Engine, readings: EngineReadings): GatewayMounts {
    const { logger, dataPath } = this.#surroundings
    const { drainTimeout, remote } = this.#config
    return new GatewayMounts({
      store,
      metrics: this.#mountMetrics,
      statistics: { figures: () => figuresOf(readings) },
      clock: systemClock,
      logger,
      ownPaths: remote?.kind === 'file' ? [dataPath, remote.directory] : [dataPath],
      drainTimeoutMs: drainTimeout,
      onBug: (error) => this.#mustEnd(error),
    })
  }

  #announce(s3Url: string, httpUrl: string): void {
    const { logger, dataPath } = this.#surroundings
    process.stdout.write(`ready s3=${s3Url} http=${httpUrl}\n`)
    logger.info({ s3: s3Url, http: httpUrl, data: dataPath }, 'the gateway serves')
    if (process.stderr.isTTY) process.stderr.write(tryIt(s3Url, this.#config.region))
  }

  /** Nothing that follows could be trusted: drains what can be drained and ends with code 1. */
  #mustEnd(error: unknown): void {
    const { logger } = this.#surroundings
    logger.fatal({ error }, error instanceof AssertionFailed ? 'a broken invariant' : 'the process must end')
    process.exitCode = 1
    this.#fail(error)
  }

  /** The first SIGTERM or SIGINT drains; a second one stops at once, which loses nothing acknowledged. */
  #listenToSignals(): () => void {
    const { logger } = this.#surroundings
    let signals = 0
    const onSignal = (signal: NodeJS.Signals): void => {
      if (++signals > 1) process.exit(0)
      logger.info({ signal }, 'draining: no new connections, requests in flight finish')
      this.#end()
    }
    const onBug = (error: unknown): void => this.#mustEnd(error)
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
    process.on('uncaughtException', onBug).on('unhandledRejection', onBug)
    return () => {
      process.off('SIGTERM', onSignal).off('SIGINT', onSignal)
      process.off('uncaughtException', onBug).off('unhandledRejection', onBug)
    }
  }
}

function nodeControl(shared: SharedMetadata, { namespace, handOver }: Engine, others: Neighbourhood): NodeControl {
  return {
    own: shared.nodeNumber,
    list: () => namespace.nodes(),
    remove: async (number) => ((await shared.forgetNode(number)) ? await namespace.removeNode(number) : undefined),
    async drain(waitMsMax) {
      await others.leave()
      return await must(handOver, 'copies of a node among others').run(waitMsMax)
    },
  }
}

function limitsOf(config: Config): Limits {
  return checkLimits({
    ...DEFAULT_LIMITS,
    ...(isShared(config) && { inlineBytesMax: SHARED_INLINE_BYTES_MAX }),
    segmentBytesMax: config.segmentSize,
    segmentAgeMsMax: config.segmentAge,
    admissionWaitMsMax: config.admissionWait,
    backlogBytesMax: config.backlogMax,
    flushConcurrency: config.flushConcurrency,
    flushAgeMsMax: config.flushAge,
  })
}

async function makeBuckets(engine: Engine, config: Config): Promise<void> {
  for (const name of config.buckets) {
    await engine.store.buckets.create({ name, owner: 'root', region: config.region }).catch((error: unknown) => {
      if (!isTidegateError(error, 'BucketAlreadyOwnedByYou') && !isTidegateError(error, 'BucketAlreadyExists'))
        throw error
    })
  }
}

/** Made credentials are shown once, to a person at a terminal, and never logged. */
function showCredentials(root: RootUser, { logger, dataPath }: { logger: Logger; dataPath: string }): void {
  const path = join(dataPath, 'credentials')
  if (!process.stderr.isTTY) return logger.info({ path }, 'root credentials were made; they are in this file')
  process.stderr.write(`
Root credentials were made just now. They are kept in ${path} and not shown again:

  export AWS_ACCESS_KEY_ID=${root.accessKey} AWS_SECRET_ACCESS_KEY=${root.secretKey.reveal()}

`)
}

function tryIt(url: string, region: string): string {
  return `\nTry:  AWS_DEFAULT_REGION=${region} aws --endpoint-url ${url} s3 mb s3://first\n\n`
}

async function drained(server: { drain(): Promise<void>; stop(): Promise<void> }): Promise<void> {
  await server.drain()
  await server.stop()
}

/** `isToldOf`: why jobs fail just now is told already. */
function logEvent(logger: Logger, event: EngineEvent, isToldOf: boolean): void {
  switch (event.kind) {
    case 'recovered': {
      const { lost, ...counts } = event.report
      if (lost.length > 0) logger.error({ ...counts, lost }, 'acknowledged bytes are missing: the disk lost them')
      else logger.info({ ...counts }, 'recovered')
      return
    }
    case 'segment-broken':
      return logger.error(
        { segment: event.segment, error: event.cause },
        'a segment could not be written; it will be mended',
      )
    case 'persist-failed': {
      const { segment, action, attempt, cause: error } = event
      return logger.error({ segment, action, attempt, error }, 'a segment could not be carried to the remote store yet')
    }
    case 'bad-block':
      return logger.error({ segment: event.segment, block: event.block }, 'a block failed its checksum')
    case 'segment-missing':
      return logger.error(
        { segment: event.segment },
        'a segment is missing in the remote store: what lies in it is lost',
      )
    case 'carry-out-failed': {
      const { bucket, key, attempt, cause: error } = event
      return logger.error({ bucket, key, attempt, error }, 'a change could not be carried to the external bucket yet')
    }
    case 'conflict': {
      const { bucket, key, ended, as } = event
      return logger.warn({ bucket, key, ended, as }, 'a key was changed here and outside')
    }
    case 'job-failed': {
      const level = isToldOf && isTidegateError(event.cause, 'Unavailable') ? 'debug' : 'error'
      return logger[level]({ job: event.job, error: event.cause }, 'a background job failed; it will be tried again')
    }
  }
}
