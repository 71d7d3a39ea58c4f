/** Opens the remote store that the configuration names, as the engine wants it. */
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { isTidegateError } from './common/errors.ts'
import { DataDirectoryUnusable } from './config/data-directory.ts'
import type { Config } from './config/parse.ts'
import { diskLevelBytes } from './cache-tier/disk/disk-level.ts'
import { createPageReaderThreads } from './cache-tier/disk/page-reader.ts'
import type { EngineDiskLevel, EngineRemote } from './engine-parts.ts'
import { nodeFileSystem } from './persist/node-file-system.ts'
import { DirectoryStore } from './persist/remote/directory-store.ts'
import type { RemoteStore } from './persist/remote/ports.ts'
import { claimFor, finishClaim, refuseLostMetadata, refuseMissingRemote } from './remote-claim.ts'
import { RemoteGuard } from './remote-guard.ts'

/** Reads of the disk level are checked on so many threads. */
const READER_THREADS = 2
const FIRST_ANSWER_MS_MAX = 5000
/** The disk level gives way to what is written long before the reserve is reached: at a twentieth of the disk, but no more than some GiB. */
const FREE_SHARE = 0.05
const FREE_BYTES_MAX = 8 * 1024 ** 3

type RemoteConfig = Pick<
  Config,
  'remote' | 'remoteConcurrency' | 'remoteTimeout' | 'remoteRate' | 'remoteRequests' | 'segmentSize'
>

/** A client of the store; nothing is asked of it yet. `copies`: what is put into a directory stays where it was, too. */
export async function remoteStoreOf(config: RemoteConfig, copies = false): Promise<RemoteStore | undefined> {
  const { remote } = config
  switch (remote?.kind) {
    case undefined:
      return undefined
    case 'file':
      return new DirectoryStore({ directory: remote.directory, fileSystem: nodeFileSystem, copies })
    case 's3': {
      // The SDK takes a second and tens of MiB, which only those pay who want it.
      const { createS3Store } = await import('./persist/remote/s3-store.ts')
      const { createThreadFileSender } = await import('./persist/remote/thread-file-sender.ts')
      return createS3Store(remote, {
        fileSystem: nodeFileSystem,
        sender: createThreadFileSender(),
        concurrency: config.remoteConcurrency,
        timeoutMs: config.remoteTimeout,
        bytesPerSecond: config.remoteRate,
        requestsPerSecond: config.remoteRequests,
      })
    }
  }
}

export interface OpenedRemote {
  readonly remote: EngineRemote
  /** To be called once there is metadata. */
  readonly finishClaim: () => Promise<void>
}

/** @throws DataDirectoryUnusable when the directory and the store do not belong together */
export async function openRemote(
  config: Config,
  directory: { readonly path: string; readonly fresh: boolean },
  onFenced: (error: Error) => void,
): Promise<OpenedRemote | undefined> {
  const store = await remoteStoreOf(config)
  const { remote } = config
  if (!store || !remote) {
    refuseMissingRemote(directory.path)
    return undefined
  }
  refuseLostMetadata(directory.path)
  const claim = await claimFor(directory.path, store, {
    nowMs: systemClock.nowMs(),
    localSegments: join(directory.path, 'store', 'segments'),
    unmarkedIsOurs: remote.kind === 'file' && !directory.fresh,
  })
  const guard = new RemoteGuard({ remote: store, claim, clock: systemClock, onFenced })
  const carries = remote.kind === 'file' ? 'adopting' : 'uploading'
  const engineRemote = await engineRemoteOf(config, directory.path, { store, guard, carries })
  return { remote: engineRemote, finishClaim: () => finishClaim(directory.path, claim) }
}

/** Seen to be ours, unless it does not answer. @throws DataDirectoryUnusable when it is somebody else's */
export async function engineRemoteOf(
  config: Config,
  dataPath: string,
  { store, guard, carries }: { store: RemoteStore; guard: RemoteGuard; carries: EngineRemote['carries'] },
): Promise<EngineRemote> {
  await refuseFenced(guard, config.remote?.kind ?? 's3')
  return {
    store,
    carries,
    guard,
    names: {
      intervalMs: config.namesInterval,
      backupIntervalMs: config.backupInterval,
      backupsKept: config.backupKeep,
    },
    collectIntervalMs: config.collectInterval,
    drainMsMax: config.drainTimeout,
    disk: await diskLevelOf(config, dataPath),
  }
}

/**
 * A store over a network that does not answer soon is asked again later, and meanwhile what is here is served. A directory that is not
 * there now (not mounted, say) is no store: what was adopted lies in it and nowhere else.
 */
async function refuseFenced(guard: RemoteGuard, kind: 'file' | 's3'): Promise<void> {
  const patience = systemClock.sleep(FIRST_ANSWER_MS_MAX)
  const answer = kind === 'file' ? guard.verified() : Promise.race([guard.verified(), patience])
  const refused = await answer.then(
    () => undefined,
    (error: Error) => (kind === 'file' || isTidegateError(error, 'InvalidRequest') ? error : undefined),
  )
  if (refused) throw new DataDirectoryUnusable(`--remote: ${refused.message}`, { cause: refused })
}

async function diskLevelOf(config: Config, dataPath: string): Promise<EngineDiskLevel | undefined> {
  const { totalBytes } = await nodeFileSystem.space(dataPath)
  const bytesMax = diskLevelBytes(config.cacheDisk, totalBytes)
  if (bytesMax === 0) return undefined
  return {
    directory: join(dataPath, 'cache'),
    bytesMax,
    freeBytesMin: Math.min(totalBytes * FREE_SHARE, config.diskReserve + FREE_BYTES_MAX),
    createReader: (slab) => createPageReaderThreads({ slab, clock: systemClock, threads: READER_THREADS }),
  }
}
