/**
 * The part of HTTP/1.1 (RFC 9112) that answers to GET are made of: the head, and the bodies of refusals. Bodies of data that are not
 * delimited by their length are left to others.
 */
import { badAnswer } from './s3-errors.ts'

export interface AnswerHead {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>
  /** Bytes of the head, with the empty line. */
  readonly bytes: number
  /** Whether another request may follow on the connection. */
  readonly staysOpen: boolean
}

const HEAD_BYTES_MAX = 64 * 1024
const REFUSAL_BYTES_MAX = 64 * 1024

const STATUS_LINE = /^HTTP\/1\.([01]) (\d{3})(?: |$)/
const HEADER_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/
const DIGITS = /^\d{1,15}$/

/** Undefined while it is not all there. @throws Unavailable when it is none */
export function parseHead(received: Buffer, what: string): AnswerHead | undefined {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) {
    if (received.length > HEAD_BYTES_MAX) throw badAnswer(what, 'the head of the answer does not end')
    return undefined
  }
  const [statusLine = '', ...lines] = received.toString('latin1', 0, end).split('\r\n')
  const match = STATUS_LINE.exec(statusLine)
  if (!match) throw badAnswer(what, 'what was answered is not HTTP/1.1')
  const headers: Record<string, string> = Object.create(null) as Record<string, string>
  for (const line of lines) {
    const [, name, value] = HEADER_LINE.exec(line) ?? []
    if (name === undefined || value === undefined) throw badAnswer(what, 'a line of the head is no header')
    const key = name.toLowerCase()
    const before = headers[key]
    // Of two lengths or two codings nobody knows which one holds: a connection that is read differently by two is how answers are mixed up.
    if (before !== undefined && (key === 'content-length' || key === 'transfer-encoding')) {
      throw badAnswer(what, `the answer has two ${key}`)
    }
    headers[key] = before === undefined ? value : `${before}, ${value}`
  }
  const staysOpen = match[1] === '1' && !/\bclose\b/i.test(headers['connection'] ?? '')
  return { status: Number(match[2]), headers, bytes: end + 4, staysOpen }
}

export function isInterim({ status }: AnswerHead): boolean {
  return status >= 100 && status < 200
}

/** Bytes of a body that its length delimits; undefined when something else does. */
export function plainLength({ headers }: AnswerHead): number | undefined {
  const length = headers['content-length'] ?? ''
  return headers['transfer-encoding'] === undefined && DIGITS.test(length) ? Number(length) : undefined
}

/** The body of a refusal, once it is all there; 'unreadable': one that is too long to be in the words of S3, or none at all. */
export function refusalBody(
  head: AnswerHead,
  received: Buffer,
  connection: 'open' | 'ended',
): Buffer | 'unreadable' | undefined {
  if (head.status === 204 || head.status === 304) return Buffer.alloc(0)
  const length = plainLength(head)
  if ((length ?? received.length) > REFUSAL_BYTES_MAX) return 'unreadable'
  if (length !== undefined) return received.length < length ? undefined : received.subarray(0, length)
  const coding = head.headers['transfer-encoding']?.toLowerCase()
  if (coding !== undefined) return coding === 'chunked' ? unchunked(received) : 'unreadable'
  // RFC 9112, 6.3: nothing delimits it but the connection's end. Of who keeps it open nobody knows how long that takes.
  if (head.staysOpen) return 'unreadable'
  return connection === 'ended' ? received : undefined
}

/** RFC 9112, 7.1; trailers are left out. */
function unchunked(received: Buffer): Buffer | 'unreadable' | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ;) {
    const lineEnd = received.indexOf('\r\n', at)
    if (lineEnd < 0) return undefined
    const [, hex] = /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(received.toString('latin1', at, lineEnd)) ?? []
    if (hex === undefined) return 'unreadable'
    const start = lineEnd + 2
    const end = start + Number.parseInt(hex, 16)
    // From the line's own end on: the empty line may follow at once.
    if (end === start) return received.includes('\r\n\r\n', lineEnd) ? Buffer.concat(chunks) : undefined
    if (received.length < end + 2) return undefined
    if (received.toString('latin1', end, end + 2) !== '\r\n') return 'unreadable'
    chunks.push(received.subarray(start, end))
    at = end + 2
  }
}
