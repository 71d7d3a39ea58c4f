/**
 * A bucket in an external S3 that others use as well (docs/decisions/0015), through the same client, time-outs, attempts and rates as
 * the remote store's (../remote/s3-calls.ts). It provides the port `ExternalBucket` of src/attach/ports.ts.
 *
 * Keys lie below `<prefix>/`; nothing beside it is ever read, listed or written. What the store can do is tried when the bucket is attached, or
 * before the first write that depends on it.
 */
import {
  DeleteObjectTaggingCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutObjectTaggingCommand,
  type HeadObjectCommandOutput,
  type S3ClientConfig,
} from '@aws-sdk/client-s3'
import { randomBytes } from 'node:crypto'
import { assert } from '../../common/assert.ts'
import { systemClock, type Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { ObjectAttributes } from '../../common/model.ts'
import { AnswerConnections } from '../remote/answer-connections.ts'
import { S3Calls, type CallTarget } from '../remote/s3-calls.ts'
import { createS3Client, type S3Place } from '../remote/s3-client.ts'
import { badAnswer } from '../remote/s3-errors.ts'
import { readRange, type S3Object } from '../remote/s3-read.ts'
import { describe } from './external-attributes.ts'
import { listExternal } from './external-lists.ts'
import { PROBE_PREFIX, probeExternal, UNTRIED, type ExternalAbilities } from './external-probe.ts'
import {
  copyExternal,
  inWords,
  putExternal,
  putPiecesExternal,
  removeExternal,
  type ExternalWriting,
} from './external-writes.ts'
import type {
  CopySource,
  Expected,
  ExternalCapabilities,
  ExternalDescription,
  ExternalPage,
  ListExternal,
  PieceSource,
  UploadPiece,
  WriteOptions,
} from './ports.ts'

/** Who reads here waits for all of a range. */
function nobodyAsks(): void {}

export interface ExternalBucketOptions {
  /** Requests at once. */
  readonly concurrency?: number
  /** An attempt on which no byte moves for this long is given up. */
  readonly timeoutMs?: number
  readonly attemptsMax?: number
  /** To and from the store together; no limit by default. */
  readonly bytesPerSecond?: number | undefined
  readonly requestsPerSecond?: number | undefined
  readonly clock?: Clock
  /** From 0 to below 1. */
  readonly random?: () => number
  /** By default the SDK's chain. */
  readonly credentials?: S3ClientConfig['credentials']
}

const CONCURRENCY = 16
const TIMEOUT_MS = 30_000
/** Of a reader's first attempt: somebody waits for it. */
const READ_TIMEOUT_MS = 3_000
const ATTEMPTS_MAX = 4
/** Of an object's key, with the attachment's prefix: S3 has no longer ones. */
const KEY_BYTES_MAX = 1024

export class S3ExternalBucket {
  readonly description: string
  readonly #bucket: string
  /** Empty, or ends in `/`. */
  readonly #base: string
  readonly #calls: S3Calls
  readonly #connections = new AnswerConnections()
  readonly #clock: Clock
  readonly #timeoutMs: number
  #abilities: ExternalAbilities | undefined
  #probing: Promise<ExternalAbilities> | undefined

  constructor(place: S3Place, options: ExternalBucketOptions = {}) {
    const { clock = systemClock, random = Math.random, concurrency = CONCURRENCY, timeoutMs = TIMEOUT_MS } = options
    this.description = `s3://${[place.bucket, place.prefix].filter(Boolean).join('/')} at ${place.endpoint ?? place.region}`
    this.#bucket = place.bucket
    this.#base = place.prefix === '' ? '' : `${place.prefix}/`
    this.#clock = clock
    this.#timeoutMs = timeoutMs
    this.#calls = new S3Calls({
      client: createS3Client(place, { concurrency, timeoutMs, credentials: options.credentials }),
      clock,
      random,
      concurrency,
      timeoutMs,
      attemptsMax: options.attemptsMax ?? ATTEMPTS_MAX,
      bytesPerSecond: options.bytesPerSecond,
      requestsPerSecond: options.requestsPerSecond,
    })
  }

  /** What was found out by the last probe, also of what the port does not speak of. */
  get abilities(): ExternalAbilities | undefined {
    return this.#abilities
  }

  async probe(): Promise<ExternalCapabilities> {
    const { conditionalPut, conditionalDelete, conditionalComplete, ...others } = await this.#probe()
    // What CopyObject does not decide is copied in parts.
    const conditionalCopy =
      others.conditionalCopy || (conditionalComplete && conditionalPut && others.copiesPartsOnMatch)
    return { conditionalPut, conditionalDelete, conditionalComplete, conditionalCopy }
  }

  async list(request: ListExternal): Promise<ExternalPage> {
    return await listExternal({ calls: this.#calls, bucket: this.#bucket, base: this.#base }, request)
  }

  /** @throws KeyTooLong */
  async head(key: string, signal?: AbortSignal): Promise<ExternalDescription | undefined> {
    const bytes = Buffer.byteLength(this.#base) + Buffer.byteLength(key)
    if (bytes > KEY_BYTES_MAX) {
      throw new TidegateError(
        'KeyTooLong',
        `with the prefix of what its bucket is attached to the key has ${bytes} bytes`,
      )
    }
    const tags = (this.#abilities ?? UNTRIED).tags
    // Side by side where HEAD does not say whether there are any.
    const [found, known] = await Promise.all([
      this.#look(key, signal),
      tags === 'uncounted' ? this.#tags(key, signal).catch(untagged) : undefined,
    ])
    if (found === undefined) return undefined
    const told = known ?? ((found.tagCount ?? 0) > 0 ? await this.#tags(key, signal).catch(untagged) : {})
    const { description } = found
    return { ...description, attributes: { ...description.attributes, tags: told } }
  }

  async read(
    of: { readonly key: string; readonly etag: string },
    offset: number,
    into: readonly Uint8Array[],
    signal?: AbortSignal,
  ): Promise<number> {
    const object = { ...this.#object('read', of.key), etag: of.etag }
    const target = { what: object.what, kind: 'read', firstTimeoutMs: READ_TIMEOUT_MS, signal } as const
    const bytes = await this.#calls.call(target, (attempt) =>
      readRange(attempt, this.#connections, object, { offset, into, onFilled: nobodyAsks }),
    )
    // Beyond its end, or beyond that of another one that is shorter.
    if (bytes === 0 && (await this.#look(of.key, signal))?.description.etag !== of.etag) {
      throw new TidegateError('PreconditionFailed', `${object.what}: it is another one now`)
    }
    return bytes
  }

  async put(key: string, source: PieceSource, options: WriteOptions): Promise<{ readonly etag: string }> {
    return await putExternal(await this.#writing(options.expected), key, source, options)
  }

  async putInParts(
    key: string,
    pieces: readonly UploadPiece[],
    options: WriteOptions,
  ): Promise<{ readonly etag: string }> {
    const writing = await this.#writing('probed')
    return await this.#calls.tracked(() => putPiecesExternal(writing, key, pieces, options))
  }

  async copy(
    from: CopySource,
    key: string,
    options: WriteOptions<ObjectAttributes | undefined>,
  ): Promise<{ readonly etag: string }> {
    const writing = await this.#writing('probed')
    return await this.#calls.tracked(() => copyExternal(writing, from, key, options))
  }

  async remove(key: string, expected: Exclude<Expected, { kind: 'absent' }>): Promise<void> {
    await removeExternal(await this.#writing(expected), key, expected)
  }

  async tags(key: string): Promise<Readonly<Record<string, string>>> {
    return await this.#tags(key).catch((error: unknown) => {
      if (isTidegateError(error, 'NoSuchKey')) throw error
      return untagged(error)
    })
  }

  async setTags(key: string, tags: Readonly<Record<string, string>>): Promise<void> {
    const { bucket: Bucket, key: Key, what } = this.#object('tag', key)
    const TagSet = Object.entries(tags).map(([name, value]) => ({ Key: name, Value: value }))
    // Not all stores take an empty set.
    const removal = TagSet.length === 0 ? new DeleteObjectTaggingCommand({ Bucket, Key }) : undefined
    const command = new PutObjectTaggingCommand({ Bucket, Key, Tagging: { TagSet } })
    const target = { what, kind: 'other' } as const
    try {
      await this.#calls.call<unknown>(target, ({ client, signal }) =>
        removal === undefined
          ? client.send(command, { abortSignal: signal })
          : client.send(removal, { abortSignal: signal }),
      )
    } catch (error) {
      throw inWords(error)
    }
  }

  stop(): void {
    void this.#calls
      .stop()
      .catch(() => undefined)
      .finally(() => this.#connections.destroy())
  }

  /** What is needed to write; what the store can do is tried first, where that is the question. */
  async #writing(expected: Expected | 'probed'): Promise<ExternalWriting> {
    const isAsked = expected === 'probed' || expected.kind !== 'anything'
    const abilities = this.#abilities ?? (isAsked ? await this.#probe() : UNTRIED)
    return {
      calls: this.#calls,
      timeoutMs: this.#timeoutMs,
      abilities,
      object: (verb, key) => this.#object(verb, key),
      head: (key, signal) => this.head(key, signal),
    }
  }

  /** One for all who ask at once. */
  async #probe(): Promise<ExternalAbilities> {
    this.#probing ??= probeExternal({
      calls: this.#calls,
      bucket: this.#bucket,
      keyPrefix: `${this.#base}${PROBE_PREFIX}`,
      clock: this.#clock,
      randomText: () => randomBytes(8).toString('hex'),
    }).finally(() => (this.#probing = undefined))
    this.#abilities = await this.#probing
    return this.#abilities
  }

  async #look(
    key: string,
    ending: AbortSignal | undefined,
  ): Promise<{ readonly description: ExternalDescription; readonly tagCount: number | undefined } | undefined> {
    const object = this.#object('look at', key)
    const command = new HeadObjectCommand({ Bucket: object.bucket, Key: object.key })
    const target = { what: object.what, kind: 'read', firstTimeoutMs: READ_TIMEOUT_MS, signal: ending } as const
    const found = await this.#calls
      .call({ ...target, isBodiless: true }, ({ client, signal }) =>
        client.send(command, { abortSignal: signal }).catch(ignoreSaidAbsence),
      )
      .catch((error: unknown) => this.#confirmAbsence(object, target, error))
    if (found === undefined) return undefined
    const description = describe(key, found)
    if (description === undefined) throw badAnswer(object.what, 'the answer has no length, no ETag or no time')
    return { description, tagCount: found.TagCount }
  }

  /** The answer to HEAD has no body, so anybody on the way may have given it; the answer to GET says who speaks. */
  async #confirmAbsence(object: S3Object, target: CallTarget, error: unknown): Promise<undefined> {
    if (!isTidegateError(error, 'NoSuchKey')) throw error
    try {
      await this.#calls.call(target, (attempt) =>
        readRange(attempt, this.#connections, object, { offset: 0, into: [Buffer.alloc(1)], onFilled: nobodyAsks }),
      )
    } catch (confirmed) {
      if (isTidegateError(confirmed, 'NoSuchKey')) return undefined
      throw confirmed
    }
    throw badAnswer(object.what, 'the store says both that it is there and that it is not')
  }

  async #tags(key: string, ending?: AbortSignal): Promise<Readonly<Record<string, string>>> {
    const { bucket: Bucket, key: Key, what } = this.#object('tags of', key)
    const command = new GetObjectTaggingCommand({ Bucket, Key })
    const target = { what, kind: 'read', firstTimeoutMs: READ_TIMEOUT_MS, signal: ending } as const
    const { TagSet = [] } = await this.#calls.call(target, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
    // Not by assignment: a tag may be called `__proto__`.
    return Object.fromEntries(TagSet.map(({ Key: name = '', Value: value = '' }) => [name, value]))
  }

  #object(verb: string, key: string): S3Object {
    assert(key !== '', 'a key has a character')
    return { bucket: this.#bucket, key: `${this.#base}${key}`, what: `${verb} ${key}` }
  }
}

/** A 404 with a request id is an S3 store's own; a proxy's page has none. */
function ignoreSaidAbsence(error: Partial<HeadObjectCommandOutput>): undefined {
  const { httpStatusCode, requestId } = error.$metadata ?? {}
  if (httpStatusCode !== 404 || requestId === undefined) throw error
}

/** Statuses of a store that has no tags, or none of this object, or none for us. */
const UNTAGGED: ReadonlySet<unknown> = new Set([403, 404, 405, 501])

/** @throws what does not say that there are none: a copy that has lost its tags would look whole */
function untagged(error: unknown): Readonly<Record<string, string>> {
  if (isTidegateError(error) && UNTAGGED.has(error.details['status'])) return {}
  throw error
}
