import { AuthError } from './errors.ts'

/**
 * The request target as it was sent: path and query still encoded. Signatures are computed over these very characters
 * (SECURITY-LESSONS 5.1.2): nothing is normalised, no `//`, `.` or `..` is resolved.
 *
 * Two ways of writing a target are accepted as the one the client signed:
 *
 * - as sent, which is what every SDK does, since it sends what it signs;
 * - in AWS's canonical spelling (`canonicalPath`, `canonicalQuery`), for clients that sign the canonical form and send
 *   another spelling of the same bytes: `:` for `%3A`, `%3a` for `%3A`, `%7E` for `~`.
 *
 * Both name the same decoded bytes, so a signature still vouches for exactly one key. `+` stands for itself in both.
 */
export interface RequestTarget {
  readonly path: string
  readonly parameters: readonly QueryParameter[]
}

/** One `name=value` of the query, as sent. A name without `=` has the value ''. */
export interface QueryParameter {
  readonly name: string
  readonly value: string
}

const PARAMETERS_MAX = 256
const NO_PARAMETERS: readonly QueryParameter[] = []

export function parseTarget(rawTarget: string): RequestTarget {
  if (rawTarget.charCodeAt(0) !== 47) {
    throw new AuthError('InvalidURI', "Couldn't parse the specified URI.")
  }
  const mark = rawTarget.indexOf('?')
  if (mark === -1) return { path: rawTarget, parameters: NO_PARAMETERS }
  const query = rawTarget.slice(mark + 1)
  if (query === '') return { path: rawTarget.slice(0, mark), parameters: NO_PARAMETERS }
  const pairs = query.split('&')
  if (pairs.length > PARAMETERS_MAX) {
    throw new AuthError('InvalidArgument', `The query holds more than ${PARAMETERS_MAX} parameters.`)
  }
  const parameters: QueryParameter[] = []
  for (const pair of pairs) {
    // An empty pair (`a&&b`) says nothing, and no client signs it.
    if (pair === '') continue
    const equals = pair.indexOf('=')
    parameters.push(
      equals === -1 ? { name: pair, value: '' } : { name: pair.slice(0, equals), value: pair.slice(equals + 1) },
    )
  }
  return { path: rawTarget.slice(0, mark), parameters }
}

/** Spelling of a target: which of the two ways (see above) a signature is tried with. */
export type Spelling = 'as-sent' | 'canonical'

export function canonicalPath(path: string, spelling: Spelling): string {
  return spelling === 'as-sent' ? path : respell(path, PATH_LITERAL)
}

/** Sorted by encoded name, then by value; empty values as `name=`; without X-Amz-Signature (SECURITY-LESSONS 5.1.3). */
export function canonicalQuery(parameters: readonly QueryParameter[], spelling: Spelling): string {
  if (parameters.length === 0) return ''
  const spelled = parameters
    .filter((parameter) => parameter.name !== SIGNATURE_PARAMETER)
    .map(({ name, value }) =>
      spelling === 'as-sent'
        ? { name, value }
        : { name: respell(name, QUERY_LITERAL), value: respell(value, QUERY_LITERAL) },
    )
  if (spelled.length > 1) spelled.sort(byNameThenValue)
  return spelled.map(({ name, value }) => `${name}=${value}`).join('&')
}

export const SIGNATURE_PARAMETER = 'X-Amz-Signature'

function byNameThenValue(left: QueryParameter, right: QueryParameter): number {
  if (left.name !== right.name) return left.name < right.name ? -1 : 1
  if (left.value === right.value) return 0
  return left.value < right.value ? -1 : 1
}

/** Characters that canonical spelling leaves alone: RFC 3986 unreserved, and `/` in a path. `+` by our rule above. */
const PATH_LITERAL = /[A-Za-z0-9\-._~/+]/
const QUERY_LITERAL = /[A-Za-z0-9\-._~+]/
const UNRESERVED = /[A-Za-z0-9\-._~]/
const ESCAPE_OR_CHARACTER = /%[0-9A-Fa-f]{2}|[^]/g

const SPELLED_ALREADY = /^[A-Za-z0-9\-._~+]*$/

function respell(text: string, literal: RegExp): string {
  if (SPELLED_ALREADY.test(text)) return text
  return text.replace(ESCAPE_OR_CHARACTER, (unit) => {
    if (unit.length === 3) {
      const character = String.fromCharCode(Number.parseInt(unit.slice(1), 16))
      return UNRESERVED.test(character) ? character : unit.toUpperCase()
    }
    if (literal.test(unit)) return unit
    // Node shows the bytes of a target as latin1 characters, so each is one byte.
    return `%${unit.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`
  })
}

/** The text that an encoded query component stands for; itself when its escapes are broken. */
export function decodeComponent(text: string): string {
  if (!text.includes('%')) return text
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
