/**
 * The body of a signed request for routes whose body a parser reads: what the signature says of it must hold before a handler
 * sees it, or who overheard a signed request could send another body with it (SECURITY-LESSONS 5.1, 6). Routes that stream values
 * verify theirs as they go.
 */
import { createHash } from 'node:crypto'
import { Transform, type Readable } from 'node:stream'
import { TidegateError } from '../../common/errors.ts'
import { createBodyDecoder } from './auth/body-decoder.ts'
import type { Authenticated } from './types.ts'

/** Fastify compares this with Content-Length, when a body was transformed. */
interface FramedBody extends Transform {
  receivedEncodedLength: number
}

/** `body` itself where nothing was signed of it. Fails with BadDigest, or with what is wrong with its framing, at its end. */
export function verifiedBody(authenticated: Authenticated | undefined, body: Readable): Readable {
  if (authenticated === undefined || authenticated.payload.kind === 'unsigned') return body
  const { payload } = authenticated
  const decoder = createBodyDecoder(authenticated)
  const sha256 = payload.kind === 'signed' ? createHash('sha256') : undefined
  const verified = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        verified.receivedEncodedLength += chunk.length
        decoder.write(chunk, (bytes) => {
          sha256?.update(bytes)
          this.push(bytes)
        })
        done()
      } catch (error) {
        done(error as Error)
      }
    },
    flush(done) {
      try {
        decoder.end()
        const matches = payload.kind !== 'signed' || sha256?.digest('hex') === payload.sha256
        done(matches ? null : new TidegateError('BadDigest', 'the body is not the one that was signed'))
      } catch (error) {
        done(error as Error)
      }
    },
  }) as FramedBody
  verified.receivedEncodedLength = 0
  body.once('error', (error) => verified.destroy(error))
  body.once('close', () => {
    if (!body.readableEnded)
      verified.destroy(new TidegateError('IncompleteBody', 'the connection closed within the body'))
  })
  return body.pipe(verified)
}
