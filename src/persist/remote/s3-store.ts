/**
 * An external S3 as remote store: any endpoint that speaks the S3 API. Objects lie at `<prefix>/<name>` in one bucket.
 *
 * Stores differ, and this driver believes none of them more than it must: what a store can do is tried when it connects (s3-probe.ts),
 * uploads are looked at when they are done (s3-upload.ts), reads must fit what was asked for (s3-read.ts), and pages of names must
 * be in order and below the prefix. Time-outs, attempts and limits are in s3-calls.ts, errors in s3-errors.ts.
 *
 * A conditional put whose answer was lost is tried again, and may then be refused because of itself. So a refusal after such an attempt is
 * checked against the object: when it holds the very bytes that were to be put, the put has succeeded. Who needs to tell two writers apart
 * puts something into the bytes that tells them apart, as the marker does.
 */
import {
  DeleteObjectCommand,
  DeleteObjectsCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type S3ClientConfig,
} from '@aws-sdk/client-s3'
import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { systemClock, type Clock } from '../../common/clock.ts'
import { isTidegateError, TidegateError } from '../../common/errors.ts'
import type { FileSystem } from '../ports.ts'
import { crc32Text, InlineFileSender, type FileSender } from './file-sender.ts'
import { assertObjectName } from './object-name.ts'
import type { LocalFile, ReadControl, RemoteCapabilities, RemoteObject, RemoteStore } from './ports.ts'
import { S3Calls, type CallTarget } from './s3-calls.ts'
import { AnswerConnections } from './answer-connections.ts'
import { createS3Client, type S3Place } from './s3-client.ts'
import { badAnswer, errorCodeFor } from './s3-errors.ts'
import { abandonUploads, listObjects } from './s3-lists.ts'
import { probe, type S3Abilities } from './s3-probe.ts'
import { readRange, readWhole, type S3Object } from './s3-read.ts'
import { uploadFile } from './s3-upload.ts'

export interface S3StoreOptions {
  /** Where `putFile` reads. */
  readonly fileSystem: FileSystem
  /** How its bytes get there; by default through the file system, in this thread. Stopped with the store. */
  readonly sender?: FileSender
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

const CONCURRENCY = 8
const TIMEOUT_MS = 30_000
/** Of a reader's first attempt: somebody waits for it, and has a deadline of some seconds (../reading/remote-segments.ts). */
const READ_TIMEOUT_MS = 3_000
/** A small object that comes more slowly than this is given up. */
const SLOWEST_BYTES_PER_MS = 16
const ATTEMPTS_MAX = 4
const REMOVE_BATCH = 1000
const REMOVE_AT_ONCE = 4
/** What a store that knows no DeleteObjects answers. */
const NO_BATCHES: ReadonlySet<number> = new Set([400, 404, 405, 411, 501])

type PutCondition = { readonly ifAbsent: true } | { readonly ifMatch: string }

export function createS3Store(place: S3Place, options: S3StoreOptions): RemoteStore {
  return new S3Store(place, options)
}

class S3Store implements RemoteStore {
  readonly description: string
  readonly #place: S3Place
  /** Empty, or ends in `/`. */
  readonly #base: string
  readonly #calls: S3Calls
  readonly #connections = new AnswerConnections()
  readonly #fileSystem: FileSystem
  readonly #sender: FileSender
  readonly #clock: Clock
  readonly #timeoutMs: number
  /** Before it has been tried: what every store has known from the beginning. */
  #abilities: S3Abilities = { conditionalPut: false, digest: 'md5' }
  #knowsBatches = true
  readonly #uploadsUnderWay = new Set<string>()

  constructor(place: S3Place, options: S3StoreOptions) {
    const { clock = systemClock, random = Math.random, concurrency = CONCURRENCY, timeoutMs = TIMEOUT_MS } = options
    this.description = `s3://${[place.bucket, place.prefix].filter(Boolean).join('/')} at ${place.endpoint ?? place.region}`
    this.#place = place
    this.#base = place.prefix === '' ? '' : `${place.prefix}/`
    this.#fileSystem = options.fileSystem
    this.#sender = options.sender ?? new InlineFileSender()
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

  get capabilities(): RemoteCapabilities {
    return { conditionalPut: this.#abilities.conditionalPut, takesFiles: false }
  }

  async connect(): Promise<void> {
    this.#abilities = await probe({
      calls: this.#calls,
      bucket: this.#place.bucket,
      keyPrefix: `${this.#base}probes/`,
      clock: this.#clock,
      randomText: () => randomBytes(12).toString('hex'),
    })
  }

