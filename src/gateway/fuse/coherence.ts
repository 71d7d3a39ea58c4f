/**
 * What the kernel may believe, and telling it what is no longer so.
 *
 * The kernel keeps names, attributes and pages for CACHED_MS. That is long because the store tells every change once it is visible:
 * here it becomes a notification, if the kernel knows what changed (`known`, counted as the protocol counts lookups), and if it was
 * not this mount that changed it (`during`: the kernel sees the outcome of its own request).
 *
 * Two races, and why nothing stale stays:
 *
 * - A change while a request about the same name is answered. The kernel holds the directory's lock from the request until it has
 *   taken the reply in, and INVAL_ENTRY waits for that lock: so a notification always comes after the reply that it corrects.
 *   (Therefore they go out from another thread, and no answer may wait for one, but that of an open: `toldOf`.)
 * - A change of a node that the kernel does not know yet, between our reading it and the reply that makes it known. A notification
 *   would find nothing; such a reply is sent with time-outs of zero (`timesSince`).
 *
 * An own operation takes away one notification for each thing that it names, and only while it runs. If somebody else changes the
 * same name in the same moment, the other notification is sent, after the reply: the kernel then asks again.
 */
import type { Clock } from '../../common/clock.ts'
import type { ByteString, InodeId } from '../../common/ids.ts'
import type { Logger } from '../../common/logging.ts'
import type { FileChange } from '../../common/file-model.ts'
import type { FuseChannel } from './channel/ports.ts'
import { nodeIdOf } from './nodes.ts'
import type { CacheTimes } from './protocol/attributes.ts'
import { NotificationEncoder } from './protocol/notifications.ts'

/** For how long the kernel need not ask again for what it was not told of. */
const CACHED_MS = 60_000
const CACHED: CacheTimes = { entryMs: CACHED_MS, attributesMs: CACHED_MS }
const NOT_CACHED: CacheTimes = { entryMs: 0, attributesMs: 0 }

/** Changes that requests under way are compared with; of what is older, everything counts as changed. */
const RECENT_MAX = 4096

/** NAME_MAX of Linux. */
const NAME_BYTES_MAX = 255

/** A slow request, which holds pages or a directory, may keep the thread that tells: an open goes on then, without the pages that were kept. */
const TOLD_MS_MAX = 2_000

const ROOT: InodeId = 0

/** What an operation of the mount changes by itself. */
export interface OwnChanges {
  readonly entries?: readonly (readonly [parent: InodeId, name: ByteString])[]
  readonly nodes?: readonly InodeId[]
}

/** A point in the sequence of changes. */
export type ChangePoint = number

/** The last change of something, and the one before it. */
interface Changed {
  readonly last: ChangePoint
  readonly before: ChangePoint
}

const NEVER: Changed = { last: 0, before: 0 }

export interface CoherenceOptions {
  readonly channel: Pick<FuseChannel, 'notify'>
  readonly clock: Clock
  readonly log: Logger
  /** Whether the mount has the file open for writing: if no other mount does, its pages are then the newest there are. */
  readonly isWritten: (inode: InodeId) => boolean
  /** Whether there is no other mount, on any node. */
  readonly isAlone: () => boolean
}

export class Coherence {
  readonly #options: CoherenceOptions
  readonly #encoder = new NotificationEncoder()
  readonly #lookups = new Map<InodeId, number>([[ROOT, 1]])
  /** How many notifications own operations under way take away, by key. */
  readonly #own = new Map<string, number>()
  /** Inode, or parent of the name, that changed -> when. */
  readonly #recent = new Map<InodeId, Changed>()
  /** What changed at which point, for the last `RECENT_MAX` points, in a ring: a Map is slow to give up its oldest. */
  readonly #changed: InodeId[] = []
  readonly #telling = new Set<Promise<void>>()
  /** The last one of each inode that is under way: they go out in order. */
  readonly #tellingOf = new Map<InodeId, Promise<void>>()
  #now: ChangePoint = 0
  /** Up to here `#recent` has forgotten what changed. */
  #forgotten: ChangePoint = 0

  constructor(options: CoherenceOptions) {
    this.#options = options
  }

  /** An entry reply gives the kernel a reference. */
  known(inode: InodeId): void {
    this.#lookups.set(inode, (this.#lookups.get(inode) ?? 0) + 1)
  }

