/**
 * Rename within a bucket (C26): an object with all its versions, or a whole directory. One transaction moves the entry;
 * what lies below a directory is keyed by its inode and stays where it is, so a million objects move at once.
 *
 * A key that ends in a slash names the directory, not its marker object. Versions of an object move with it, in the same
 * transaction; an object with more of them than a transaction may hold is refused.
 */
import { TidegateError } from '../../common/errors.ts'
import { beginStep, endStep, leaseInodes, type Commit, type NamespaceContext, type Step } from './context.ts'
import { moveName } from './files/links.ts'
import { entryKey, formerPlaceKey } from './keys.ts'
import { validateKey, validateNewKey } from './names.ts'
import { noSuchKey } from './object-version.ts'
import { inodesForKey } from './publish.ts'
import { encodeEntry, encodePlace, type VersionEntry } from './records-objects.ts'
import {
  currentEntry,
  findDirectory,
  findPlace,
  isExpired,
  keepsVersions,
  liveEntry,
  makePlace,
  settle,
  type Directory,
  type Place,
} from './tree.ts'
import { discardCurrent, newestInV, putVersion, takeOutOfV, versionsInV } from './versions.ts'

export interface RenameRequest {
  readonly bucket: string
  readonly from: string
  readonly to: string
  /** Given when the caller's two names lie in two buckets. @throws CrossBucket when it is another one */
  readonly toBucket?: string | undefined
  /** Whether an object at the target may be replaced. A directory never is. */
  readonly replace: boolean
}

/** Rows written for each version that moves: its entry twice, its inode. */
const OPERATIONS_PER_VERSION = 3
const OPERATIONS_RESERVED = 40

export async function rename(context: NamespaceContext, request: RenameRequest): Promise<Commit<void>> {
  if (request.toBucket !== undefined && request.toBucket !== request.bucket) {
    throw new TidegateError('CrossBucket', `rename from ${request.bucket} to ${request.toBucket}`)
  }
  const from = validateKey(request.from, context.limits)
  const to = validateNewKey(request.to, context.limits)
  const directory = from.endsWith('/')
  if (directory !== to.endsWith('/')) throw badTarget(request, 'a directory stays a directory')
  const ids = await leaseInodes(context, inodesForKey(to))
  return context.store.transact(async (tx) => {
    const step = await beginStep(context, tx, request.bucket, ids)
    if (from !== to)
      await (directory ? renameDirectory : renameObject)(step, { ...request, fromBytes: from, toBytes: to })
    endStep(step)
  })
}

type Renaming = RenameRequest & { readonly fromBytes: string; readonly toBytes: string }

async function renameDirectory(step: Step, request: Renaming): Promise<void> {
  const { fromBytes, toBytes } = request
  const source = await findPlace(step.tx, step.bucket, fromBytes)
  const moved = source?.directories.at(-1)
  if (!source || moved?.state !== 'live') throw noSuchKey(request.from)
  const cut = toBytes.lastIndexOf('/', toBytes.length - 2) + 1
  const name = toBytes.slice(cut)
  const target = await makePlace(step, toBytes.slice(0, cut), 'live')
  // In the transaction, by inodes: a target below the source would cut the subtree off from the root.
  if (target.directories.some((directory) => directory.inode === moved.inode)) {
    throw badTarget(request, 'the target lies under the source')
  }
  if (await occupied(step, target, name)) throw badTarget(request, 'the target exists')
  step.tx.delete(entryKey(moved.parent, moved.name))
  step.tx.put(entryKey(target.parent, name), encodeEntry({ kind: 'directory', inode: moved.inode }))
  await moveName(step, moved.inode, { from: moved, to: { parent: target.parent, name } })
  step.tx.put(formerPlaceKey(moved.inode), encodePlace(moved))
  await settle(step, { ...source, name: moved.name, directories: source.directories.slice(0, -1) })
}

async function occupied(step: Step, target: Place, name: string): Promise<boolean> {
  if (target.isNew) return false
  const where = { bucket: step.bucket, parent: target.parent, name, under: 'live' } as const
  const found: Directory | undefined = await findDirectory(step.tx, where)
  return found !== undefined
}

async function renameObject(step: Step, request: Renaming): Promise<void> {
  const source = await findPlace(step.tx, step.bucket, request.fromBytes)
  const current = source && (await liveEntry(step.tx, source, step.nowMs))
  if (!source || !current) throw noSuchKey(request.from)
  const target = await makePlace(step, request.toBytes, 'live')
  await clearTarget(step, target, request)
  const older = await olderVersions(step, source)
  step.tx.delete(entryKey(source.parent, source.name))
  step.tx.put(entryKey(target.parent, target.name), encodeEntry(current))
  await moveName(step, current.inode, { from: source, to: target })
  step.tx.put(formerPlaceKey(current.inode), encodePlace(source))
  await moveVersions(step, { source, target, older })
  await settle(step, source)
}

/** To a name that has none. */
export async function moveVersions(
  step: Step,
  { source, target, older }: { source: Place; target: Place; older: readonly VersionEntry[] },
): Promise<void> {
  for (const entry of older) {
    takeOutOfV(step, source, entry)
    putVersion(step, target, entry)
    if (entry.kind === 'object') await moveName(step, entry.inode, { from: source, to: target })
  }
}

/** Versions at the target would mix with those that come along: only a plain object is replaced. */
async function clearTarget(step: Step, target: Place, request: Renaming): Promise<void> {
  const existing = await currentEntry(step.tx, target)
  const expired = existing !== undefined && isExpired(existing, step.nowMs)
  if (existing && !expired && !request.replace) throw badTarget(request, 'the target exists')
  // One that has expired is an older version already: only its delete marker has yet to come.
  if (keepsVersions(step.bucket) && (expired || (await newestInV(step.tx, target)))) {
    throw badTarget(request, 'the target has older versions')
  }
  if (existing) await discardCurrent(step, target, existing)
}

/** All that lie in V. @throws InvalidRequest when a transaction cannot hold them */
export async function olderVersions(step: Step, source: Place): Promise<VersionEntry[]> {
  if (!keepsVersions(step.bucket)) return []
  const most = Math.floor((step.context.store.limits.operationsMax - OPERATIONS_RESERVED) / OPERATIONS_PER_VERSION)
  const versions: VersionEntry[] = []
  for await (const entry of versionsInV(step.tx, source)) {
    if (versions.length >= most) {
      throw new TidegateError('InvalidRequest', `an object with more than ${most} older versions cannot be renamed`)
    }
    versions.push(entry)
  }
  return versions
}

function badTarget(request: RenameRequest, why: string): TidegateError {
  const { from, to } = request
  return new TidegateError('InvalidArgument', `rename of ${JSON.stringify(from)} to ${JSON.stringify(to)}: ${why}`, {
    details: { argument: 'to', value: to },
  })
}
