/**
 * Reading from an external S3 into the caller's memory. Nothing is believed that the answer's own head does not bear out: the range that
 * was asked for, its length, the object's length.
 */
import { GetObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { Readable } from 'node:stream'
import { assert } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { Sink } from './answer-connection.ts'
import type { AnswerConnections, SignedRequest } from './answer-connections.ts'
import type { AnswerHead } from './plain-answer.ts'
import type { Attempt } from './s3-calls.ts'
import { badAnswer } from './s3-errors.ts'
import { bareEtag } from './s3-etags.ts'

export interface S3Object {
  readonly bucket: string
  readonly key: string
  /** For messages. */
  readonly what: string
  /** Without quotes: only this one of the objects that have the key. */
  readonly etag?: string
}

export interface RangeRead {
  readonly offset: number
  readonly into: readonly Uint8Array[]
  /** That buffer is full, and not touched any more. */
  readonly onFilled: (index: number) => void
}

/**
 * Straight from the connection to the buffers. Where a rate is set, or the store does not say how long its answers are, by the SDK's own
 * transport: that one can be made to wait, and reads everything.
 *
 * @returns bytes read: all that was asked for, or up to the object's end
 */
export async function readRange(
  attempt: Attempt,
  connections: AnswerConnections,
  object: S3Object,
  read: RangeRead,
): Promise<number> {
  const { client, signal, progress, pace } = attempt
  const { offset, into, onFilled } = read
  const { what } = object
  const wanted = into.reduce((sum, { length }) => sum + length, 0)
  assert(into.every(({ length }) => length > 0) && wanted > 0 && offset >= 0, 'a range has bytes')
  const range = `bytes=${offset}-${offset + wanted - 1}`
  const condition = object.etag === undefined ? {} : { IfMatch: `"${object.etag}"` }
  const command = new GetObjectCommand({ Bucket: object.bucket, Key: object.key, Range: range, ...condition })
  let poured: number | undefined
  if (pace === undefined && connections.areUsable) {
    const accept = ({ headers }: AnswerHead, length: number): number => {
      assertSame({ ETag: headers['etag'] }, object)
      return expectedBytes({ ContentLength: length, ContentRange: headers['content-range'] }, { offset, wanted, what })
    }
    pourInstead(command, { connections, sink: { what, into, accept, progress, onFilled }, signal }, (bytes) => {
      poured = bytes
    })
  }
  let answer: GetObjectCommandOutput
  try {
    answer = await client.send(command, { abortSignal: signal })
  } catch (error) {
    // Beyond the object's end.
    if ((error as GetObjectCommandOutput).$metadata?.httpStatusCode === 416) return 0
    throw error
  }
  if (poured !== undefined) return poured
  const body = bodyOf(answer, what)
  try {
    assertSame(answer, object)
    const expected = expectedBytes(answer, { offset, wanted, what })
    await pour(body, { expected, what, signal, progress, pace }, scatter(into, onFilled))
    return expected
  } catch (error) {
    body.destroy()
    throw error
  }
}

/** The command's request goes over connections of ours, as the last step of what the SDK does with it: it is signed by then. */
function pourInstead(
  command: GetObjectCommand,
  to: { readonly connections: AnswerConnections; readonly sink: Sink; readonly signal: AbortSignal },
  onPoured: (bytes: number) => void,
): void {
  command.middlewareStack.add(
    () => async (args) => {
      const { head, body, bytesPoured } = await to.connections.get(args.request as SignedRequest, to.sink, to.signal)
      if (bytesPoured !== undefined) onPoured(bytesPoured)
      // The SDK wants the body of an object to be a stream.
      const left = bytesPoured === undefined ? body : Readable.from([])
      const response = { statusCode: head.status, headers: head.headers, body: left }
      return { response }
    },
    { step: 'deserialize', priority: 'low', name: 'pourInstead' },
  )
}

/** A whole object of at most that many bytes. */
export async function readWhole(
  { client, signal, progress, pace }: Attempt,
  object: S3Object,
  bytesMax: number,
): Promise<{ bytes: Buffer; etag: string }> {
  const command = new GetObjectCommand({ Bucket: object.bucket, Key: object.key })
  const answer = await client.send(command, { abortSignal: signal })
  const body = bodyOf(answer, object.what)
  try {
    const { ContentLength: length, ETag: etag } = answer
    if (length === undefined || etag === undefined) throw badAnswer(object.what, 'the answer has no length or no ETag')
    if (length > bytesMax) {
      throw new TidegateError('EntityTooLarge', `${object.what}: it has ${length} bytes, over ${bytesMax}`)
    }
    const bytes = Buffer.alloc(length)
    await pour(
      body,
      { expected: length, what: object.what, signal, progress, pace },
      scatter([bytes], () => undefined),
    )
    return { bytes, etag }
  } catch (error) {
    body.destroy()
    throw error
  }
}

function bodyOf(answer: GetObjectCommandOutput, what: string): Readable {
  if (answer.Body === undefined) throw badAnswer(what, 'the answer has no body')
  const body = answer.Body as Readable
  // From here on somebody listens, whatever happens to the connection before the body is read.
  body.on('error', () => undefined)
  return body
}

/** A store may not know the condition. @throws PreconditionFailed */
function assertSame({ ETag: found }: Pick<GetObjectCommandOutput, 'ETag'>, { etag, what }: S3Object): void {
  if (etag === undefined || found === undefined || bareEtag(found) === etag) return
  throw new TidegateError('PreconditionFailed', `${what}: it has another ETag now`)
}

/** How long the body must be, from what its head says about itself. @throws Unavailable when it does not fit what was asked for */
function expectedBytes(
  answer: Pick<GetObjectCommandOutput, 'ContentLength' | 'ContentRange'>,
  { offset, wanted, what }: { readonly offset: number; readonly wanted: number; readonly what: string },
): number {
  const { ContentLength: length, ContentRange: range } = answer
  if (range === undefined) {
    // Whole: the store ignored the range, or it covers all of it.
    if (offset === 0 && length !== undefined && length <= wanted) return length
    throw badAnswer(what, `the store answered a range from ${offset} with the whole object`)
  }
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(range)
  const [first, last, total] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])]
  const bytes = last - first + 1
  const reachesEnd = last + 1 === total
  const fits = first === offset && bytes >= 1 && bytes <= wanted && last < total && (bytes === wanted || reachesEnd)
  if (!fits || (length !== undefined && length !== bytes)) {
    throw badAnswer(
      what,
      `asked for ${wanted} bytes from ${offset}, the answer says ${range.slice(0, 80)}, length ${length}`,
    )
  }
  return bytes
}

