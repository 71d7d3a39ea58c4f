/**
 * Rebuilding: bodies that no restored row names, put where their labels say they were meant for (C17). In the order in which they came, so that of
 * two for one key the newer one stays, and in a bucket that keeps versions both.
 *
 *   object      published as by a PUT at that time
 *   part        put into an upload in progress of that id, which is made if need be: who knows how it was completed can complete it again
 *   of a file   published into the file at its offset, as a write through the mount; the file is made if need be
 *
 * What a label cannot say: that it was deleted, renamed or cut since.
 */
import { NO_CONDITIONS } from '../../../common/conditions.ts'
import { utf8Bytes, type ContentId, type InodeId } from '../../../common/ids.ts'
import type { ObjectAttributes, StoredRun } from '../../../common/model.ts'
import { beginStep, endStep, leaseInodes, type NamespaceContext, type Step } from '../context.ts'
import { publishFile } from '../files/contents-publish.ts'
import { timeOfMs } from '../files/posix-part.ts'
import { contentKey, droppedContentKey, inodeKey, uploadKey } from '../keys.ts'
import { keyTooLong, splitKey, validateNewKey } from '../names.ts'
import { inodesForKey, writeVersion } from '../publish.ts'
import { decodeUpload, encodeUpload, type Upload } from '../records-contents.ts'
import { decodeInode, type ObjectEntry } from '../records-objects.ts'
import { addRun } from '../references.ts'
import { currentEntry, findPlace, keepsVersions } from '../tree.ts'
import { replacePart } from '../uploads.ts'
import { createBucket } from '../buckets.ts'
import { isTidegateError } from '../../../common/errors.ts'

export interface FoundBody {
  readonly bucket: string
  readonly key: string
  readonly run: StoredRun
  readonly etag: string
  readonly modifiedMs: number
  readonly attributes: ObjectAttributes
  readonly expiresMs: number | undefined
  readonly part: { readonly uploadId: string; readonly partNumber: number } | undefined
  /** The file that it was written to, and where. */
  readonly file: { readonly inode: InodeId; readonly offset: number } | undefined
}

export type Addition = 'object' | 'part' | 'file' | 'older'

const NO_ATTRIBUTES: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
/** A bare MD5 (C29), as of any empty object. */
const EMPTY_ETAG = 'd41d8cd98f00b204e9800998ecf8427e'
const OWNER = 'root'
const REGION = 'us-east-1'

export class BodyAdder {
  readonly #context: NamespaceContext
  readonly #buckets = new Set<string>()
  /** Files that were made again, by the inode that they had. */
  readonly #files = new Map<InodeId, InodeId>()

  constructor(context: NamespaceContext) {
    this.#context = context
  }

