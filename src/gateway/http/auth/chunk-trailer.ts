import { AuthError } from './errors.ts'

/**
 * What follows the final chunk of an aws-chunked body:
 *
 *     no trailer        CRLF
 *     unsigned          name:value CRLF ... CRLF
 *     signed            name:value CRLF ... x-amz-trailer-signature:64 hex CRLF CRLF
 *
 * The signature covers `name:value LF` of every trailer, in the order sent. Only declared names may come (x-amz-trailer),
 * and each of them must (SECURITY-LESSONS 5.1.8). An unsigned body may declare none and carry none.
 *
 * Quirks: minio-go, like the example in S3's documentation, ends a trailer in LF and puts an empty line before the
 * trailer signature; the same client writes one CRLF too many after an unsigned trailer. Both are accepted, nothing else.
 */
export interface TrailerReader {
  write(bytes: Uint8Array): void
  /** @throws MalformedTrailerError, IncompleteBody */
  end(): ReadonlyMap<string, string>
}

const TRAILER_BYTES_MAX = 4096
const SIGNATURE_NAME = 'x-amz-trailer-signature'
const LF = 10

/** `verify` is given exactly if the trailers are signed; it throws unless the signature of the text holds. */
export function createTrailerReader(
  declared: readonly string[],
  verify: ((text: string, signature: string) => void) | undefined,
): TrailerReader {
  return new LineReader(declared, verify)
}

class LineReader implements TrailerReader {
  readonly #declared: readonly string[]
  readonly #verify: ((text: string, signature: string) => void) | undefined
  readonly #trailers = new Map<string, string>()
  #received = 0
  #line = ''
  /** What the trailer signature covers. */
  #text = ''
  #signed = false
  #blankBeforeSignature = false
  #finished = false
  #blankAfterEnd = false

  constructor(declared: readonly string[], verify: ((text: string, signature: string) => void) | undefined) {
    this.#declared = declared
    this.#verify = verify
  }

  write(bytes: Uint8Array): void {
    this.#received += bytes.length
    if (this.#received > TRAILER_BYTES_MAX) throw malformed()
    let at = 0
    while (at < bytes.length) {
      const lineEnd = bytes.indexOf(LF, at)
      const until = lineEnd === -1 ? bytes.length : lineEnd
      this.#line += Buffer.from(bytes.buffer, bytes.byteOffset + at, until - at).toString('latin1')
      if (lineEnd === -1) return
      const line = this.#line
      this.#line = ''
      this.#take(line)
      at = lineEnd + 1
    }
  }

  end(): ReadonlyMap<string, string> {
    if (!this.#finished || this.#line !== '') {
      throw new AuthError('IncompleteBody', 'The request body terminated unexpectedly')
    }
    return this.#trailers
  }

  #take(line: string): void {
    if (line === '\r') return this.#takeBlank()
    const text = line.endsWith('\r') ? line.slice(0, -1) : line
    const colon = text.indexOf(':')
    if (this.#finished || this.#signed || colon < 1 || text.includes('\r')) throw malformed()
    const name = text.slice(0, colon).toLowerCase()
    const value = text.slice(colon + 1).trim()
    if (name === SIGNATURE_NAME) return this.#takeSignature(value)
    const unexpected = this.#blankBeforeSignature || this.#trailers.has(name) || !this.#declared.includes(name)
    if (unexpected || value === '') throw malformed()
    this.#trailers.set(name, value)
    this.#text += `${name}:${value}\n`
  }

  #takeSignature(signature: string): void {
    if (this.#verify === undefined) throw malformed()
    this.#verify(this.#text, signature)
    this.#signed = true
  }

  #takeBlank(): void {
    if (this.#finished) {
      if (this.#blankAfterEnd || this.#verify !== undefined || this.#trailers.size === 0) throw malformed()
      this.#blankAfterEnd = true
      return
    }
    if (this.#verify !== undefined && !this.#signed) {
      if (this.#blankBeforeSignature || this.#trailers.size === 0) throw malformed()
      this.#blankBeforeSignature = true
      return
    }
    if (this.#trailers.size !== this.#declared.length) throw malformed()
    this.#finished = true
  }
}

function malformed(): AuthError {
  return new AuthError(
    'MalformedTrailerError',
    'The request contained trailing data that was not well-formed or did not conform to our published schema.',
  )
}