  forget(inode: InodeId, lookupCount: number): void {
    if (inode === ROOT) return
    const rest = (this.#lookups.get(inode) ?? 0) - lookupCount
    if (rest > 0) this.#lookups.set(inode, rest)
    else this.#lookups.delete(inode)
  }

  point(): ChangePoint {
    return this.#now
  }

  /** How long the kernel may keep what was read after `point` of these inodes (of a name, that of its directory). */
  timesSince(point: ChangePoint, ...inodes: readonly InodeId[]): CacheTimes {
    return this.isAsKnown(point, ...inodes) ? CACHED : NOT_CACHED
  }

  /** Nothing but the mount's own operations has changed them since. */
  isAsKnown(point: ChangePoint, ...inodes: readonly InodeId[]): boolean {
    if (this.#now === point) return true
    if (point < this.#forgotten) return false
    return !inodes.some((inode) => (this.#recent.get(inode) ?? NEVER).last > point)
  }

  /** The same for what was made after `point`: its making is one change of it, which the answer knows. */
  timesOfMade(point: ChangePoint, { parent, made }: { readonly parent: InodeId; readonly made: InodeId }): CacheTimes {
    if (point < this.#forgotten || (this.#recent.get(parent) ?? NEVER).last > point) return NOT_CACHED
    return (this.#recent.get(made) ?? NEVER).before > point ? NOT_CACHED : CACHED
  }

  /** Runs an operation that the kernel asked for. */
  async during<T>(changes: OwnChanges, run: () => Promise<T>): Promise<T> {
    const keys = [
      ...(changes.entries ?? []).map(([parent, name]) => entryKey(parent, name)),
      ...(changes.nodes ?? []).map(nodeKey),
    ]
    for (const key of keys) this.#own.set(key, (this.#own.get(key) ?? 0) + 1)
    try {
      return await run()
    } finally {
      for (const key of keys) this.#takeOwn(key)
    }
  }

  changed(changes: readonly FileChange[]): void {
    const keysSeen = new Set<string>()
    for (const change of changes) {
      if (change.kind === 'content') {
        this.#contentChanged(change.inode)
        continue
      }
      const isEntry = change.kind === 'entry'
      // S3 has names that the mount does not show, and the kernel never asked about with success.
      if (isEntry && (change.name === '' || change.name.length > NAME_BYTES_MAX)) continue
      const inode = isEntry ? change.parent : change.inode
      const key = isEntry ? entryKey(inode, change.name) : nodeKey(inode)
      if (keysSeen.has(key)) continue
      keysSeen.add(key)
      if (this.#takeOwn(key)) continue
      this.#remember(inode)
      if (!this.#lookups.has(inode)) continue
      if (isEntry) void this.#notify(this.#encoder.entryChanged(nodeIdOf(inode), change.name))
      else this.#nodeChanged(inode)
    }
  }

  /** No operation's own doing, whoever has the file open. */
  #contentChanged(inode: InodeId): void {
    this.#remember(inode)
    if (this.#lookups.has(inode)) this.#tell(inode, this.#encoder.dataChanged(nodeIdOf(inode), 0, 0))
  }

  #nodeChanged(inode: InodeId): void {
    const nodeId = nodeIdOf(inode)
    const { isAlone, isWritten } = this.#options
    const isOurs = isAlone() && isWritten(inode)
    this.#tell(inode, isOurs ? this.#encoder.attributesChanged(nodeId) : this.#encoder.dataChanged(nodeId, 0, 0))
  }

  #takeOwn(key: string): boolean {
    const count = this.#own.get(key)
    if (count === undefined) return false
    if (count === 1) this.#own.delete(key)
    else this.#own.set(key, count - 1)
    return true
  }

  #remember(inode: InodeId): void {
    this.#now += 1
    this.#recent.set(inode, { last: this.#now, before: this.#recent.get(inode)?.last ?? 0 })
    const point = this.#now - RECENT_MAX
    const slot = this.#now % RECENT_MAX
    const oldest = this.#changed[slot]
    this.#changed[slot] = inode
    if (oldest === undefined) return
    this.#forgotten = point
    if (this.#recent.get(oldest)?.last === point) this.#recent.delete(oldest)
  }

  /** Resolves when the kernel has been told of all that has changed so far. */
  async told(): Promise<void> {
    await Promise.all(this.#telling)
  }

  /**
   * Waits until the kernel has been told of all changes of the file so far; false when it could not be for a while. Close-to-open needs it: an open's
   * answer says nothing of the size, and lets the kernel keep pages. An open holds no lock then that a notification waits for, unless it cuts the file.
   */
  async toldOf(inode: InodeId): Promise<boolean> {
    const telling = this.#tellingOf.get(inode)
    if (telling === undefined) return true
    const over = new AbortController()
    const told = telling.then(() => true)
    const asleep = this.#options.clock.sleep(TOLD_MS_MAX, over.signal).then(
      () => false,
      () => true,
    )
    const isTold = await Promise.race([told, asleep])
    over.abort()
    return isTold
  }

  #tell(inode: InodeId, length: number): void {
    const telling = this.#notify(length).finally(() => {
      if (this.#tellingOf.get(inode) === telling) this.#tellingOf.delete(inode)
    })
    this.#tellingOf.set(inode, telling)
  }

  #notify(length: number): Promise<void> {
    const telling = this.#options.channel
      .notify(Uint8Array.from(this.#encoder.bytes.subarray(0, length)))
      .catch((error: unknown) => {
        // What is not told is believed until its time-out at most.
        this.#options.log.warn({ error }, 'the kernel could not be told of a change')
      })
      .finally(() => this.#telling.delete(telling))
    this.#telling.add(telling)
    return telling
  }
}

function entryKey(parent: InodeId, name: ByteString): string {
  return `${parent}/${name}`
}

function nodeKey(inode: InodeId): string {
  return String(inode)
}
