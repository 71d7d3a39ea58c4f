/** `GET /kv/v1/{bucket}`: keys in order, streamed as NDJSON a page at a time, each read at one revision (C31). */
import { setImmediate as immediately } from 'node:timers/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TidegateError } from '../../common/errors.ts'
import { problemDocument, problemOf } from '../http/problem.ts'
import type { KvDoor } from './door.ts'
import { flag, wholeNumber, type BucketParams, type Query } from './parameters.ts'
import { RawAnswer } from './raw-answer.ts'
import { RequestAccess } from './request-access.ts'
import { decodeCursor } from './scan-cursor.ts'
import { entryLines, keyLines, pageLine, valueLines } from './scan-lines.ts'

export const NDJSON_CONTENT_TYPE = 'application/x-ndjson'

const PAGE_KEYS_MAX = 1000
const SCAN_KEYS_MAX = 100_000
const SCAN_KEYS_DEFAULT = 1000
/** A larger value is got by itself. */
const VALUE_BYTES_MAX = 1024 * 1024

interface Scan {
  readonly bucket: string
  readonly prefix: string
  readonly start: string
  readonly end: string
  readonly reverse: boolean
  readonly show: 'keys' | 'entries' | 'values'
  readonly limit: number
  readonly after: string | undefined
}

export async function serveScan(
  request: FastifyRequest<{ Params: BucketParams; Querystring: Query }>,
  reply: FastifyReply,
  door: KvDoor,
): Promise<FastifyReply> {
  const { bucket } = request.params
  const scan = parseScan(bucket, request.query)
  const access = new RequestAccess(door.access, request, { 's3:prefix': request.query['prefix'] })
  access.demand({ action: 's3:ListBucket', bucket })
  const mayRead = (key: string): boolean => access.allows({ action: 's3:GetObject', bucket, key })
  const lines = linesOf(door, scan, mayRead)
  // What is wrong with the request shows on the first page, while it can still be answered as a problem.
  const first = (await lines.next()).value ?? ''
  const answer = new RawAnswer(request, reply, NDJSON_CONTENT_TYPE)
  await stream({ request, answer, door }, first, lines)
  return reply
}

async function stream(
  { request, answer, door }: { request: FastifyRequest; answer: RawAnswer; door: KvDoor },
  first: string,
  rest: AsyncGenerator<string, void>,
): Promise<void> {
  const { exchange } = request
  try {
    if (!(await answer.write(Buffer.from(first)))) return
    for await (const lines of rest) if (!(await answer.write(Buffer.from(lines)))) return
  } catch (error) {
    const problem = problemOf(error)
    if (problem === undefined) return door.sendProblem(exchange, error)
    exchange.errorCode = problem.code
    await answer.write(Buffer.from(`{"error":${problemDocument(problem, exchange.requestId)}}\n`))
  } finally {
    await rest.return()
  }
  answer.end()
}

/** Lines of one page after the other; a page with values in pieces. */
async function* linesOf(door: KvDoor, scan: Scan, mayRead: (key: string) => boolean): AsyncGenerator<string, void> {
  const { keyValues, reading } = door.store
  const { limit: keysMax, show, after: resumed, ...range } = scan
  const values = show === 'values'
  let keysLeft = keysMax
  let after = resumed
  do {
    // Pages of embedded metadata come without waiting for anything: a long scan must not keep everybody else from having a turn.
    if (after !== resumed) await immediately()
    const limit = Math.min(keysLeft, PAGE_KEYS_MAX)
    const page = await keyValues.scan({ ...range, after, limit, values, valueBytesMax: VALUE_BYTES_MAX })
    keysLeft -= page.keys.length
    after = page.next
    const end = pageLine(page.revision, after)
    if (values) {
      yield* valueLines(reading, page, mayRead)
      yield end
    } else {
      yield (show === 'keys' ? keyLines(page) : entryLines(page)) + end
    }
  } while (after !== undefined && keysLeft > 0)
}

/** @throws InvalidArgument */
function parseScan(bucket: string, query: Query): Scan {
  const { prefix = '', start = '', end = '', cursor } = query
  const [keys, values] = [flag(query, 'keys'), flag(query, 'values')]
  if (keys && values)
    throw new TidegateError('InvalidArgument', 'the parameters "keys" and "values" exclude each other')
  return {
    bucket,
    prefix,
    start,
    end,
    reverse: flag(query, 'reverse'),
    show: keys ? 'keys' : values ? 'values' : 'entries',
    limit: wholeNumber(query, 'limit', { min: 1, max: SCAN_KEYS_MAX, fallback: SCAN_KEYS_DEFAULT }),
    after: cursor === undefined ? undefined : decodeCursor(cursor),
  }
}