  async stop(): Promise<void> {
    await this.#calls.stop()
    this.#connections.destroy()
    await this.#sender.stop()
  }

  async put(name: string, bytes: Uint8Array, condition?: PutCondition): Promise<{ etag: string }> {
    if (condition !== undefined && !this.#abilities.conditionalPut) {
      throw new TidegateError('NotImplemented', `put ${name}: ${this.description} is not known to decide conditions`)
    }
    const object = this.#object('put', name)
    const digest =
      this.#abilities.digest === 'crc32'
        ? { ChecksumCRC32: crc32Text(crc32(bytes)) }
        : { ContentMD5: createHash('md5').update(bytes).digest('base64') }
    const command = new PutObjectCommand({
      Bucket: object.bucket,
      Key: object.key,
      Body: bytes,
      ...digest,
      ...conditionHeaders(condition),
    })
    let isAmbiguous = false
    const target: CallTarget = { what: object.what, kind: 'other', onRetry: () => void (isAmbiguous = true) }
    try {
      return await this.#calls.call(target, async ({ client, signal }) => {
        const { ETag: etag } = await client.send(command, { abortSignal: signal })
        if (etag === undefined) throw badAnswer(object.what, 'the answer has no ETag')
        return { etag }
      })
    } catch (error) {
      if (condition === undefined || !isTidegateError(error)) throw error
      return { etag: await this.#etagIfPut(name, bytes, condition, { error, isAmbiguous }) }
    }
  }

