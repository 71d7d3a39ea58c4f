/**
 * The loser of a conflict that keeps both goes under another key, dirty, with nothing expected there; what lies outside takes the key.
 *
 * Where the body is that of the external object which has been overwritten there is nothing of ours to be kept: only attributes of it were changed.
 */
import { TidegateError } from '../../../common/errors.ts'
import { utf8Bytes, type Revision } from '../../../common/ids.ts'
import { endStep, revisionMade, type Commit, type Step } from '../context.ts'
import { moveName } from '../files/links.ts'
import { entryKey, formerPlaceKey } from '../keys.ts'
import { validateNewKey } from '../names.ts'
import { inodesForKey } from '../publish.ts'
import { encodeEntry, encodePlace } from '../records-objects.ts'
import { currentEntry, findPlace, makePlace, settle as settleDirectories, type Place } from '../tree.ts'
import { readObjectInode } from '../versions.ts'
import { mirrorStep, readAttached, type MirrorContext } from './mirror-context.ts'
import { makeObjectAt, removeObject } from './mirror-entries.ts'
import { decodeDirty, dirtyKey, encodeDirty } from './rows.ts'
import type { DescribedObject } from './types.ts'

export interface SetAsideRequest {
  readonly bucketId: number
  readonly key: string
  readonly revision: Revision
  readonly as: string
  readonly outside: DescribedObject | undefined
}

interface Aside extends SetAsideRequest {
  readonly keyBytes: string
  readonly asBytes: string
}

export async function setAside(context: MirrorContext, request: SetAsideRequest): Promise<Commit<boolean>> {
  const { bucketId, revision, as } = request
  const keyBytes = utf8Bytes(request.key)
  const asBytes = validateNewKey(as, context.limits)
  const rowKey = dirtyKey(bucketId, keyBytes)
  const ids = await context.ids.take(inodesForKey(keyBytes) + inodesForKey(asBytes))
  const done = await context.store.transact(async (tx) => {
    const lease = { next: ids.first, end: ids.first + ids.count }
    const row = await tx.get(rowKey)
    const attached = row && (await readAttached(tx, bucketId))
    if (!attached || decodeDirty(rowKey, row).revision !== revision) return { isAside: false, lease }
    const step = mirrorStep(context, tx, { bucket: attached.bucket, ids })
    await giveWay(step, { ...request, keyBytes, asBytes })
    tx.delete(rowKey)
    context.recent.note(bucketId, keyBytes, { revision: revisionMade(step) })
    endStep(step)
    return { isAside: true, lease: step.ids }
  })
  context.ids.giveBack(done.value.lease)
  if (done.value.isAside) context.tracked.tell([{ bucketId, key: as }])
  return { ...done, value: done.value.isAside }
}

async function giveWay(step: Step, request: Aside): Promise<void> {
  const { tx } = step
  const source = await findPlace(tx, step.bucket, request.keyBytes)
  const current = source && (await currentEntry(tx, source))
  if (source && current) {
    const { body } = await readObjectInode(tx, current.inode)
    const isTheirs = body.kind === 'external' && body.external.key === request.key
    if (isTheirs) await removeObject(step, source, current)
    else await moveAside(step, source, request)
  }
  if (request.outside) await makeObjectAt(step, { key: request.keyBytes, outside: request.outside })
  else if (source) await settleDirectories(step, source)
}

async function moveAside(step: Step, source: Place, { bucketId, as, asBytes }: Aside): Promise<void> {
  const { tx } = step
  const current = await currentEntry(tx, source)
  const target = await makePlace(step, asBytes, 'live')
  if (!current || (await currentEntry(tx, target))) {
    throw new TidegateError('ConditionalRequestConflict', `there is an object ${JSON.stringify(as)}`)
  }
  tx.delete(entryKey(source.parent, source.name))
  tx.put(entryKey(target.parent, target.name), encodeEntry(current))
  await moveName(step, current.inode, { from: source, to: target })
  tx.put(formerPlaceKey(current.inode), encodePlace(source))
  const dirty = {
    key: as,
    base: { kind: 'absent' },
    sinceMs: Math.floor(step.nowMs),
    revision: revisionMade(step),
    neededBy: [],
    conflict: undefined,
  } as const
  tx.put(dirtyKey(bucketId, asBytes), encodeDirty(dirty))
}
