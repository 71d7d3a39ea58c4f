import { hash, randomBytes } from 'node:crypto'
import { unreachable } from '../../../common/assert.ts'
import { ANONYMOUS } from '../../../store/access.ts'
import { formatErrorTime } from './amz-date.ts'
import { invalidToken, malformedIn, readClaims, unsupportedMechanism } from './claims.ts'
import { AuthError, signatureMismatch } from './errors.ts'
import { collapseBlanks, viewHeaders } from './header-view.ts'
import { createOriginReader } from './origin.ts'
import { anonymousPayloadClaim, declaredTrailers, payloadForm } from './payload-form.ts'
import { checkPresignedV2Time, verifyPresignedV2 } from './presigned-v2.ts'
import { canonicalPath, canonicalQuery, decodeComponent, parseTarget } from './request-target.ts'
import { deriveSigningKey, isSignature, scopeText, SigningKey, SigningKeyCache } from './signing-key.ts'
import type { IncomingHttpHeaders } from 'node:http'
import type { Clock } from '../../../common/clock.ts'
import type { Principal, UserDirectory } from '../../../store/access.ts'
import type { Authenticated } from '../types.ts'
import type { HeaderClaims, PresignedClaims } from './claims.ts'
import type { HeaderView } from './header-view.ts'
import type { PayloadClaim } from './payload-form.ts'
import type { PresignedV2Claims } from './presigned-v2.ts'
import type { RequestTarget, Spelling } from './request-target.ts'

/**
 * The one gate: every request of an HTTP door passes here before it is dispatched, and its principal can be had no other
 * way. The steps, in order, each of which only ever refuses:
 *
 *     target, headers   split, not decoded                         request-target.ts, header-view.ts
 *     origin            who sent it, what it called us             origin.ts
 *     claims            which form, whose key, which signature     claims.ts
 *     scope and time    region, service, date, skew, expiry
 *     coverage          what must be signed is signed
 *     signature         over the raw target
 *     payload           how the body will be verified              payload-form.ts, body-decoder.ts
 *
 * Headers that must be signed: `host` and every `x-amz-*` and `x-tidegate-*` header that is present, in both signed
 * forms. All of S3's meaning beyond the representation headers is in those. Content-Type and Content-MD5 need not be:
 * AWS does not demand them, minio-go leaves Content-Type out, and `curl -T` at a presigned URL adds one of its own.
 * What an attacker gains by adding either is to choose the type of a body that was not signed either, or to fail the
 * upload by a digest that does not fit.
 *
 * An unknown access key costs what a known one costs: the signature is computed with a key that nobody has.
 */
export interface AuthenticatorOptions {
  readonly users: UserDirectory
  readonly clock: Clock
  readonly region: string
  /** Services that a credential scope may name on this port; for S3 exactly `['s3']` (SECURITY-LESSONS 5.2.14). */
  readonly services: readonly string[]
  readonly externalUrl?: string | undefined
  readonly trustedProxies: readonly string[]
  /** False: a request whose body no signature covers is refused, presigned uploads included. Default true, as AWS. */
  readonly allowUnsignedPayload?: boolean | undefined
  /** See `ClaimRules`. Default false: S3 demands the header. */
  readonly bodilessHashOptional?: boolean | undefined
  /** False: presigned URLs of signature version 2 are refused. Default true; see presigned-v2.ts for why. */
  readonly allowPresignedV2?: boolean | undefined
}

export interface RawRequest {
  readonly method: string
  /** The request target exactly as received: path and query still encoded. */
  readonly rawTarget: string
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: readonly string[]
  readonly remoteAddress: string | undefined
  readonly tls: boolean
}

export interface Authenticator {
  /** @throws AuthError */
  authenticate(request: RawRequest): Authenticated
}

const SKEW_MS_MAX = 15 * 60 * 1000
const SIGNING_KEYS_MAX = 4096

type SignedClaims = HeaderClaims | PresignedClaims

/** A request on its way through the gate. */
interface Passage {
  readonly method: string
  readonly target: RequestTarget
  readonly headers: HeaderView
  readonly address: string
  readonly secure: boolean
  readonly hosts: readonly string[]
}

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const origins = createOriginReader(options)
  const verifier = createVerifier(options)
  const allowUnsignedPayload = options.allowUnsignedPayload ?? true
  const rules = { bodilessHashOptional: options.bodilessHashOptional ?? false }
  return {
    authenticate(request) {
      const target = parseTarget(request.rawTarget)
      const headers = viewHeaders(request.headers, request.rawHeaders)
      const origin = origins.read({
        host: headers.get('host') ?? '',
        forwardedFor: headers.get('x-forwarded-for'),
        forwardedHost: headers.get('x-forwarded-host'),
        forwardedProto: headers.get('x-forwarded-proto'),
        remoteAddress: request.remoteAddress,
        tls: request.tls,
      })
      const passage: Passage = { method: request.method, target, headers, ...origin }
      const claims = readClaims(headers, target, rules)
      switch (claims.kind) {
        case 'anonymous':
          return passAnonymous(passage)
        case 'header':
        case 'presigned':
          if (!allowUnsignedPayload) refuseUnsignedPayload(request.method, claims.payload)
          return verifier.pass(passage, claims)
        case 'presigned-v2':
          if (options.allowPresignedV2 === false) throw unsupportedMechanism()
          if (!allowUnsignedPayload) refuseUnsignedPayload(request.method, claims.payload)
          return passPresignedV2(passage, claims, options)
        default:
          return unreachable(claims, 'authentication form')
      }
    },
  }
}

