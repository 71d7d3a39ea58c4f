/**
 * Open files that another node takes the last name of (C12). Who takes it knows only who has the file open on its own node, and deletes the inode. A node
 * that has it open as well sees the row go, and takes the inode up again, as an orphan of its own: the row, its content, and row O that says who keeps it.
 *
 * Nothing is lost meanwhile: dropped content is taken apart only when every node says that nobody there reads from before the drop (horizons.ts), and this
 * one does not say so until it has the inode back. Whoever comes to the file before that waits here. An inode whose row is there again
 * has another keeper, and gets one more row O; the last keeper that closes it deletes it.
 *
 * It does the same for a file that was opened here while a transaction of this node that deletes it was on its way to etcd.
 */
import { isTidegateError, TidegateError } from '../../../common/errors.ts'
import type { ByteString, InodeId, Revision } from '../../../common/ids.ts'
import type { Transaction } from '../../ports.ts'
import type { GoneEvents } from '../decoded-cache.ts'
import type { NamespaceContext } from '../context.ts'
import { INODES, inodeKey, integerAt, leftAttributesKey, orphanKey } from '../keys.ts'
import { decodeInode, encodeInode, type ObjectInode } from '../records-objects.ts'
import { refersAgain } from '../references.ts'
import { posixOf, timeOfMs } from './posix-part.ts'
import { transactVisible } from './visible.ts'

const NO_VALUE = new Uint8Array(0)
const RETRY_MS = 500

export class Adoptions {
  readonly #context: NamespaceContext
  /** The revision at which it went, of each that is not back yet. */
  readonly #under = new Map<InodeId, Revision>()
  readonly #attempts = new Set<Promise<void>>()
  readonly #dropping = new Set<InodeId>()
  #begun = 0

  constructor(context: NamespaceContext, events: Partial<GoneEvents>) {
    this.#context = context
    events.onGone?.(INODES as ByteString, (key, row, revision) => {
      const inode = decodeInode(row)
      const id = integerAt(key, INODES.length)
      if (inode.kind === 'object' && !this.#dropping.has(id) && context.keepInode(id))
        void this.#takeUp(id, inode, revision)
    })
  }

  /** What was dropped after that may be content of an inode that is being taken up. */
  heldBack(): Revision {
    return Math.min(...[...this.#under.values()].map((revision) => revision - 1))
  }

  /** Runs what drops an inode because nobody has it open here any more. */
  async whileDropping<T>(id: InodeId, operation: () => Promise<T>): Promise<T> {
    this.#dropping.add(id)
    try {
      return await operation()
    } finally {
      this.#dropping.delete(id)
    }
  }

  /** Runs what may come to such a file, again if it found it gone. */
  async whileKept<T>(operation: () => Promise<T>): Promise<T> {
    const begun = this.#under.size > 0 ? -1 : this.#begun
    try {
      return await operation()
    } catch (error) {
      if (!isTidegateError(error, 'StaleFile') || this.#begun === begun) throw error
    }
    await Promise.all(this.#attempts)
    if (this.#under.size > 0)
      throw new TidegateError('Unavailable', 'an open file that was removed cannot be kept at present')
    return await operation()
  }

  async #takeUp(id: InodeId, inode: ObjectInode, revision: Revision): Promise<void> {
    this.#begun++
    this.#under.set(id, revision)
    // Once nobody has it open any more there is no need.
    while (this.#context.keepInode(id)) {
      const attempt = this.#attempt(id, inode)
      const settled = attempt.then(
        () => {},
        () => {},
      )
      this.#attempts.add(settled)
      const isDone = await attempt.then(
        () => true,
        () => false,
      )
      this.#attempts.delete(settled)
      if (isDone) break
      await this.#context.clock.sleep(RETRY_MS)
    }
    this.#under.delete(id)
  }

  async #attempt(id: InodeId, inode: ObjectInode): Promise<void> {
    await transactVisible(this.#context, (tx) => takeUp(this.#context, tx, { id, inode }))
  }
}

async function takeUp(
  context: NamespaceContext,
  tx: Transaction,
  { id, inode }: { readonly id: InodeId; readonly inode: ObjectInode },
): Promise<void> {
  const isKept = (await tx.get(inodeKey(id))) !== undefined
  if (!isKept) {
    // It is held back, so it is there; if it is not, the file is lost to whoever has it open.
    if (inode.body.kind === 'content' && !(await refersAgain(tx, inode.body.content))) return
    const posix = posixOf(inode, context.files)
    const changed = timeOfMs(context.clock.nowMs())
    tx.put(inodeKey(id), encodeInode({ ...inode, parent: 0, name: '', posix: { ...posix, links: 0, changed } }))
    tx.delete(leftAttributesKey(id))
  }
  tx.put(orphanKey(id, context.node), NO_VALUE)
}
