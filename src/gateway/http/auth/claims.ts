import { AuthError } from './errors.ts'
import { formatErrorTime, parseAmzDate } from './amz-date.ts'
import { readPresignedV2 } from './presigned-v2.ts'
import { decodeComponent, SIGNATURE_PARAMETER } from './request-target.ts'
import { readPayloadClaim } from './payload-form.ts'
import type { HeaderView } from './header-view.ts'
import type { PayloadClaim } from './payload-form.ts'
import type { PresignedV2Claims } from './presigned-v2.ts'
import type { QueryParameter, RequestTarget } from './request-target.ts'
import type { CredentialScope } from './signing-key.ts'

/**
 * What a request says of itself before anything is verified. Reading it is the only place that decides which
 * authentication form a request has; the gate then switches over `kind` exhaustively, and takes identity and proof from
 * this one value (SECURITY-LESSONS 5.2.1 and 5.2.2). HTTP Basic and Bearer are no forms of S3's: port-authenticator.ts knows them.
 */
export type Claims = { readonly kind: 'anonymous' } | HeaderClaims | PresignedClaims | PresignedV2Claims

interface SignedClaims {
  readonly accessKey: string
  readonly scope: CredentialScope
  /** In the order given, lower case, unique, none empty. */
  readonly signedHeaders: readonly string[]
  /** As given; not checked for form, since a wrong one just does not match. */
  readonly signature: string
  /** `YYYYMMDDTHHMMSSZ`. */
  readonly amzDate: string
  readonly requestMs: number
  readonly payload: PayloadClaim
}

export interface HeaderClaims extends SignedClaims {
  readonly kind: 'header'
}

export interface PresignedClaims extends SignedClaims {
  readonly kind: 'presigned'
  readonly expiresMs: number
}

const ALGORITHM = 'AWS4-HMAC-SHA256'
const EXPIRES_SECONDS_MAX = 604_800

export function readClaims(headers: HeaderView, target: RequestTarget, rules: ClaimRules): Claims {
  const authorization = headers.get('authorization')
  const query = findQueryCredentials(target.parameters)
  if (authorization !== undefined && query.form !== 'none') throw twoMechanisms()
  if (authorization !== undefined) return readAuthorization(authorization, headers, rules)
  switch (query.form) {
    case 'none':
      return { kind: 'anonymous' }
    case 'v2':
      return readPresignedV2(target.parameters, headers)
    case 'v4':
      return readPresigned(query.parameters, headers)
  }
}

/** For forms that only a header can have. @throws InvalidArgument when there are credentials in the query too */
export function refuseQueryCredentials(target: RequestTarget): void {
  if (findQueryCredentials(target.parameters).form !== 'none') throw twoMechanisms()
}

function twoMechanisms(): AuthError {
  return new AuthError(
    'InvalidArgument',
    'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter ' +
      'or the Authorization header should be specified',
    { ArgumentName: 'Authorization' },
  )
}

function readAuthorization(authorization: string, headers: HeaderView, rules: ClaimRules): HeaderClaims {
  const space = authorization.indexOf(' ')
  const scheme = space === -1 ? authorization : authorization.slice(0, space)
  const rest = space === -1 ? '' : authorization.slice(space + 1)
  switch (scheme) {
    case ALGORITHM:
      return readHeaderForm(rest, headers, rules)
    case '':
      throw new AuthError('AccessDenied', 'Access Denied')
    case 'AWS':
      if (/^[^\s:]+:[^\s:]+$/.test(rest)) throw unsupportedMechanism()
      throw new AuthError(
        'InvalidArgument',
        'AWS authorization header is invalid.  Expected AwsAccessKeyId:signature',
        { ArgumentName: 'Authorization' },
      )
    case 'AWS4-ECDSA-P256-SHA256':
      throw new AuthError('NotImplemented', 'AWS4-ECDSA-P256-SHA256 is not implemented.')
    default:
      // The value itself may be a password (HTTP Basic), so it is not repeated.
      throw new AuthError('InvalidArgument', 'Unsupported Authorization Type', { ArgumentName: 'Authorization' })
  }
}

