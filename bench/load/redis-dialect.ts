/**
 * Redis's protocol, RESP2, as far as GET and SET go: a command is an array of bulk strings; the answer is a status (`+OK`), an
 * error (`-ERR ...`), or a bulk string (`$` and its length, the bytes, CRLF), of length -1 for nothing. See "Redis serialization protocol
 * specification" at redis.io.
 */
import type { AnswerReader } from './answer-reader.ts'
import type { Dialect } from './dialect.ts'
import type { LoadRequest } from './job.ts'

const CRLF = Buffer.from('\r\n')

export function createRedisDialect(request: LoadRequest, bytes: Buffer): Dialect {
  const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`
  const writes = request.method === 'PUT'
  return {
    body: writes ? Buffer.concat([bytes, CRLF]) : Buffer.alloc(0),
    head(index) {
      const key = bulk(request.path.replaceAll('#', String(index).padStart(7, '0')))
      return Buffer.from(writes ? `*3\r\n${bulk('SET')}${key}$${bytes.length}\r\n` : `*2\r\n${bulk('GET')}${key}`)
    },
    reader: createRedisReader,
  }
}

function createRedisReader(): AnswerReader {
  let line: Buffer | undefined
  let bodyBytes = 0
  let missing = 0
  const take = (count: number) => {
    missing -= count
    if (missing > 0) return undefined
    return { ok: true, summary: 'value', bodyBytes }
  }
  return {
    push(chunk) {
      if (missing > 0) return take(chunk.length)
      const bytes = line === undefined ? chunk : Buffer.concat([line, chunk])
      const end = bytes.indexOf(CRLF)
      if (end === -1) {
        line = Buffer.from(bytes)
        return undefined
      }
      line = undefined
      const summary = bytes.toString('latin1', 0, end)
      if (!summary.startsWith('$')) return { ok: summary.startsWith('+'), summary, bodyBytes: 0 }
      bodyBytes = Number(summary.slice(1))
      if (bodyBytes < 0) return { ok: false, summary: 'no such key', bodyBytes: 0 }
      missing = bodyBytes + CRLF.length
      return take(bytes.length - end - CRLF.length)
    },
  }
}
