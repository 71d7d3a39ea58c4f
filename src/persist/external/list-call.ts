/**
 * ListObjectsV2 by the SDK, but for the reading of its answer (list-page.ts). What the SDK's own reader is for, refusals and whatever is not
 * written as stores write it, goes on to that.
 */
import {
  ListObjectsV2Command,
  type ListObjectsV2CommandInput,
  type ListObjectsV2CommandOutput,
} from '@aws-sdk/client-s3'
import type { Attempt } from '../remote/s3-calls.ts'
import { badAnswer } from '../remote/s3-errors.ts'
import { readListPage, type ListedPage } from './list-page.ts'

/** A page of 1,000 keys of 1 KiB, each byte of them encoded, is far below. */
const ANSWER_BYTES_MAX = 16 * 2 ** 20
const NOTHING = new Uint8Array(0)

interface RawAnswer {
  readonly response: { readonly statusCode: number; body?: unknown }
}

/** @throws what the SDK does, and Unavailable for an answer that is none */
export async function listPage(
  { client, signal, progress }: Attempt,
  what: string,
  input: ListObjectsV2CommandInput,
): Promise<ListedPage> {
  const command = new ListObjectsV2Command(input)
  let page: ListedPage | undefined
  command.middlewareStack.add(
    (next) => async (args) => {
      const answer = (await next(args)) as RawAnswer
      const { response } = answer
      if (response.statusCode !== 200 || !isReadable(response.body)) return answer
      const bytes = await collect(response.body, { what, progress })
      page = readListPage(bytes.toString())
      response.body = page === undefined ? bytes : NOTHING
      return answer
    },
    { step: 'deserialize', priority: 'low', name: 'readListPage' },
  )
  const answer = await client.send(command, { abortSignal: signal })
  return page ?? bySdk(answer, what)
}

/** An answer that says nothing at all reads like one that says that there is nothing. */
function bySdk(answer: ListObjectsV2CommandOutput, what: string): ListedPage {
  const { IsTruncated, NextContinuationToken, EncodingType, Contents = [], CommonPrefixes = [] } = answer
  if (IsTruncated === undefined) throw badAnswer(what, 'the answer does not say whether there is more')
  return {
    isTruncated: IsTruncated,
    token: NextContinuationToken,
    isUrlEncoded: EncodingType === 'url',
    objects: Contents.map(({ Key, Size, ETag, LastModified, StorageClass }) => ({
      ...(Key === undefined ? {} : { Key }),
      ...(Size === undefined ? {} : { Size }),
      ...(ETag === undefined ? {} : { ETag }),
      ...(LastModified === undefined ? {} : { modifiedMs: LastModified.getTime() }),
      ...(StorageClass === undefined ? {} : { StorageClass }),
    })),
    prefixes: CommonPrefixes.map(({ Prefix }) => Prefix),
  }
}

function isReadable(body: unknown): body is AsyncIterable<Buffer> {
  return typeof body === 'object' && body !== null && Symbol.asyncIterator in body
}

async function collect(
  body: AsyncIterable<Buffer>,
  { what, progress }: { readonly what: string; readonly progress: () => void },
): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    progress()
    chunks.push(chunk)
    length += chunk.length
    if (length > ANSWER_BYTES_MAX) throw badAnswer(what, `a page of more than ${ANSWER_BYTES_MAX} bytes`)
  }
  return Buffer.concat(chunks, length)
}
