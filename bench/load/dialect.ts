/** What is sent for a request and how an answer is known to have ended: in HTTP, signed or not, and in Redis's protocol. */
import { createAnswerReader, type AnswerReader } from './answer-reader.ts'
import type { LoadJob, LoadRequest } from './job.ts'
import { createRedisDialect } from './redis-dialect.ts'
import { createSigner } from './signer.ts'
import { sendsBody, targetOf } from './target.ts'

export interface Dialect {
  /** Follows every head. */
  readonly body: Buffer
  head(index: number): Buffer
  /** One for each connection. */
  reader(): AnswerReader
}

export function dialectOf(job: LoadJob): Dialect {
  const bytes = bodyOf(job.request)
  if (job.origin.startsWith('redis:')) return createRedisDialect(job.request, bytes)
  const heads = job.request.authorization === undefined ? createSigner(job, bytes) : createPlainHeads(job, bytes)
  const headOnly = job.request.method === 'HEAD'
  return { body: bytes, head: (index) => heads.head(index), reader: () => createAnswerReader(headOnly) }
}

function bodyOf(request: LoadRequest): Buffer {
  if (request.body !== undefined) return Buffer.from(request.body)
  const body = Buffer.alloc(request.bodyBytes ?? 0, 0x61)
  for (let at = 0; at < body.length; at += 61) body[at] = at & 255
  return body
}

function createPlainHeads({ origin, request }: LoadJob, body: Uint8Array): Pick<Dialect, 'head'> {
  const headers = { host: new URL(origin).host, ...request.headers, authorization: request.authorization ?? '' }
  const length = sendsBody(request.method) ? [`content-length: ${body.length}`] : []
  const lines = [...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), ...length, '\r\n']
  const end = ` HTTP/1.1\r\n${lines.join('\r\n')}`
  return {
    head(index) {
      const { path, query } = targetOf(request, index)
      return Buffer.from(`${request.method} ${path}${query === '' ? '' : `?${query}`}${end}`, 'latin1')
    },
  }
}