/** Overrides of response headers: an anonymous caller could make a public object look like another site's page. */
const RESPONSE_OVERRIDE = /^response-/i

function passAnonymous(passage: Passage): Authenticated {
  const { headers, target } = passage
  if (target.parameters.some((parameter) => RESPONSE_OVERRIDE.test(decodeComponent(parameter.name)))) {
    throw new AuthError(
      'InvalidRequest',
      'Request specific response headers cannot be used for anonymous GET requests.',
    )
  }
  const payload = payloadForm(anonymousPayloadClaim(headers), headers, undefined)
  return {
    principal: ANONYMOUS,
    origin: { host: passage.hosts[0] ?? '', address: passage.address, secure: passage.secure },
    form: 'anonymous',
    payload,
    trailers: declaredTrailers(headers, payload),
  }
}

function passPresignedV2(passage: Passage, claims: PresignedV2Claims, options: AuthenticatorOptions): Authenticated {
  const { headers } = passage
  checkPresignedV2Time(claims, options.clock.nowMs())
  if (headers.get('x-amz-security-token') !== undefined) throw invalidToken()
  const user = options.users.findByAccessKey(claims.accessKey)
  const matches = verifyPresignedV2(passage, claims, user?.secretKey)
  if (user === undefined) throw unknownAccessKey(claims.accessKey)
  if (!matches) throw signatureMismatch({ AWSAccessKeyId: claims.accessKey })
  const payload = payloadForm(claims.payload, headers, undefined)
  return {
    principal: user.principal,
    // No signature covers the host, so no bucket may be read from it.
    origin: { host: '', address: passage.address, secure: passage.secure },
    form: 'presigned-v2',
    payload,
    trailers: declaredTrailers(headers, payload),
  }
}

function refuseUnsignedPayload(method: string, payload: PayloadClaim): void {
  const bodiless = method === 'GET' || method === 'HEAD' || method === 'DELETE'
  if (bodiless || payload.kind === 'sha256') return
  if (payload.text === 'UNSIGNED-PAYLOAD' || payload.text === 'STREAMING-UNSIGNED-PAYLOAD-TRAILER') {
    throw new AuthError('AccessDenied', 'This gateway accepts only bodies that are signed.')
  }
}

interface Verifier {
  pass(passage: Passage, claims: SignedClaims): Authenticated
}

function createVerifier(options: AuthenticatorOptions): Verifier {
  const { users, clock } = options
  const signingKeys = new SigningKeyCache(SIGNING_KEYS_MAX)
  const nobodysKey = new SigningKey(
    deriveSigningKey(randomBytes(32).toString('hex'), { date: '', region: '', service: '' }),
  )
  return {
    pass(passage, claims) {
      checkScope(claims, options)
      checkTime(claims, clock.nowMs())
      checkCoverage(claims, passage.headers)
      const user = users.findByAccessKey(claims.accessKey)
      const key = user === undefined ? nobodysKey : signingKeys.get(claims.accessKey, user.secretKey, claims.scope)
      const match = verify(passage, claims, key)
      if (user === undefined) throw unknownAccessKey(claims.accessKey)
      if (match.host === undefined) {
        throw signatureMismatch({ AWSAccessKeyId: claims.accessKey, StringToSign: match.stringToSign })
      }
      return admit(passage, claims, { principal: user.principal, host: match.host, signingKey: key.bytes })
    },
  }
}

function unknownAccessKey(accessKey: string): AuthError {
  return new AuthError('InvalidAccessKeyId', 'The AWS Access Key Id you provided does not exist in our records.', {
    AWSAccessKeyId: accessKey,
  })
}

function admit(
  passage: Passage,
  claims: SignedClaims,
  proven: { readonly principal: Principal; readonly host: string; readonly signingKey: Uint8Array },
): Authenticated {
  const payload = payloadForm(claims.payload, passage.headers, {
    signature: claims.signature,
    signingKey: proven.signingKey,
    amzDate: claims.amzDate,
    scope: scopeText(claims.scope),
  })
  return {
    principal: proven.principal,
    origin: { host: proven.host, address: passage.address, secure: passage.secure },
    form: claims.kind,
    payload,
    trailers: declaredTrailers(passage.headers, payload),
  }
}

