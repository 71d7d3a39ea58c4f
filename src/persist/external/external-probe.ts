/**
 * What an external store can do, found out by doing it: many stores that speak S3 ignore headers that they do not know, and answer 200.
 *
 *   .tidegate-probe-<random>-<what>    below the attachment's prefix: made, overwritten and removed while probing; what a crash left is removed
 *                                      the next time, and listings pass them over
 *
 * A condition counts as decided when a write that it forbids was refused *and* what lay there still lies there, and when a write that it allows
 * took place. Each is seen by looking at the object. That it is decided atomically is tried with PUT only: several at once, of which one may win.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'
import { isTidegateError } from '../../common/errors.ts'
import type { DigestKind } from '../remote/file-sender.ts'
import {
  bestDigest,
  decidesConditions,
  NO_ETAG,
  REFUSALS,
  removeLeftBehind,
  type ProbeOptions,
} from '../remote/s3-probe.ts'
import type { Attempt } from '../remote/s3-calls.ts'
import { copySourceText } from './copy-source.ts'
import type { ExternalCapabilities } from './ports.ts'

/** Of names below the attachment's prefix. */
export const PROBE_PREFIX = '.tidegate-probe-'

export interface ExternalAbilities extends ExternalCapabilities {
  readonly digest: DigestKind
  /** CopyObject decides `x-amz-copy-source-if-match`. */
  readonly copiesOnMatch: boolean
  /** UploadPartCopy decides it. */
  readonly copiesPartsOnMatch: boolean
  /** Objects may have tags, and HEAD says how many there are. */
  readonly tags: 'none' | 'counted' | 'uncounted'
}

/** Before it has been tried: what every store has known from the beginning. */
export const UNTRIED: ExternalAbilities = {
  conditionalPut: false,
  conditionalDelete: false,
  conditionalComplete: false,
  conditionalCopy: false,
  digest: 'md5',
  copiesOnMatch: false,
  copiesPartsOnMatch: false,
  tags: 'uncounted',
}

type Condition = { readonly IfNoneMatch?: '*'; readonly IfMatch?: string }
type SourceCondition = { readonly CopySourceIfMatch?: string }
/** One write on a condition. @throws what refused it */
type Write = (key: string, condition: Condition & SourceCondition) => Promise<void>

const NOTHING = 'nothing'

/** @throws NoSuchBucket, AccessDenied, Unavailable: what keeps the bucket from being used at all */
export async function probeExternal(options: ProbeOptions): Promise<ExternalAbilities> {
  await removeLeftBehind(options)
  return await new Probe(options).run()
}

class Probe {
  readonly #options: ProbeOptions
  readonly #base: string

  constructor(options: ProbeOptions) {
    this.#options = options
    this.#base = `${options.keyPrefix}${options.randomText()}`
  }

  async run(): Promise<ExternalAbilities> {
    const [put, conditionalDelete, complete, copy, tags] = await Promise.all([
      this.#with('put', (key) => this.#tryPut(key)),
      this.#with('delete', (key) => this.#tryDelete(key)),
      this.#with('complete', (key) => this.#tryComplete(key)),
      this.#with('copy', (key) => this.#tryCopy(key)),
      this.#with('tags', (key) => this.#tryTags(key)),
    ])
    return { ...put, conditionalDelete, ...complete, ...copy, tags }
  }

