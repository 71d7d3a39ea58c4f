import { createHash, createHmac } from 'node:crypto'

/**
 * A SigV4 signer for tests, written from S3's documentation and sharing no code with the gateway's verifier, so that a
 * mistake in one does not hide the same mistake in the other. Clean functions: nothing is sent here.
 */
export interface Signer {
  readonly accessKey: string
  readonly secretKey: string
  readonly region: string
  readonly service: string
  /** Time of signing. */
  readonly nowMs: number
}

export interface RequestToSign {
  readonly method: string
  /** Path and query as they will be sent, percent-encoded. */
  readonly target: string
  /** Must hold `host`. Names in any case; a list stands for a repeated header. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>
}

export interface SignedRequest {
  readonly method: string
  readonly target: string
  /** Names in lower case. */
  readonly headers: Record<string, string>
  readonly signature: string
}

export const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD'
export const STREAMING_SIGNED = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD'
export const STREAMING_SIGNED_TRAILER = 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER'
export const STREAMING_UNSIGNED_TRAILER = 'STREAMING-UNSIGNED-PAYLOAD-TRAILER'

/** `payload`: a body to hash, or one of the literals above. `unsigned`: headers to send without signing them. */
export function signWithHeader(
  signer: Signer,
  request: RequestToSign,
  options: { payload: string | Uint8Array; unsigned?: readonly string[] },
): SignedRequest {
  const payloadHash = typeof options.payload === 'string' ? options.payload : sha256Hex(options.payload)
  const headers = lowerCased({
    'x-amz-date': amzDateOf(signer.nowMs),
    'x-amz-content-sha256': payloadHash,
    ...request.headers,
  })
  const signed = Object.keys(headers)
    .filter((name) => !(options.unsigned ?? []).includes(name))
    .sort()
  const date = headers['x-amz-date'] ?? ''
  const { path, query } = splitTarget(request.target)
  const canonical = canonicalRequestOf({ method: request.method, path, query, headers, signed, payloadHash })
  const signature = signCanonical(signer, date, canonical)
  const credential = `${signer.accessKey}/${scopeOf(signer, date)}`
  return {
    method: request.method,
    target: request.target,
    signature,
    headers: {
      ...headers,
      authorization: `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signed.join(';')}, Signature=${signature}`,
    },
  }
}