export function unsupportedMechanism(): AuthError {
  return new AuthError(
    'InvalidRequest',
    `The authorization mechanism you have provided is not supported. Please use ${ALGORITHM}.`,
  )
}

type Malformed = (what: string) => AuthError

const malformedHeader: Malformed = (what) =>
  new AuthError('AuthorizationHeaderMalformed', `The authorization header is malformed; ${what}`)
const malformedQuery: Malformed = (what) => new AuthError('AuthorizationQueryParametersError', what)

/** How the two signed forms word what is wrong with their credential. */
export function malformedIn(kind: 'header' | 'presigned'): Malformed {
  return kind === 'header'
    ? malformedHeader
    : (what) => malformedQuery(`Error parsing the X-Amz-Credential parameter; ${what}`)
}

export interface ClaimRules {
  /**
   * Whether a request without a body may leave x-amz-content-sha256 out, as SigV4 has it for services other than S3; curl up to 7.88 does
   * so for every service. It is then held to have signed the hash of nothing.
   */
  readonly bodilessHashOptional: boolean
}

const SHA256_OF_NOTHING = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'

function hashOfNothing(headers: HeaderView): string | undefined {
  const bodiless = (headers.get('content-length') ?? '0') === '0' && headers.get('transfer-encoding') === undefined
  return bodiless ? SHA256_OF_NOTHING : undefined
}

const SIGNATURE_FIELD = 'Signature='

function readHeaderForm(rest: string, headers: HeaderView, rules: ClaimRules): HeaderClaims {
  const at = rest.lastIndexOf(SIGNATURE_FIELD)
  if (at === -1) throw malformedHeader('a non-empty Signature must be provided.')
  const comma = rest.indexOf(',', at)
  const signature = rest.slice(at + SIGNATURE_FIELD.length, comma === -1 ? undefined : comma)
  // All but the signature is the same in every request of a client, and is remembered.
  const others = comma === -1 ? rest.slice(0, at) : rest.slice(0, at) + rest.slice(comma + 1)
  const { credential, signedHeaders } = readAuthorizationFields(others, malformedHeader)
  const payload =
    headers.get('x-amz-content-sha256') ?? (rules.bodilessHashOptional ? hashOfNothing(headers) : undefined)
  if (payload === undefined) {
    throw new AuthError('InvalidRequest', 'Missing required header for this request: x-amz-content-sha256')
  }
  const { amzDate, requestMs } = readHeaderDate(headers)
  return {
    kind: 'header',
    accessKey: credential.accessKey,
    scope: credential.scope,
    signedHeaders,
    signature,
    amzDate,
    requestMs,
    payload: readPayloadClaim(payload),
  }
}

interface AuthorizationFields {
  readonly credential: Credential
  readonly signedHeaders: readonly string[]
}

/** `Credential=..., SignedHeaders=...,` in either order. */
const readAuthorizationFields = remembering((text: string, malformed: Malformed): AuthorizationFields => {
  const fields = new Map<string, string>()
  for (const part of text.split(',')) {
    const field = part.trim()
    if (field === '') continue
    const equals = field.indexOf('=')
    const name = field.slice(0, Math.max(0, equals))
    if ((name !== 'Credential' && name !== 'SignedHeaders') || fields.has(name)) {
      throw malformed('it must hold Credential, SignedHeaders and Signature, each once, separated by commas.')
    }
    fields.set(name, field.slice(equals + 1))
  }
  const credential = fields.get('Credential') ?? ''
  const signedHeaders = fields.get('SignedHeaders') ?? ''
  if (credential === '' || signedHeaders === '') {
    throw malformed('a non-empty Credential and SignedHeaders must be provided.')
  }
  return {
    credential: readCredential(credential, malformed),
    signedHeaders: readSignedHeaders(signedHeaders, malformed),
  }
})