function checkScope(claims: SignedClaims, options: AuthenticatorOptions): void {
  const { date, region, service } = claims.scope
  const malformed = malformedIn(claims.kind)
  if (!options.services.includes(service)) {
    throw malformed(`incorrect service "${service}". This endpoint belongs to "${options.services.join('" or "')}".`)
  }
  if (region !== options.region) {
    const error = malformed(`the region '${region}' is wrong; expecting '${options.region}'`)
    throw new AuthError(error.code, error.message, { Region: options.region })
  }
  if (!claims.amzDate.startsWith(date)) {
    throw malformed(
      `incorrect date "${date}". This date is not the same as X-Amz-Date: "${claims.amzDate.slice(0, 8)}".`,
    )
  }
}

function checkTime(claims: SignedClaims, nowMs: number): void {
  switch (claims.kind) {
    case 'header':
      if (Math.abs(nowMs - claims.requestMs) > SKEW_MS_MAX) {
        throw new AuthError(
          'RequestTimeTooSkewed',
          'The difference between the request time and the current time is too large.',
          {
            RequestTime: claims.amzDate,
            ServerTime: formatErrorTime(nowMs),
            MaxAllowedSkewMilliseconds: SKEW_MS_MAX,
          },
        )
      }
      return
    case 'presigned':
      if (claims.requestMs - nowMs > SKEW_MS_MAX) {
        throw new AuthError('AccessDenied', 'Request is not valid yet', {
          'X-Amz-Date': claims.amzDate,
          ServerTime: formatErrorTime(nowMs),
        })
      }
      if (nowMs > claims.expiresMs) {
        throw new AuthError('AccessDenied', 'Request has expired', {
          'X-Amz-Expires': (claims.expiresMs - claims.requestMs) / 1000,
          Expires: formatErrorTime(claims.expiresMs),
          ServerTime: formatErrorTime(nowMs),
        })
      }
      return
    default:
      unreachable(claims, 'signed form')
  }
}

/** Every header that changes what a request means must be signed (SECURITY-LESSONS 5.1.4). */
function checkCoverage(claims: SignedClaims, headers: HeaderView): void {
  const { signedHeaders } = claims
  let unsigned: string[] | undefined
  if (!signedHeaders.includes('host')) unsigned = ['host']
  for (const name of headers.names) {
    if (!name.startsWith('x-amz-') && !name.startsWith('x-tidegate-')) continue
    if (!signedHeaders.includes(name)) (unsigned ??= []).push(name)
  }
  if (unsigned !== undefined) {
    throw new AuthError('AccessDenied', 'There were headers present in the request which were not signed', {
      HeadersNotSigned: unsigned.join(', '),
    })
  }
  if (headers.get('x-amz-security-token') !== undefined) throw invalidToken()
}

/** The host under which the signature holds, if it does under any. */
function verify(
  passage: Passage,
  claims: SignedClaims,
  key: SigningKey,
): { readonly host: string | undefined; readonly stringToSign: string } {
  const scope = scopeText(claims.scope)
  const stringToSign = (digest: string): string => `AWS4-HMAC-SHA256\n${claims.amzDate}\n${scope}\n${digest}`
  const first = stringToSign(hash('sha256', canonicalRequest(passage, claims, passage.hosts[0] ?? '', 'as-sent')))
  if (isSignature(key.sign(first), claims.signature)) {
    return { host: passage.hosts[0] ?? '', stringToSign: first }
  }
  for (const { host, text } of otherReadings(passage, claims)) {
    const candidate = stringToSign(hash('sha256', text))
    if (isSignature(key.sign(candidate), claims.signature)) return { host, stringToSign: candidate }
  }
  return { host: undefined, stringToSign: first }
}

/**
 * The unlikely ways to read the same request: under another name for us, in another spelling of the target, and, since
 * Node shows header bytes as latin1, as a client that signed those bytes and not that text in UTF-8.
 */
function* otherReadings(passage: Passage, claims: SignedClaims): Generator<{ host: string; text: string | Buffer }> {
  const { hosts, target } = passage
  const respelled =
    canonicalPath(target.path, 'canonical') !== target.path ||
    canonicalQuery(target.parameters, 'canonical') !== canonicalQuery(target.parameters, 'as-sent')
  const spellings: readonly Spelling[] = respelled ? ['as-sent', 'canonical'] : ['as-sent']
  let isFirst = true
  for (const host of hosts) {
    for (const spelling of spellings) {
      const text = canonicalRequest(passage, claims, host, spelling)
      if (!isFirst) yield { host, text }
      isFirst = false
      if (NON_ASCII.test(text)) yield { host, text: Buffer.from(text, 'latin1') }
    }
  }
}

const NON_ASCII = /[\u0080-\uffff]/

function canonicalRequest(passage: Passage, claims: SignedClaims, host: string, spelling: Spelling): string {
  const { target, headers } = passage
  let text = `${passage.method}\n${canonicalPath(target.path, spelling)}\n${canonicalQuery(target.parameters, spelling)}\n`
  for (const name of claims.signedHeaders) {
    text += `${name}:${name === 'host' ? host : collapseBlanks(headers.get(name) ?? '')}\n`
  }
  return `${text}\n${claims.signedHeaders.join(';')}\n${claims.payload.text}`
}