/** `override` replaces or adds query parameters before signing; undefined takes one out. */
export function presign(
  signer: Signer,
  request: RequestToSign,
  options: {
    expiresSeconds: number | string
    payload?: string
    unsigned?: readonly string[]
    override?: Readonly<Record<string, string | undefined>>
  },
): SignedRequest {
  const headers = lowerCased(request.headers)
  const date = amzDateOf(signer.nowMs)
  const signed = Object.keys(headers)
    .filter((name) => !(options.unsigned ?? []).includes(name))
    .sort()
  const parameters: Record<string, string | undefined> = {
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${signer.accessKey}/${scopeOf(signer, date)}`,
    'X-Amz-Date': date,
    'X-Amz-Expires': String(options.expiresSeconds),
    'X-Amz-SignedHeaders': signed.join(';'),
    ...options.override,
  }
  const { path, query } = splitTarget(request.target)
  const added = Object.entries(parameters)
    .filter((entry): entry is [string, string] => entry[1] !== undefined)
    .map(([name, value]) => `${uriEncode(name)}=${uriEncode(value)}`)
  const full = [...(query === '' ? [] : [query]), ...added].join('&')
  const payloadHash = options.payload ?? UNSIGNED_PAYLOAD
  const canonical = canonicalRequestOf({ method: request.method, path, query: full, headers, signed, payloadHash })
  const signature = signCanonical(signer, date, canonical)
  return { method: request.method, target: `${path}?${full}&X-Amz-Signature=${signature}`, headers, signature }
}

/** One body framed as aws-chunked, whose every chunk is signed. */
export function frameSignedChunks(
  signer: Signer,
  seedSignature: string,
  body: Uint8Array,
  options: { chunkBytes?: number; trailers?: Readonly<Record<string, string>> } = {},
): Buffer {
  const date = amzDateOf(signer.nowMs)
  const key = signingKeyOf(signer, date)
  const empty = sha256Hex('')
  let previous = seedSignature
  const frames: Uint8Array[] = []
  for (const chunk of [...split(body, options.chunkBytes ?? 65_536), Buffer.alloc(0)]) {
    const text = ['AWS4-HMAC-SHA256-PAYLOAD', date, scopeOf(signer, date), previous, empty, sha256Hex(chunk)].join('\n')
    previous = hmac(key, text).toString('hex')
    frames.push(Buffer.from(`${chunk.length.toString(16)};chunk-signature=${previous}\r\n`), chunk)
    if (chunk.length > 0) frames.push(Buffer.from('\r\n'))
  }
  if (options.trailers !== undefined) {
    const lines = Object.entries(options.trailers).map(([name, value]) => `${name}:${value}`)
    const covered = lines.map((line) => `${line}\n`).join('')
    const text = ['AWS4-HMAC-SHA256-TRAILER', date, scopeOf(signer, date), previous, sha256Hex(covered)].join('\n')
    const signature = hmac(key, text).toString('hex')
    frames.push(Buffer.from([...lines, `x-amz-trailer-signature:${signature}`].map((line) => `${line}\r\n`).join('')))
  }
  frames.push(Buffer.from('\r\n'))
  return Buffer.concat(frames)
}

/** One body framed as aws-chunked without signatures, as botocore, SDK v3 and the Java SDK send it. */
export function frameUnsignedChunks(
  body: Uint8Array,
  options: { chunkBytes?: number; trailers?: Readonly<Record<string, string>> } = {},
): Buffer {
  const frames: Uint8Array[] = []
  for (const chunk of split(body, options.chunkBytes ?? 65_536)) {
    frames.push(Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n'))
  }
  frames.push(Buffer.from('0\r\n'))
  for (const [name, value] of Object.entries(options.trailers ?? {})) frames.push(Buffer.from(`${name}:${value}\r\n`))
  frames.push(Buffer.from('\r\n'))
  return Buffer.concat(frames)
}

/** RFC 3986: everything but unreserved characters, as upper-case escapes of the UTF-8 bytes. */
export function uriEncode(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

export function amzDateOf(ms: number): string {
  return `${new Date(ms).toISOString().replace(/[-:]/g, '').slice(0, 15)}Z`
}

export function sha256Hex(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export function signingKeyOf(signer: Signer, date: string): Buffer {
  const dated = hmac(`AWS4${signer.secretKey}`, date.slice(0, 8))
  return hmac(hmac(hmac(dated, signer.region), signer.service), 'aws4_request')
}

export function scopeOf(signer: Signer, date: string): string {
  return `${date.slice(0, 8)}/${signer.region}/${signer.service}/aws4_request`
}

function canonicalRequestOf(parts: {
  method: string
  path: string
  query: string
  headers: Readonly<Record<string, string>>
  signed: readonly string[]
  payloadHash: string
}): string {
  const query = parts.query
    .split('&')
    .filter((pair) => pair !== '')
    .map((pair): [string, string] => {
      const [name = '', ...value] = pair.split('=')
      return [name, value.join('=')]
    })
    .sort(([nameA, valueA], [nameB, valueB]) => compare(nameA, nameB) || compare(valueA, valueB))
    .map(([name, value]) => `${name}=${value}`)
    .join('&')
  const headers = parts.signed.map((name) => `${name}:${(parts.headers[name] ?? '').trim().replace(/[ \t]+/g, ' ')}\n`)
  return [parts.method, parts.path, query, headers.join(''), parts.signed.join(';'), parts.payloadHash].join('\n')
}

function signCanonical(signer: Signer, date: string, canonical: string): string {
  const text = ['AWS4-HMAC-SHA256', date, scopeOf(signer, date), sha256Hex(canonical)].join('\n')
  return hmac(signingKeyOf(signer, date), text).toString('hex')
}

function hmac(key: string | Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

function split(body: Uint8Array, chunkBytes: number): Uint8Array[] {
  const chunks: Uint8Array[] = []
  for (let at = 0; at < body.length; at += chunkBytes) chunks.push(body.subarray(at, at + chunkBytes))
  return chunks
}

function splitTarget(target: string): { path: string; query: string } {
  const mark = target.indexOf('?')
  return mark === -1 ? { path: target, query: '' } : { path: target.slice(0, mark), query: target.slice(mark + 1) }
}

function lowerCased(headers: Readonly<Record<string, string | readonly string[]>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      typeof value === 'string' ? value : value.map((each) => each.trim()).join(','),
    ]),
  )
}

function compare(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}