/** Writes chunks one after the other over the buffers. */
function scatter(into: readonly Uint8Array[], onFilled: (index: number) => void): (chunk: Buffer) => void {
  let index = 0
  let filled = 0
  return (chunk) => {
    for (let taken = 0; taken < chunk.length;) {
      const buffer = into[index]
      assert(buffer, 'a chunk fits the buffers')
      // Not `set`: into shared memory that takes thrice as long when the chunk does not begin at a word, as behind the answer's head.
      const copied = chunk.copy(buffer, filled, taken)
      taken += copied
      filled += copied
      if (filled === buffer.length) {
        onFilled(index++)
        filled = 0
      }
    }
  }
}

/** Resolves when exactly the expected bytes have come and the body has ended. Nothing is written any more once it has settled. */
function pour(
  body: Readable,
  options: {
    readonly expected: number
    readonly what: string
    readonly signal: AbortSignal
    readonly progress: () => void
    readonly pace: Attempt['pace']
  },
  write: (chunk: Buffer) => void,
): Promise<void> {
  const { expected, what, signal, progress, pace } = options
  return new Promise((resolve, reject) => {
    let got = 0
    let paid: Promise<void> | undefined
    const settle = (error?: Error): void => {
      body.off('data', onData).off('end', onEnd).off('error', settle).off('close', onClose)
      signal.removeEventListener('abort', onAbort)
      if (error === undefined) return resolve()
      body.destroy()
      reject(error)
    }
    const onData = (chunk: Buffer): void => {
      progress()
      if (got + chunk.length > expected)
        return settle(badAnswer(what, `more than the ${expected} bytes that were said`))
      got += chunk.length
      write(chunk)
      if (pace === undefined) return
      // Paid for when it has come: what does not fit the rate waits in the connection, and the store with it.
      body.pause()
      paid = pace(chunk.length)
      paid.then(() => void body.resume(), settle)
    }
    const onEnd = (): void => {
      const error = got === expected ? undefined : badAnswer(what, `${got} bytes came, not ${expected}`)
      if (paid === undefined) return settle(error)
      // A body that is paused may end all the same.
      body.off('close', onClose)
      paid.then(() => settle(error), settle)
    }
    const onClose = (): void => settle(badAnswer(what, `the connection broke after ${got} of ${expected} bytes`))
    const onAbort = (): void => settle(signal.reason as Error)
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort)
    body.on('data', onData).on('end', onEnd).on('error', settle).on('close', onClose)
  })
}
