import type { IncomingHttpHeaders } from 'node:http'
import { AuthError } from './errors.ts'

/**
 * Request headers as SigV4 wants them: one value a name, repeated headers joined by a comma without a space, runs of
 * blanks made one. Node joins with `, ` and silently drops the repetition of some names, so a request with repeated
 * names is read from the raw list instead; a second Host or Authorization is refused, never chosen between.
 */
export interface HeaderView {
  readonly names: readonly string[]
  /** `name` in lower case. Undefined when absent. */
  get(name: string): string | undefined
}

const NOT_REPEATABLE = new Set([
  'authorization',
  'content-length',
  'date',
  'host',
  'x-amz-content-sha256',
  'x-amz-date',
  'x-amz-decoded-content-length',
  'x-amz-security-token',
])

export function viewHeaders(headers: IncomingHttpHeaders, rawHeaders: readonly string[]): HeaderView {
  const names = Object.keys(headers)
  if (names.length * 2 !== rawHeaders.length) return viewRepeatedHeaders(rawHeaders)
  return {
    names,
    get: (name) => {
      const value = headers[name]
      if (typeof value === 'string') return value
      // Node's object has a prototype: `constructor` is a legal header name, and not a header of this request.
      return Array.isArray(value) ? value.join(',') : undefined
    },
  }
}

function viewRepeatedHeaders(rawHeaders: readonly string[]): HeaderView {
  const values = new Map<string, string>()
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase()
    const value = rawHeaders[index + 1] ?? ''
    const before = values.get(name)
    if (before !== undefined && NOT_REPEATABLE.has(name)) {
      throw new AuthError('InvalidArgument', `The header ${name} must not be repeated.`, { ArgumentName: name })
    }
    values.set(name, before === undefined ? value : `${before.trim()},${value.trim()}`)
  }
  return { names: [...values.keys()], get: (name) => values.get(name) }
}

/** The value with blanks at its ends removed and runs of them inside made one (SigV4's trimall). */
export function collapseBlanks(value: string): string {
  return NEEDS_COLLAPSING.test(value) ? value.replace(BLANKS, ' ').trim() : value
}

const NEEDS_COLLAPSING = /^ | $| {2}|\t/
const BLANKS = /[ \t]+/g
