/**
 * The least that must be understood of HTTP/1.1 answers to know where one ends. There is one request in flight on a
 * connection, so what follows an answer belongs to nobody.
 */

export interface Answer {
  readonly ok: boolean
  /** Status line, and of an answer that is not ok also the beginning of its body. */
  readonly summary: string
  readonly bodyBytes: number
}

export interface AnswerReader {
  /** The answer once `chunk` ended it. `chunk` may be reused afterwards. */
  push(chunk: Buffer): Answer | undefined
}

const HEAD_END = Buffer.from('\r\n\r\n')
const LAST_CHUNK = Buffer.from('0\r\n\r\n')

export function createAnswerReader(headOnly: boolean): AnswerReader {
  let head: Buffer | undefined
  let status = ''
  let inHead = true
  let bodyBytes = 0
  let length = 0
  let chunked = false
  let tail: Buffer = Buffer.alloc(0)
  let excerpt = ''

  const take = (bytes: Buffer): boolean => {
    bodyBytes += bytes.length
    if (!status.startsWith('2') && excerpt.length < 400) excerpt += bytes.toString('latin1', 0, 400)
    if (!chunked) return bodyBytes >= length
    tail = Buffer.concat([tail, bytes.subarray(-LAST_CHUNK.length)]).subarray(-LAST_CHUNK.length)
    return tail.equals(LAST_CHUNK)
  }
  const finish = (): Answer => {
    const ok = status.startsWith('2')
    const answer = { ok, summary: `${status} ${excerpt}`.trim(), bodyBytes }
    inHead = true
    bodyBytes = 0
    tail = Buffer.alloc(0)
    excerpt = ''
    return answer
  }

  return {
    push(chunk) {
      if (!inHead) return take(chunk) ? finish() : undefined
      const bytes = head === undefined ? chunk : Buffer.concat([head, chunk])
      const end = bytes.indexOf(HEAD_END)
      if (end === -1) {
        head = Buffer.from(bytes)
        return undefined
      }
      head = undefined
      const text = bytes.toString('latin1', 0, end + 2)
      status = text.slice(9, text.indexOf('\r\n'))
      chunked = /\r\ntransfer-encoding: *chunked\r\n/i.test(text)
      length = Number(/\r\ncontent-length: *(\d+)\r\n/i.exec(text)?.[1] ?? 0)
      inHead = false
      const bodiless = headOnly || status.startsWith('204') || status.startsWith('304')
      if (bodiless || (!chunked && length === 0)) return finish()
      return take(bytes.subarray(end + HEAD_END.length)) ? finish() : undefined
    },
  }
}
