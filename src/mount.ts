/** One mount: the FUSE door over an engine. Which there are is in mounts.ts. Part of the composition root, beside serve.ts. */
import { readdir, realpath } from 'node:fs/promises'
import { relative } from 'node:path'
import type { Clock } from './common/clock.ts'
import { TidegateError } from './common/errors.ts'
import type { Logger } from './common/logging.ts'
import { cleanDeadMount, findMount, resolveMountPoint } from './gateway/fuse/channel/mount-table.ts'
import { mountFuse } from './gateway/fuse/channel/mount.ts'
import type { ChannelTwin, FuseChannel } from './gateway/fuse/channel/ports.ts'
import type { MountMetrics } from './gateway/fuse/mount-metrics.ts'
import { READ_AHEAD_BYTES } from './gateway/fuse/operations/connection.ts'
import { FUSE_WRITE_BYTES_MAX } from './gateway/fuse/protocol/init.ts'
import { FuseSession } from './gateway/fuse/session.ts'
import type { MountStatistics } from './gateway/fuse/virtual/statistics.ts'
import type { Files, Store } from './store/doors.ts'

/** Writes whose bytes are on their way into memory; more wait in the kernel. */
export const SLOT_COUNT = 16
/** Halves the time of small calls in a row (stat, create, unlink), and is over before anybody notices. */
export const SPIN_US_MAX = 50

export interface MountParts {
  /** An existing, empty directory. */
  readonly directory: string
  readonly store: Pick<Store, 'reading' | 'objects'> & { readonly files: Files }
  readonly metrics: MountMetrics
  readonly statistics: MountStatistics
  readonly clock: Clock
  readonly logger: Logger
  /** Directories that the gateway itself lives in: a mount over them would make it wait for itself. */
  readonly ownPaths: readonly string[]
  /** How long whoever still uses the mount may go on after it was told to end. */
  readonly drainTimeoutMs: number
  /** Whether this is the only mount, so that nobody else's kernel writes files. */
  readonly isAlone: () => boolean
  readonly onBug: (error: unknown) => void
  readonly twin?: ChannelTwin
}

export interface Mounted {
  /** Without symbolic links. */
  readonly mountPoint: string
  /** Resolves when there is nothing more to serve, and what its users wrote is published: it was unmounted, by us or by anybody. */
  readonly ended: Promise<void>
  /** Takes the mount out of the tree, waits until its users are gone or their time is up, and publishes what they wrote. */
  stop(): Promise<void>
  /** The same, unless somebody uses it: then @throws Unavailable, and it goes on. */
  stopIdle(): Promise<void>
}

/** Resolves when the mount serves. @throws TidegateError InvalidArgument for the directory, Unavailable when the system refuses */
export async function mountNamespace(parts: MountParts): Promise<Mounted> {
  const { logger } = parts
  const mountPoint = await readyMountPoint(parts)
  const channel = await mountFuse({
    mountPoint,
    name: 'tidegate',
    allowOther: process.geteuid?.() === 0,
    defaultPermissions: true,
    writeBytesMax: FUSE_WRITE_BYTES_MAX,
    slotCount: SLOT_COUNT,
    spinUsMax: SPIN_US_MAX,
    ...(parts.twin === undefined ? {} : { twin: parts.twin }),
  })
  const { store, clock, metrics, statistics, isAlone, onBug } = parts
  const session = new FuseSession({
    channel,
    files: store.files,
    reading: store.reading,
    objects: store.objects,
    metrics,
    statistics,
    isAlone,
    clock,
    log: logger,
    onBug,
    onInit: () => void channel.setReadAheadKib(READ_AHEAD_BYTES / 1024),
  })
  session.start()
  let isStopping = false
  const ended = channel.closed
    .then(
      () => {
        if (!isStopping) logger.warn({ mountPoint }, 'somebody has taken the mount away; the other doors go on')
      },
      (error: unknown) => logger.error({ error, mountPoint }, 'the mount has failed; the other doors go on'),
    )
    .then(() => session.stop())
  logger.info({ mountPoint, channel: channel.twin }, 'the namespace is mounted')
  return {
    mountPoint,
    ended,
    async stop() {
      isStopping = true
      await unmount(channel, parts)
      await ended
    },
    async stopIdle() {
      isStopping = true
      try {
        await channel.unmount()
      } catch (error) {
        isStopping = false
        throw error
      }
      await unmount(channel, parts)
      await ended
    },
  }
}

async function readyMountPoint({ directory, ownPaths, logger }: MountParts): Promise<string> {
  const mountPoint = await resolveMountPoint(directory)
  if (await cleanDeadMount(mountPoint)) logger.warn({ mountPoint }, 'a dead mount was in the way and has been cleaned')
  if ((await findMount(mountPoint)) !== undefined) {
    throw new TidegateError('InvalidArgument', `mount point ${directory}: there is a mount already`)
  }
  for (const path of ownPaths) {
    const used = await realpath(path)
    if (isWithin(used, mountPoint) || isWithin(mountPoint, used)) {
      throw new TidegateError(
        'InvalidArgument',
        `mount point ${directory}: it and ${path}, which the gateway uses, may not lie in each other`,
      )
    }
  }
  const names = await namesIn(mountPoint)
  if (names.length > 0) throw new TidegateError('InvalidArgument', `mount point ${directory}: not an empty directory`)
  return mountPoint
}

function isWithin(path: string, directory: string): boolean {
  const way = relative(directory, path)
  return way === '' || (way !== '..' && !way.startsWith('../'))
}

async function namesIn(mountPoint: string): Promise<string[]> {
  try {
    return await readdir(mountPoint)
  } catch (error) {
    throw new TidegateError('InvalidArgument', `mount point ${mountPoint}: not a directory that can be read`, {
      cause: error,
    })
  }
}

async function unmount(channel: FuseChannel, { clock, drainTimeoutMs, logger }: MountParts): Promise<void> {
  try {
    await channel.unmount()
  } catch (error) {
    logger.info({ error, mountPoint: channel.mountPoint }, 'the mount is in use; its users may finish')
    await channel.unmount({ lazy: true })
  }
  const ended = channel.closed.catch(() => undefined)
  await Promise.race([ended, clock.sleep(drainTimeoutMs)])
  await channel.close()
}