  /** The ETag if an attempt whose answer was lost has put it after all. @throws PreconditionFailed, or what else went wrong */
  async #etagIfPut(
    name: string,
    bytes: Uint8Array,
    condition: PutCondition,
    { error, isAmbiguous }: { readonly error: TidegateError; readonly isAmbiguous: boolean },
  ): Promise<string> {
    // RFC 9110 has 412 for If-Match where nothing is; AWS answers 404.
    const isRefused = error.code === 'PreconditionFailed' || (error.code === 'NoSuchKey' && 'ifMatch' in condition)
    if (!isRefused) throw error
    const found = isAmbiguous ? await this.get(name, bytes.length).catch(ignoreTooLarge) : undefined
    if (found?.bytes.equals(bytes)) return found.etag
    throw new TidegateError('PreconditionFailed', error.message, { details: error.details })
  }

  async putFile(name: string, file: LocalFile, signal?: AbortSignal): Promise<void> {
    const options = {
      calls: this.#calls,
      fileSystem: this.#fileSystem,
      sender: this.#sender,
      timeoutMs: this.#timeoutMs,
      digest: this.#abilities.digest,
      underWay: this.#uploadsUnderWay,
    }
    await this.#calls.tracked(() => uploadFile(options, this.#object('put', name), file, signal))
  }

  async get(name: string, bytesMax: number): Promise<{ bytes: Buffer; etag: string } | undefined> {
    const object = this.#object('get', name)
    const totalMs = this.#timeoutMs + bytesMax / SLOWEST_BYTES_PER_MS
    return await this.#calls
      .call({ what: object.what, kind: 'read', totalMs }, (attempt) => readWhole(attempt, object, bytesMax))
      .catch(ignoreAbsence)
  }

  async read(name: string, offset: number, into: readonly Uint8Array[], control?: ReadControl): Promise<number> {
    const object = this.#object('read', name)
    const { signal, hold, onFilled } = control ?? {}
    const target = { what: object.what, kind: 'read', firstTimeoutMs: READ_TIMEOUT_MS, signal, hold } as const
    let filled = 0
    let filledBytes = 0
    return await this.#calls.call(target, async (attempt) => {
      // What was told of is in others' hands: a further attempt goes on behind it. Objects that are read in ranges never change.
      const [before, beforeBytes] = [filled, filledBytes]
      const rest = into.slice(before)
      if (rest.length === 0) return beforeBytes
      const onRestFilled = (index: number): void => {
        filled = before + index + 1
        filledBytes += (rest[index] as Uint8Array).length
        onFilled?.(before + index)
      }
      const read = { offset: offset + beforeBytes, into: rest, onFilled: onRestFilled }
      return beforeBytes + (await readRange(attempt, this.#connections, object, read))
    })
  }

  async stat(name: string, control?: ReadControl): Promise<RemoteObject | undefined> {
    const object = this.#object('stat', name)
    const { bucket, key, what } = object
    const command = new HeadObjectCommand({ Bucket: bucket, Key: key })
    const target = { what, kind: 'other', firstTimeoutMs: READ_TIMEOUT_MS, ...control } as const
    const found = await this.#calls
      .call({ ...target, isBodiless: true }, ({ client, signal }) => client.send(command, { abortSignal: signal }))
      .catch(ignoreAbsence)
    if (found === undefined) return await this.#confirmAbsence(object, target)
    if (found.ContentLength === undefined || found.LastModified === undefined) {
      throw badAnswer(what, 'the answer has no length or no time')
    }
    return { name, bytes: found.ContentLength, modifiedMs: found.LastModified.getTime() }
  }

  /** The answer to HEAD has no body, so anybody on the way may have given it; the answer to GET says who speaks. */
  async #confirmAbsence(object: S3Object, target: CallTarget): Promise<undefined> {
    const found = await this.#calls
      .call(target, (attempt) => {
        const read = { offset: 0, into: [Buffer.alloc(1)], onFilled: () => undefined }
        return readRange(attempt, this.#connections, object, read)
      })
      .catch(ignoreAbsence)
    if (found !== undefined) throw badAnswer(object.what, 'the store says both that it is there and that it is not')
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<RemoteObject[]> {
    return await listObjects(
      { calls: this.#calls, bucket: this.#place.bucket, base: this.#base },
      { prefix, after, limit },
    )
  }

  async abandonUploads(begunBeforeMs: number): Promise<number> {
    const source = { calls: this.#calls, bucket: this.#place.bucket, base: this.#base }
    // By the store's clock, which may be behind ours: then even what was begun just now looks old.
    return await abandonUploads(source, { begunBeforeMs, except: this.#uploadsUnderWay })
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) assertObjectName(name)
    for (let first = 0; first < names.length; first += REMOVE_BATCH) {
      const batch = names.slice(first, first + REMOVE_BATCH)
      if (batch.length === 1 || !this.#knowsBatches) await this.#removeSingly(batch)
      else await this.#removeBatch(batch)
    }
  }

  async #removeBatch(names: readonly string[]): Promise<void> {
    const what = `remove ${names[0]} and ${names.length - 1} more`
    const command = new DeleteObjectsCommand({
      Bucket: this.#place.bucket,
      Delete: { Quiet: true, Objects: names.map((name) => ({ Key: `${this.#base}${name}` })) },
    })
    try {
      await this.#calls.call({ what, kind: 'other' }, async ({ client, signal }) => {
        const { Errors = [] } = await client.send(command, { abortSignal: signal })
        const failed = Errors.find(({ Code }) => Code !== 'NoSuchKey')
        if (failed === undefined) return
        const remoteCode = failed.Code ?? 'Unknown'
        const code = errorCodeFor(remoteCode, undefined)
        const retryable = code === 'Unavailable' || code === 'SlowDown'
        throw new TidegateError(code, `${what}: ${failed.Key}: ${remoteCode}`, { details: { remoteCode, retryable } })
      })
    } catch (error) {
      const status = isTidegateError(error) ? error.details['status'] : undefined
      if (typeof status !== 'number' || !NO_BATCHES.has(status)) throw error
      await this.#removeSingly(names)
      this.#knowsBatches = false
    }
  }

  async #removeSingly(names: readonly string[]): Promise<void> {
    const left = [...names]
    const removeNext = async (): Promise<void> => {
      for (let name = left.pop(); name !== undefined; name = left.pop()) await this.#removeOne(name)
    }
    const removers = Array.from({ length: Math.min(REMOVE_AT_ONCE, names.length) }, removeNext)
    const failed = (await Promise.allSettled(removers)).find(({ status }) => status === 'rejected')
    if (failed !== undefined) throw (failed as PromiseRejectedResult).reason
  }

  async #removeOne(name: string): Promise<void> {
    const { bucket, key, what } = this.#object('remove', name)
    const command = new DeleteObjectCommand({ Bucket: bucket, Key: key })
    await this.#calls
      .call({ what, kind: 'other' }, ({ client, signal }) => client.send(command, { abortSignal: signal }))
      .catch(ignoreAbsence)
  }

  #object(verb: string, name: string): S3Object {
    assertObjectName(name)
    return { bucket: this.#place.bucket, key: `${this.#base}${name}`, what: `${verb} ${name}` }
  }
}

function conditionHeaders(condition: PutCondition | undefined): { IfNoneMatch?: '*'; IfMatch?: string } {
  if (condition === undefined) return {}
  return 'ifAbsent' in condition ? { IfNoneMatch: '*' } : { IfMatch: condition.ifMatch }
}

function ignoreAbsence(error: unknown): undefined {
  if (!isTidegateError(error, 'NoSuchKey')) throw error
}

function ignoreTooLarge(error: unknown): undefined {
  if (!isTidegateError(error, 'EntityTooLarge')) throw error
}
