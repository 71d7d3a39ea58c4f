/**
 * Bodies that are JSON. Fastify's own reader would decode what is no UTF-8 with U+FFFD in its place, so that two keys become one
 * (lesson 5.1.11), and counts over no more than one request. `100 Continue` is sent when the body is wanted, after its length was
 * looked at (lesson 5.1.14).
 */
import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import type { FastifyBodyParser, FastifyRequest } from 'fastify'
import { TidegateError } from '../../common/errors.ts'
import { BodyTransfer } from './body/transfer.ts'
import { tooLarge } from './body/claims.ts'
import type { ByteBudget } from './byte-budget.ts'

export interface JsonBodyOptions {
  /** Makes the value of a text. */
  readonly parse: FastifyBodyParser<string>
  readonly memory: ByteBudget
  /** A body that brings no byte for this long is given up with RequestTimeout. */
  readonly idleMsMax: number
}

type Parser = (request: FastifyRequest, body: Readable, done: (error: Error | null, value?: unknown) => void) => void

export function jsonBodyParser(options: JsonBodyOptions): Parser {
  return (request, body, done) => {
    collect(request, body, options).then((text) => void options.parse(request, text, done), done)
  }
}

/** @throws TidegateError EntityTooLarge, SlowDown, IncompleteBody, RequestTimeout, InvalidRequest */
async function collect(request: FastifyRequest, body: Readable, options: JsonBodyOptions): Promise<string> {
  const { memory, idleMsMax } = options
  const { exchange } = request
  const bytesMax = request.routeOptions.bodyLimit
  const announced = Number(request.headers['content-length'] ?? 0)
  if (announced > bytesMax) throw tooLarge(announced, bytesMax)
  exchange.sendContinue()
  const chunks: Uint8Array[] = []
  let bytes = 0
  const take = (chunk: Uint8Array): boolean => {
    bytes += chunk.length
    if (bytes > bytesMax) throw tooLarge(bytes, bytesMax)
    if (!memory.take(exchange.response, chunk.length)) {
      throw new TidegateError('SlowDown', 'too many large requests are under way')
    }
    chunks.push(chunk)
    return true
  }
  await new BodyTransfer(body, { take }, idleMsMax).run()
  const [only] = chunks
  const whole = chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, bytes)
  if (!isUtf8(whole)) throw new TidegateError('InvalidRequest', 'the body is not UTF-8')
  return Buffer.from(whole.buffer, whole.byteOffset, whole.byteLength).toString('utf8')
}