/** x-amz-date, or for clients that cannot set it (old s3cmd, some browsers) the Date header. */
function readHeaderDate(headers: HeaderView): { amzDate: string; requestMs: number } {
  const amzDate = headers.get('x-amz-date') ?? headers.get('date') ?? ''
  let requestMs = parseAmzDate(amzDate)
  if (!Number.isNaN(requestMs)) return { amzDate, requestMs }
  if (headers.get('x-amz-date') === undefined && IMF_FIXDATE.test(amzDate)) {
    requestMs = Date.parse(amzDate)
    if (!Number.isNaN(requestMs)) {
      return { amzDate: `${new Date(requestMs).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`, requestMs }
    }
  }
  throw new AuthError('AccessDenied', 'AWS authentication requires a valid Date or x-amz-date header')
}

const IMF_FIXDATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/

interface Credential {
  readonly accessKey: string
  readonly scope: CredentialScope
}

/** `ACCESSKEY/date/region/service/aws4_request`, read from its end: a configured access key may hold slashes. */
const readCredential = remembering((text: string, malformed: Malformed): Credential => {
  const parts = text.split('/')
  const [date = '', region = '', service = '', terminator = ''] = parts.slice(-4)
  if (parts.length < 5 || terminator !== 'aws4_request') {
    throw malformed('the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".')
  }
  if (!/^\d{8}$/.test(date)) throw malformed('incorrect date format; it must be YYYYMMDD.')
  return { accessKey: parts.slice(0, -4).join('/'), scope: { date, region, service } }
})

const readSignedHeaders = remembering((text: string, malformed: Malformed): readonly string[] => {
  const names = text.split(';')
  for (const name of names) {
    if (!HEADER_NAME.test(name)) throw malformed('SignedHeaders must hold lower-case header names, separated by ";".')
  }
  if (new Set(names).size !== names.length) throw malformed('SignedHeaders names a header twice.')
  return names
})

const REMEMBERED_MAX = 1024
const REMEMBERED_TEXT_MAX = 512

/**
 * A client sends the same credential and the same list of signed headers with every request, so what they parse to is
 * remembered. When full all is forgotten: a flood of different texts costs others a parse, and no memory.
 */
function remembering<T>(parse: (text: string, malformed: Malformed) => T): (text: string, malformed: Malformed) => T {
  const results = new Map<string, T>()
  return (text, malformed) => {
    const found = results.get(text)
    if (found !== undefined) return found
    const result = parse(text, malformed)
    if (text.length <= REMEMBERED_TEXT_MAX) {
      if (results.size >= REMEMBERED_MAX) results.clear()
      results.set(text, result)
    }
    return result
  }
}

