/**
 * Where directories were at a revision of the past, so that a change which is read late is told by the names of its time.
 *
 * A directory's inode row says where it is now. Every transaction that moves a directory, or takes it away, writes where it
 * was into a `former` row (G), and that is in the change log; so does the deletion of a bucket, for its root. So the place at revision r is what the first former row after r
 * says, and if there is none, what the inode row says. Former rows in the log outlive those in the table, which the reclaimer
 * takes: they are kept exactly as long as the changes that need them.
 *
 * Places are kept once found, for the log is read in order and `passed` forgets what a change has moved: who follows the
 * log reads each directory once. The log ahead is read only when a place must be found, and each part of it once.
 */
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString, InodeId, Revision } from '../../common/ids.ts'
import type { ChangedRow } from '../ports.ts'
import type { NamespaceContext } from './context.ts'
import { FORMER_PLACES, RECLAIM_ID_AT, formerPlaceKey, inodeKey, integerAt } from './keys.ts'
import { decodeInode, decodePlace, type NamedPlace } from './records-objects.ts'

/** Directories whose places are kept; then all are forgotten and found again. */
const KNOWN_MAX = 65_536
/** Moves that may lie between a reader and the present. */
const LATER_MAX = 200_000
/** Changes after which other work gets its turn. */
const CHANGES_PER_TURN = 1_024

interface Move {
  readonly revision: Revision
  readonly from: NamedPlace
}

export class PastPlaces {
  readonly #context: NamespaceContext
  readonly #signal: AbortSignal
  readonly #known = new Map<InodeId, NamedPlace>()
  /** Of what lies ahead in the log: by inode, ascending. */
  readonly #later = new Map<InodeId, Move[]>()
  #moves = 0
  /** The log has been read ahead up to here. */
  #through: Revision | undefined

  constructor(context: NamespaceContext, signal: AbortSignal) {
    this.#context = context
    this.#signal = signal
  }

  /** Takes note that a change has been reached which moved these or took them away. Called in the order of revisions. */
  passed(revision: Revision, inodes: Iterable<InodeId>): void {
    for (const inode of inodes) {
      this.#known.delete(inode)
      const moves = this.#later.get(inode)
      if (moves === undefined) continue
      const ahead = moves.filter((move) => move.revision > revision)
      this.#moves -= moves.length - ahead.length
      if (ahead.length > 0) this.#later.set(inode, ahead)
      else this.#later.delete(inode)
    }
  }

  /** After the commit of `revision`. Undefined for the root of a bucket that was deleted before such were noted. */
  async at(inode: InodeId, revision: Revision): Promise<NamedPlace | undefined> {
    const known = this.#known.get(inode)
    if (known) return known
    const place = await this.#find(inode, revision)
    if (place === undefined) return undefined
    if (this.#known.size >= KNOWN_MAX) this.#known.clear()
    this.#known.set(inode, place)
    return place
  }

  async #find(inode: InodeId, revision: Revision): Promise<NamedPlace | undefined> {
    const { store } = this.#context
    const read = await store.read(async (view) => {
      const [present, former] = await view.getMany([inodeKey(inode), formerPlaceKey(inode)])
      return { present, former, revision: view.revision }
    })
    // A move that is visible and not durable is not in the log yet; its former row is in the table at least until then.
    const settled = read.revision <= store.durableRevision() || (read.present !== undefined && !read.former)
    if (!settled) await store.flush()
    await this.#readAhead(revision, store.durableRevision())
    const moved = this.#later.get(inode)?.find((move) => move.revision > revision)
    if (moved) return moved.from
    if (!read.present) return undefined
    const directory = decodeInode(read.present)
    assert(directory.kind === 'directory', 'an entry lies in a directory')
    return { parent: directory.parent, name: directory.name }
  }

  async #readAhead(after: Revision, through: Revision): Promise<void> {
    const from = (this.#through ?? after) + 1
    if (from > through) return
    let changes = 0
    for await (const change of this.#context.store.watch(FORMER_PLACES as ByteString, from, this.#signal, {
      through,
    })) {
      const places = await formerPlaces(this.#context, change.rows)
      for (const [inode, place] of places) this.#noteMove(inode, { revision: change.revision, from: place })
      if (++changes % CHANGES_PER_TURN === 0) await this.#context.clock.sleep(0, this.#signal).catch(() => undefined)
    }
    this.#through = through
  }

  #noteMove(inode: InodeId, move: Move): void {
    if (++this.#moves > LATER_MAX) {
      throw new TidegateError('RevisionGone', `more than ${LATER_MAX} directories have come and gone since`)
    }
    const moves = this.#later.get(inode)
    if (moves) moves.push(move)
    else this.#later.set(inode, [move])
  }
}

/** What the former rows among these say: where inodes were before their revision. */
export async function formerPlaces(
  { store }: NamespaceContext,
  rows: readonly ChangedRow[],
): Promise<Map<InodeId, NamedPlace>> {
  const places = new Map<InodeId, NamedPlace>()
  for (const { key, value, deleted } of rows) {
    if (deleted || !key.startsWith(FORMER_PLACES)) continue
    // Too large for this store's log: the table has it, unless the reclaimer was faster.
    const logged = value ?? (await store.read((view) => view.get(key)))
    if (!logged) throw new TidegateError('RevisionGone', 'the name that a directory had is no longer kept')
    places.set(integerAt(key, RECLAIM_ID_AT), decodePlace(logged))
  }
  return places
}
