/**
 * Removing what has expired, in bounded steps (C2). Nobody waits for it: from its time on a key names nothing (tree.ts,
 * `isExpired`), so this only gives the space back, and lets common prefixes go that hold nothing else (C31).
 *
 * A step takes rows of table T in the order of their times and removes each object by the rules of a delete without a
 * version id: from a bucket that was never versioned it goes, elsewhere a delete marker of the bucket's owner covers it and
 * it stays as an older version. The object is found through its inode's parents (C10), so it goes from where it lies by now,
 * whatever was renamed.
 *
 * A step is durable when it settles, so that whoever calls for one after another cannot get ahead of the disk.
 *
 * Everything is read in the step's transaction, the rows of T too: a key that is overwritten meanwhile has lost its row.
 */
import { assert, must } from '../../common/assert.ts'
import { NO_CONDITIONS } from '../../common/conditions.ts'
import { utf8Text, type ByteString } from '../../common/ids.ts'
import type { ReadView, Row, Transaction } from '../ports.ts'
import {
  beginStep,
  endStep,
  leaseInodes,
  nothingWritten,
  type Commit,
  type IdLease,
  type NamespaceContext,
  type Step,
} from './context.ts'
import { EXPIRIES, EXPIRY_INODE_AT, EXPIRY_TIME_AT, expiryKey, integerAt } from './keys.ts'
import { removeIn } from './remove.ts'
import { currentEntry, findPlace, pathOf } from './tree.ts'
import { readObjectInode } from './versions.ts'

/** So that other transactions, which wait for this one on a serial engine, wait a few milliseconds. */
const OPERATIONS_PER_STEP_MAX = 2048
/**
 * The most that one removal writes, directories aside. In a suspended bucket, over a version that is not the null one:
 * another null version goes (row, pointer, inode, content, dropped content, attributes), this one moves (out of D, into V, out of T),
 * the marker comes (row, pointer); and the bucket's usage. In an attached bucket less, and two traces (attached/traces.ts).
 */
const OPERATIONS_PER_KEY = 14
/** A directory that goes with its last object: entry, inode, former place. */
const OPERATIONS_PER_DIRECTORY = 3

/** What one run of a step works with. */
interface ExpiryStep {
  readonly context: NamespaceContext
  readonly tx: Transaction
  /** For delete markers: one is enough for a key, whose directories exist. */
  readonly ids: IdLease
  /** By name. */
  readonly buckets: Map<string, Step>
}

/** One step. `expired` is 0 when there is nothing left to do now. */
export async function expire(context: NamespaceContext): Promise<Commit<{ expired: number }>> {
  const due = await context.store.read((view) => rowsDue(view, context, 1))
  if (due.length === 0) return nothingWritten(context, { expired: 0 })
  const operationsMax = Math.min(context.store.limits.operationsMax, OPERATIONS_PER_STEP_MAX)
  const keysMax = Math.floor(operationsMax / OPERATIONS_PER_KEY)
  assert(keysMax > 0, 'a transaction has room for the removal of a key')
  const { first, count } = await leaseInodes(context, keysMax)
  // Not refused while a bucket is being detached: one key of it would hold up those of all other buckets.
  const committed = await context.unasked.transact(async (tx) => {
    const step: ExpiryStep = { context, tx, ids: { next: first, end: first + count }, buckets: new Map() }
    let operationsLeft = operationsMax
    let expired = 0
    for (const row of await rowsDue(tx, context, keysMax)) {
      const found = await expiredAt(tx, row)
      const operations = OPERATIONS_PER_KEY + OPERATIONS_PER_DIRECTORY * depthOf(found.key)
      // The first one is tried in any case: what no transaction can hold must be refused aloud, not passed over for ever.
      if (expired > 0 && operations > operationsLeft) break
      await removeExpired(step, found)
      operationsLeft -= operations
      expired++
    }
    for (const bucket of step.buckets.values()) endStep(bucket)
    return { expired }
  })
  // An embedded store passes over deleted rows until they are on disk: the next step would pass over those of all before it.
  await committed.durable
  return committed
}

/** The first rows of T whose time has come. */
function rowsDue(view: ReadView, context: NamespaceContext, limit: number): Promise<Row[]> {
  const end = expiryKey(Math.floor(context.clock.nowMs()) + 1, 0)
  return view.scan({ start: EXPIRIES as ByteString, end }, limit)
}

interface Expired {
  readonly bucket: string
  /** In bytes. */
  readonly key: string
  readonly inode: number
}

async function expiredAt(tx: Transaction, row: Row): Promise<Expired> {
  const id = integerAt(row.key, EXPIRY_INODE_AT)
  const inode = await readObjectInode(tx, id)
  assert(inode.expiresMs === integerAt(row.key, EXPIRY_TIME_AT), `inode ${id} expires when its row in T says`)
  return { ...(await pathOf(tx, inode)), inode: id }
}

function depthOf(key: string): number {
  let depth = 0
  for (let slash = key.indexOf('/'); slash >= 0; slash = key.indexOf('/', slash + 1)) depth++
  return depth
}

async function removeExpired(expiry: ExpiryStep, found: Expired): Promise<void> {
  const step = await stepIn(expiry, found.bucket)
  const place = must(await findPlace(expiry.tx, step.bucket, found.key), 'place of what expires')
  const current = await currentEntry(expiry.tx, place)
  assert(current?.inode === found.inode, `inode ${found.inode} that expires is its key's current version`)
  await removeIn(step, {
    key: utf8Text(found.key),
    keyBytes: found.key,
    conditions: NO_CONDITIONS,
    owner: step.bucket.owner,
  })
}

/** The step's part in one bucket, which counts that bucket's usage. */
async function stepIn(expiry: ExpiryStep, bucket: string): Promise<Step> {
  const known = expiry.buckets.get(bucket)
  if (known) return known
  const step: Step = { ...(await beginStep(expiry.context, expiry.tx, bucket)), ids: expiry.ids }
  expiry.buckets.set(bucket, step)
  return step
}