const HEADER_NAME = /^[a-z0-9!#$%&'*+.^_`|~-]+$/

type QueryCredentials =
  | { readonly form: 'none' | 'v2' }
  | { readonly form: 'v4'; readonly parameters: ReadonlyMap<string, string> }

const V4_PARAMETERS = [
  'X-Amz-Algorithm',
  'X-Amz-Credential',
  'X-Amz-Signature',
  'X-Amz-Date',
  'X-Amz-SignedHeaders',
  'X-Amz-Expires',
] as const
const V4_NAMES = new Map<string, string>(
  [...V4_PARAMETERS, 'X-Amz-Content-Sha256', 'X-Amz-Security-Token'].map((name) => [name.toLowerCase(), name]),
)
/** Any of these makes a request one that claims to be signed; the others are meaningless by themselves. */
const V4_MARKS = new Set(['X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature'])
const V2_MARKS = new Set(['AWSAccessKeyId', 'Signature'])

function findQueryCredentials(parameters: readonly QueryParameter[]): QueryCredentials {
  if (parameters.length === 0) return { form: 'none' }
  const found = new Map<string, string>()
  let form: 'none' | 'v2' | 'v4' = 'none'
  for (const parameter of parameters) {
    const name = decodeComponent(parameter.name)
    if (V2_MARKS.has(name) && form === 'none') form = 'v2'
    // Names are matched without case, so that `x-amz-signature` is a wrong signature and not an anonymous request.
    const known = name.length > 5 ? V4_NAMES.get(name.toLowerCase()) : undefined
    if (known === undefined) continue
    if (found.has(known)) throw malformedQuery(`The query parameter ${known} is given twice.`)
    found.set(known, decodeComponent(parameter.value))
    if (V4_MARKS.has(known)) form = 'v4'
    if (known === SIGNATURE_PARAMETER && parameter.name !== SIGNATURE_PARAMETER) {
      throw malformedQuery(`The signature must be given as ${SIGNATURE_PARAMETER}.`)
    }
  }
  return form === 'v4' ? { form, parameters: found } : { form }
}

function readPresigned(parameters: ReadonlyMap<string, string>, headers: HeaderView): PresignedClaims {
  const required = (name: (typeof V4_PARAMETERS)[number]): string => {
    const value = parameters.get(name)
    if (value !== undefined && value !== '') return value
    throw malformedQuery(
      'Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, ' +
        `X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters; ${name} is missing.`,
    )
  }
  if (required('X-Amz-Algorithm') !== ALGORITHM) throw malformedQuery(`X-Amz-Algorithm only supports "${ALGORITHM}"`)
  if (parameters.has('X-Amz-Security-Token')) throw invalidToken()
  const { accessKey, scope } = readCredential(required('X-Amz-Credential'), malformedIn('presigned'))
  const amzDate = required('X-Amz-Date')
  const requestMs = parseAmzDate(amzDate)
  if (Number.isNaN(requestMs)) {
    throw malformedQuery("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
  }
  return {
    kind: 'presigned',
    accessKey,
    scope,
    signedHeaders: readSignedHeaders(required('X-Amz-SignedHeaders'), malformedQuery),
    signature: required('X-Amz-Signature'),
    amzDate,
    requestMs,
    expiresMs: requestMs + readExpires(required('X-Amz-Expires'), requestMs) * 1000,
    payload: readPresignedPayload(parameters.get('X-Amz-Content-Sha256'), headers.get('x-amz-content-sha256')),
  }
}

/** SDK v3 and Go hoist the header into the query; boto3 writes neither and signs UNSIGNED-PAYLOAD. */
function readPresignedPayload(inQuery: string | undefined, inHeader: string | undefined): PayloadClaim {
  if (inQuery !== undefined && inHeader !== undefined && inQuery !== inHeader) {
    throw new AuthError('InvalidRequest', 'X-Amz-Content-Sha256 differs between the query and the header.')
  }
  return readPayloadClaim(inQuery ?? inHeader ?? 'UNSIGNED-PAYLOAD')
}

/** Whole seconds, 1..604800. Zero is a URL that has expired (403), the rest is malformed (400), as AWS tells them. */
function readExpires(text: string, requestMs: number): number {
  if (!/^-?\d{1,16}$/.test(text)) throw malformedQuery('X-Amz-Expires should be a number')
  const seconds = Number(text)
  if (text.startsWith('-')) throw malformedQuery('X-Amz-Expires must be non-negative')
  if (seconds > EXPIRES_SECONDS_MAX) {
    throw malformedQuery(
      'X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than ' +
        `${EXPIRES_SECONDS_MAX} seconds`,
    )
  }
  if (seconds === 0) {
    throw new AuthError('AccessDenied', 'Request has expired', {
      'X-Amz-Expires': 0,
      Expires: formatErrorTime(requestMs),
    })
  }
  return seconds
}

/** There are no temporary credentials here, and a token that nobody checks must not pass for a checked one. */
export function invalidToken(): AuthError {
  return new AuthError('InvalidToken', 'The provided token is malformed or otherwise invalid.')
}
