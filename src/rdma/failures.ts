/** Failures of calls, as the caller is told them and as they travel. */
import { ERROR_CODES, TidegateError, type ErrorCode } from '../common/errors.ts'

const MESSAGE_CHARACTERS_MAX = 4_096
const CODES: ReadonlySet<string> = new Set(ERROR_CODES)

export function unavailableNode(node: number, why: string, cause?: unknown): TidegateError {
  return new TidegateError('Unavailable', `node ${node}: ${why}`, { details: { node }, cause })
}

/** Head of an error's frame: JSON of code and message. What is no TidegateError is a defect of the handler, and says nothing of itself. */
export function encodeFailure(error: unknown): Uint8Array {
  const { code, message } =
    error instanceof TidegateError ? error : { code: 'Internal', message: 'the node failed to answer' }
  return Buffer.from(JSON.stringify({ code, message: message.slice(0, MESSAGE_CHARACTERS_MAX) }))
}

/** What a handler threw there, as it is thrown here. Whatever the bytes are. */
export function decodeFailure(node: number, head: Uint8Array): TidegateError {
  try {
    const { code, message } = JSON.parse(Buffer.from(head.buffer, head.byteOffset, head.length).toString()) as {
      code?: unknown
      message?: unknown
    }
    if (typeof code === 'string' && CODES.has(code) && typeof message === 'string')
      return new TidegateError(code as ErrorCode, message, { details: { node } })
  } catch {
    // Said below.
  }
  return unavailableNode(node, 'it answered with an error that cannot be read')
}
