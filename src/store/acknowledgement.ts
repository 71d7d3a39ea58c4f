/**
 * When a write is acknowledged. One place for every write of every door (C15-C18):
 *
 * | ack       | before the commit                  | after the commit                                   |
 * |-----------|------------------------------------|----------------------------------------------------|
 * | memory    | the journal is told the bytes will be named unsynced | nothing                          |
 * | journal   | the bytes are synced               | the commit is durable                              |
 * | replicated | the same, on another node too     | the commit is durable                              |
 * | persisted | the bytes are synced               | durable, every segment it names is persisted, and  |
 * |           |                                    | the remote store has its name                      |
 *
 * A delete, tags and settings have no bytes and no name of their own: alone they are as `journal` at every level above it.
 */
import { must } from '../common/assert.ts'
import { TidegateError } from '../common/errors.ts'
import { isExternalSegment } from '../common/external.ts'
import type { ContentId, Revision, SegmentId } from '../common/ids.ts'
import type { AckLevel, BucketRecord } from '../common/model.ts'
import type { JournaledBody, Journaling, Persisting, PublishedName, Replicating } from './byte-ports.ts'
import type { Commit, MetadataContents } from './ports.ts'

/** Whether it takes more than this node's journal. */
export function isAboveJournal(level: AckLevel): boolean {
  return level === 'persisted' || level === 'replicated'
}

export class Acknowledgement {
  readonly #journal: Journaling
  readonly #persisting: Persisting
  readonly #contents: MetadataContents
  readonly #replicating: Replicating | undefined

  constructor(parts: {
    journal: Journaling
    persisting: Persisting
    contents: MetadataContents
    /** Undefined: there are no other nodes. */
    replicating?: Replicating | undefined
  }) {
    this.#replicating = parts.replicating
    this.#journal = parts.journal
    this.#persisting = parts.persisting
    this.#contents = parts.contents
  }

  /** The level of one write: the request's, else the bucket's. @throws InvalidArgument for `replicated` on one node */
  level(requested: AckLevel | undefined, bucket: BucketRecord): AckLevel {
    return this.checked(requested ?? bucket.ack)
  }

  /** @throws InvalidArgument for a level that one node cannot keep */
  checked(level: AckLevel): AckLevel {
    if (level === 'replicated' && !this.#replicating) {
      throw new TidegateError('InvalidArgument', 'acknowledgement level "replicated" needs more than one node')
    }
    return level
  }

  async beforeCommit(level: AckLevel, body: JournaledBody): Promise<void> {
    if (level === 'memory') this.#journal.nameUnsynced(body.run)
    else if (level === 'replicated') await this.#replicated(body)
    else await body.sync()
  }

  async #replicated(body: JournaledBody): Promise<void> {
    const { segment, segmentOffset, length } = body.run
    // Both at once, and both settle: what is asked again finds no one at work on it.
    const outcomes = await Promise.allSettled([body.sync(), this.#copied(segment, segmentOffset + length)])
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
  }

  #copied(segment: SegmentId, through?: number): Promise<void> {
    return must(this.#replicating, 'other nodes').copied(segment, through)
  }

  /** Settles when the commit is as durable as the level asks; what it names is published from then on. */
  async durable(level: AckLevel, commit: Commit<unknown>): Promise<void> {
    if (level !== 'memory') await commit.durable
  }

  /** After `durable`: settles when every segment is in the remote store, if the level asks for that. */
  async persisted(level: AckLevel, segments: readonly SegmentId[]): Promise<void> {
    if (level !== 'persisted') return
    // What lies in an external bucket is there already.
    const ours = segments.filter((segment) => !isExternalSegment(segment))
    for (const segment of ours) this.#journal.sealSoon(segment)
    // All at once: each wait is bounded, and so is that for all.
    await Promise.all(ours.map((segment) => this.#persisting.persisted(segment)))
  }

  /** After `persisted`: settles when the remote store has the name too, and the bytes that lie in it (C17). */
  async named(level: AckLevel, published: PublishedName): Promise<void> {
    if (level === 'persisted') await this.#persisting.named(published)
  }

  /** As `named`, for a transaction that also takes away: told in part, it would come back with what it had deleted (C2). */
  async covered(level: AckLevel, revision: Revision, made: readonly PublishedName[]): Promise<void> {
    if (level === 'persisted') await this.#persisting.covered(revision, made)
  }

  /** Settles when what lies in these segments is as safe as the level asks, whoever wrote it and at whatever level. */
  async raised(level: AckLevel, segments: readonly SegmentId[]): Promise<void> {
    if (level !== 'replicated') return await this.persisted(level, segments)
    const ours = segments.filter((segment) => !isExternalSegment(segment))
    await Promise.all(ours.map((segment) => this.#copied(segment)))
  }

  /** `raised` for all that a content refers to: a copy's source, an upload's parts (C16). */
  async raisedContent(level: AckLevel, content: ContentId): Promise<void> {
    if (isAboveJournal(level)) await this.raised(level, await this.#contents.contentSegments(content))
  }
}