  /** Whether a row knows the content: it is where it belongs already. */
  knows(content: ContentId): Promise<boolean> {
    return this.#context.store.read(async (view) => {
      const rows = await view.getMany([contentKey(content), droppedContentKey(content)])
      return rows.some((row) => row !== undefined)
    })
  }

  /** One after the other. @throws InvalidBucketName, TooManyBuckets, InvalidKey, KeyTooLong for a label that none of ours wrote */
  async add(body: FoundBody): Promise<Addition> {
    this.#checkKey(body)
    await this.#ensureBucket(body.bucket)
    if (body.part) return this.#addPart(body, body.part)
    return body.file ? this.#addToFile(body, body.file) : this.#addObject(body)
  }

  /** Of an upload as S3 makes it; others may be as deep as the mount makes them. */
  #checkKey({ key, part }: FoundBody): void {
    const { limits } = this.#context
    if (part || key === '' || !key.isWellFormed()) return void validateNewKey(key, limits)
    const { directories, name } = splitKey(utf8Bytes(key))
    const longest = [...directories, name].reduce((most, one) => Math.max(most, one.length), 0)
    if (longest > limits.keyBytesMax) throw keyTooLong(longest, limits.keyBytesMax)
  }

  async #ensureBucket(name: string): Promise<void> {
    if (this.#buckets.has(name)) return
    try {
      await createBucket(this.#context, { name, owner: OWNER, region: REGION, ack: 'journal' })
    } catch (error) {
      if (!isTidegateError(error, 'BucketAlreadyOwnedByYou') && !isTidegateError(error, 'BucketAlreadyExists'))
        throw error
    }
    this.#buckets.add(name)
  }

  async #addObject(body: FoundBody): Promise<Addition> {
    const { bucket, key, run, modifiedMs } = body
    const keyBytes = utf8Bytes(key)
    const ids = await leaseInodes(this.#context, inodesForKey(keyBytes))
    const { value } = await this.#context.store.transact(async (tx) => {
      const step: Step = { ...(await beginStep(this.#context, tx, bucket, ids)), nowMs: modifiedMs }
      const place = await findPlace(tx, step.bucket, keyBytes)
      const current = place && (await currentEntry(tx, place))
      if (!keepsVersions(step.bucket) && isOutdated(modifiedMs, current)) return 'older'
      addRun(tx, run, 'persisted')
      await writeVersion(step, {
        ...versionOf(body),
        keyBytes,
        size: run.length,
        body: { kind: 'content', content: run.content },
      })
      endStep(step)
      return 'object'
    })
    return value
  }

  async #addPart(
    { bucket, key, run, etag, modifiedMs }: FoundBody,
    { uploadId, partNumber }: NonNullable<FoundBody['part']>,
  ): Promise<Addition> {
    const { value } = await this.#context.store.transact(async (tx) => {
      const step = await beginStep(this.#context, tx, bucket)
      const rowKey = uploadKey(step.bucket.id, utf8Bytes(key), uploadId)
      const row = await tx.get(rowKey)
      const upload: Upload = row ? decodeUpload(row) : newUpload(uploadId)
      if (!row) tx.put(rowKey, encodeUpload(upload))
      addRun(tx, run, 'persisted')
      const part = { partNumber, etag, mtimeMs: modifiedMs, checksum: undefined }
      const piece = { content: run.content, contentOffset: 0, length: run.length, part }
      await replacePart(tx, { bucket: step.bucket, rowKey, upload }, { uploadId, piece })
      return 'part' as const
    })
    return value
  }

  async #addToFile(body: FoundBody, { inode, offset }: NonNullable<FoundBody['file']>): Promise<Addition> {
    const id = (await this.#fileOf(inode)) ?? (await this.#makeFile(body, inode))
    const { run, modifiedMs } = body
    const row = await this.#context.store.read((view) => view.get(inodeKey(id)))
    const before = row && decodeInode(row)
    const size = Math.max(before?.kind === 'object' ? before.size : 0, offset + run.length)
    const edits = [{ offset, length: run.length, run }]
    const modified = timeOfMs(modifiedMs)
    await publishFile(this.#context, { inode: id, edits, inline: undefined, size, modified, ack: 'persisted' })
    return 'file'
  }

  async #fileOf(inode: InodeId): Promise<InodeId | undefined> {
    const made = this.#files.get(inode)
    if (made !== undefined) return made
    const row = await this.#context.store.read((view) => view.get(inodeKey(inode)))
    return row && decodeInode(row).kind === 'object' ? inode : undefined
  }

  /** Empty, where the label says. */
  async #makeFile(body: FoundBody, inode: InodeId): Promise<InodeId> {
    const keyBytes = utf8Bytes(body.key)
    const ids = await leaseInodes(this.#context, inodesForKey(keyBytes))
    const { value } = await this.#context.store.transact(async (tx) => {
      const step: Step = { ...(await beginStep(this.#context, tx, body.bucket, ids)), nowMs: body.modifiedMs }
      const made = { ...versionOf(body), etag: EMPTY_ETAG, attributes: NO_ATTRIBUTES, expiresMs: undefined }
      const empty = { kind: 'inline', bytes: new Uint8Array(0) } as const
      const version = await writeVersion(step, { ...made, keyBytes, size: 0, body: empty })
      endStep(step)
      return version.inode
    })
    this.#files.set(inode, value)
    return value
  }
}

function isOutdated(modifiedMs: number, current: ObjectEntry | undefined): boolean {
  return current !== undefined && current.mtimeMs > modifiedMs
}

function versionOf({
  key,
  etag,
  attributes,
  expiresMs,
}: FoundBody): Omit<Parameters<typeof writeVersion>[1], 'keyBytes' | 'size' | 'body'> {
  const none = { checksum: undefined, partsCount: undefined, uploadId: undefined }
  return { key, conditions: NO_CONDITIONS, etag, owner: OWNER, ack: 'persisted', attributes, expiresMs, ...none }
}

/** Its first 6 bytes are when it was begun. */
function newUpload(uploadId: string): Upload {
  const initiatedMs = Number.parseInt(uploadId.slice(0, 12), 16)
  const none = { checksumAlgorithm: undefined, checksumType: undefined }
  return { initiatedMs, token: 0, owner: OWNER, attributes: NO_ATTRIBUTES, ...none }
}