  /** With a key of its own, that is removed again whatever happens. */
  async #with<T>(name: string, work: (key: string) => Promise<T>): Promise<T> {
    const key = `${this.#base}-${name}`
    try {
      return await work(key)
    } finally {
      await this.#cleanUp(key)
    }
  }

  async #tryPut(key: string): Promise<Pick<ExternalAbilities, 'conditionalPut' | 'digest'>> {
    const etag = await decidesConditions(this.#options, key)
    const conditionalPut = etag !== undefined && (await this.#look(key)) === etag
    return { conditionalPut, digest: await bestDigest(this.#options, key) }
  }

  async #tryDelete(key: string): Promise<boolean> {
    const { bucket: Bucket } = this.#options
    const etag = await this.#put(key, 'to be deleted')
    const remove = (IfMatch: string): Promise<unknown> =>
      this.#call(`remove ${key}`, ({ client, signal }) =>
        client.send(new DeleteObjectCommand({ Bucket, Key: key, IfMatch }), { abortSignal: signal }),
      )
    const isRefused = await refused(() => remove(NO_ETAG))
    if (!isRefused || (await this.#look(key)) !== etag) return false
    return !(await refused(() => remove(etag))) && (await this.#look(key)) === NOTHING
  }

  async #tryComplete(key: string): Promise<Pick<ExternalAbilities, 'conditionalComplete' | 'copiesPartsOnMatch'>> {
    const conditionalComplete = await this.#decides(key, (_, condition) => this.#upload(key, condition))
    const etag = await this.#put(key, 'to be copied')
    const copiesPartsOnMatch = await this.#decidesSource(key, etag, (condition) => this.#uploadCopy(key, condition))
    return { conditionalComplete, copiesPartsOnMatch }
  }

  async #tryCopy(key: string): Promise<Pick<ExternalAbilities, 'conditionalCopy' | 'copiesOnMatch'>> {
    return await this.#with('source', async (source) => {
      const etag = await this.#put(source, 'to be copied')
      const copy: Write = (target, condition) => this.#copy(source, target, condition)
      const conditionalCopy = await this.#decides(key, copy)
      await this.#put(key, 'to be copied over')
      const copiesOnMatch = await this.#decidesSource(key, etag, (condition) => copy(key, condition))
      return { conditionalCopy, copiesOnMatch }
    })
  }

  async #tryTags(key: string): Promise<ExternalAbilities['tags']> {
    const { bucket: Bucket } = this.#options
    const isRefused = await refusedOrDenied(() =>
      this.#call(`put ${key}`, ({ client, signal }) =>
        client.send(new PutObjectCommand({ Bucket, Key: key, Body: 'tagged', Tagging: 'is=tagged' }), {
          abortSignal: signal,
        }),
      ),
    )
    if (isRefused) return 'none'
    let tagged = false
    await refusedOrDenied(async () => {
      const { TagSet = [] } = await this.#call(`tags of ${key}`, ({ client, signal }) =>
        client.send(new GetObjectTaggingCommand({ Bucket, Key: key }), { abortSignal: signal }),
      )
      tagged = TagSet.some(({ Key, Value }) => Key === 'is' && Value === 'tagged')
    })
    if (!tagged) return 'none'
    const { TagCount } = await this.#head(key)
    return TagCount === 1 ? 'counted' : 'uncounted'
  }

  /** Whether the write heeds conditions on what it replaces. */
  async #decides(key: string, write: Write): Promise<boolean> {
    const etag = await this.#put(key, 'to be replaced')
    for (const condition of [{ IfNoneMatch: '*' }, { IfMatch: NO_ETAG }] as const) {
      if (!(await refused(() => write(key, condition))) || (await this.#look(key)) !== etag) return false
    }
    if (await refused(() => write(key, { IfMatch: etag }))) return false
    if ([etag, NOTHING].includes(await this.#look(key))) return false
    await this.#remove(key)
    if (await refused(() => write(key, { IfNoneMatch: '*' }))) return false
    return (await this.#look(key)) !== NOTHING
  }

  async #decidesSource(
    key: string,
    sourceEtag: string,
    write: (condition: SourceCondition) => Promise<void>,
  ): Promise<boolean> {
    const before = await this.#look(key)
    if (!(await refused(() => write({ CopySourceIfMatch: NO_ETAG }))) || (await this.#look(key)) !== before)
      return false
    return !(await refused(() => write({ CopySourceIfMatch: sourceEtag })))
  }

  async #copy(source: string, key: string, condition: Condition & SourceCondition): Promise<void> {
    const { bucket: Bucket } = this.#options
    const command = new CopyObjectCommand({
      Bucket,
      Key: key,
      CopySource: copySourceText(Bucket, source),
      ...condition,
    })
    await this.#call(`copy ${key}`, ({ client, signal }) => client.send(command, { abortSignal: signal }))
  }

  /** One small part. */
  async #upload(key: string, condition: Condition): Promise<void> {
    await this.#inParts(key, condition, async (target, { client, signal }) => {
      const { ETag } = await client.send(new UploadPartCommand({ ...target, Body: 'a part' }), { abortSignal: signal })
      return ETag
    })
  }

  /** One part that is copied from the object itself. */
  async #uploadCopy(key: string, condition: SourceCondition): Promise<void> {
    await this.#inParts(key, {}, async (target, { client, signal }) => {
      const CopySource = copySourceText(target.Bucket, key)
      const command = new UploadPartCopyCommand({ ...target, CopySource, CopySourceRange: 'bytes=0-1', ...condition })
      const { CopyPartResult } = await client.send(command, { abortSignal: signal })
      return CopyPartResult?.ETag
    })
  }

  async #inParts(
    key: string,
    condition: Condition,
    send: (
      target: { Bucket: string; Key: string; UploadId: string; PartNumber: number },
      attempt: Attempt,
    ) => Promise<string | undefined>,
  ): Promise<void> {
    const place = { Bucket: this.#options.bucket, Key: key }
    const { UploadId = '' } = await this.#call(`begin ${key}`, ({ client, signal }) =>
      client.send(new CreateMultipartUploadCommand(place), { abortSignal: signal }),
    )
    const upload = { ...place, UploadId }
    try {
      const ETag = await this.#call(`part of ${key}`, (attempt) => send({ ...upload, PartNumber: 1 }, attempt))
      const input = { ...upload, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] }, ...condition }
      await this.#call(`complete ${key}`, ({ client, signal }) =>
        client.send(new CompleteMultipartUploadCommand(input), { abortSignal: signal }),
      )
    } catch (error) {
      const command = new AbortMultipartUploadCommand(upload)
      const target = { what: `abandon ${key}`, kind: 'other', isCleanup: true } as const
      await this.#options.calls
        .call(target, ({ client, signal }) => client.send(command, { abortSignal: signal }))
        .catch(() => undefined)
      throw error
    }
  }

  /** @returns the ETag, as it came */
  async #put(key: string, text: string): Promise<string> {
    const command = new PutObjectCommand({ Bucket: this.#options.bucket, Key: key, Body: text })
    const { ETag = '' } = await this.#call(`put ${key}`, ({ client, signal }) =>
      client.send(command, { abortSignal: signal }),
    )
    return ETag
  }

  /** The ETag of what is there, as it comes, or that there is nothing. */
  async #look(key: string): Promise<string> {
    try {
      return (await this.#head(key)).ETag ?? ''
    } catch (error) {
      if (isTidegateError(error, 'NoSuchKey')) return NOTHING
      throw error
    }
  }

  async #head(key: string): Promise<{ ETag?: string | undefined; TagCount?: number | undefined }> {
    const command = new HeadObjectCommand({ Bucket: this.#options.bucket, Key: key })
    const target = { what: `look at ${key}`, kind: 'other', isBodiless: true } as const
    return await this.#options.calls.call(target, ({ client, signal }) => client.send(command, { abortSignal: signal }))
  }

  async #remove(key: string): Promise<void> {
    const command = new DeleteObjectCommand({ Bucket: this.#options.bucket, Key: key })
    await this.#call(`remove ${key}`, ({ client, signal }) => client.send(command, { abortSignal: signal }))
  }

  /** What cannot be removed now is removed by the next probe. */
  async #cleanUp(key: string): Promise<void> {
    const command = new DeleteObjectCommand({ Bucket: this.#options.bucket, Key: key })
    await this.#options.calls
      .call({ what: `remove ${key}`, kind: 'other', isCleanup: true }, ({ client, signal }) =>
        client.send(command, { abortSignal: signal }),
      )
      .catch(() => undefined)
  }

  async #call<T>(what: string, attempt: (attempt: Attempt) => Promise<T>): Promise<T> {
    return await this.#options.calls.call({ what, kind: 'other' }, attempt)
  }
}

/** Whether the store refused it for what was said with it. @throws what has nothing to do with that */
async function refused(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write()
    return false
  } catch (error) {
    const status = isTidegateError(error) ? error.details['status'] : undefined
    if (typeof status !== 'number' || !REFUSALS.has(status)) throw error
    return true
  }
}

/** Who may not see tags does without them. */
async function refusedOrDenied(write: () => Promise<unknown>): Promise<boolean> {
  try {
    return await refused(write)
  } catch (error) {
    if (isTidegateError(error, 'AccessDenied')) return true
    throw error
  }
}
