import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { formatErrorTime } from './amz-date.ts'
import { AuthError } from './errors.ts'
import { decodeComponent } from './request-target.ts'
import { readPayloadClaim } from './payload-form.ts'
import type { HeaderView } from './header-view.ts'
import type { PayloadClaim } from './payload-form.ts'
import type { QueryParameter, RequestTarget } from './request-target.ts'

/**
 * Presigned URLs of signature version 2 (S3 User Guide, "Signing and authenticating REST requests", query string
 * alternative). They are here for one reason: in the regions that once knew version 2, us-east-1 among them, botocore
 * still makes these by default, so `aws s3 presign` of the AWS CLI 1 and boto3's `generate_presigned_url` do. Version 2
 * in the Authorization header is refused; no current client sends it.
 *
 * Version 2 signs less than version 4, so less is allowed with it:
 *
 * - the host is not signed: the request is taken for path style, whatever Host says (`origin.host` is empty);
 * - of the query only sub-resources and `response-*` are: any other parameter is refused;
 * - of the headers Content-MD5, Content-Type and all `x-amz-*`: a present `x-tidegate-*` is refused;
 * - values of the query are signed decoded and joined by `&`: one that holds an `&` is refused, for it could be read two
 *   ways.
 */
export interface PresignedV2Claims {
  readonly kind: 'presigned-v2'
  readonly accessKey: string
  readonly signature: string
  /** Seconds since 1970, as given: it is part of what is signed. */
  readonly expires: string
  readonly payload: PayloadClaim
  /** `?name=value&...` of the signed parameters, as version 2 spells them. */
  readonly subResources: string
}

const CREDENTIALS = ['AWSAccessKeyId', 'Expires', 'Signature'] as const

const SIGNED_PARAMETERS = new Set([
  'accelerate',
  'acl',
  'cors',
  'delete',
  'lifecycle',
  'location',
  'logging',
  'notification',
  'partNumber',
  'policy',
  'requestPayment',
  'restore',
  'tagging',
  'torrent',
  'uploadId',
  'uploads',
  'versionId',
  'versioning',
  'versions',
  'website',
  'response-cache-control',
  'response-content-disposition',
  'response-content-encoding',
  'response-content-language',
  'response-content-type',
  'response-expires',
])

export function readPresignedV2(parameters: readonly QueryParameter[], headers: HeaderView): PresignedV2Claims {
  const values = new Map<string, string>()
  for (const parameter of parameters) {
    const name = decodeComponent(parameter.name)
    const value = decodeComponent(parameter.value)
    const isCredential = (CREDENTIALS as readonly string[]).includes(name)
    if (!isCredential && (!SIGNED_PARAMETERS.has(name) || value.includes('&'))) {
      throw new AuthError('InvalidRequest', `Signature version 2 does not cover ${name}. Please use AWS4-HMAC-SHA256.`)
    }
    if (values.has(name)) throw new AuthError('InvalidArgument', `The query parameter ${name} is given twice.`)
    values.set(name, value)
  }
  const [accessKey = '', expires = '', signature = ''] = CREDENTIALS.map((name) => values.get(name))
  if (accessKey === '' || signature === '' || !/^\d{1,12}$/.test(expires)) {
    throw new AuthError(
      'AccessDenied',
      'Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters',
    )
  }
  const uncovered = headers.names.filter((name) => name.startsWith('x-tidegate-'))
  if (uncovered.length > 0) {
    throw new AuthError('AccessDenied', 'There were headers present in the request which were not signed', {
      HeadersNotSigned: uncovered.join(', '),
    })
  }
  const signed = parameters
    .filter((parameter) => SIGNED_PARAMETERS.has(decodeComponent(parameter.name)))
    .map(({ name, value }) =>
      value === '' ? decodeComponent(name) : `${decodeComponent(name)}=${decodeComponent(value)}`,
    )
    .sort()
  return {
    kind: 'presigned-v2',
    accessKey,
    signature,
    expires,
    payload: readPayloadClaim(headers.get('x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD'),
    subResources: signed.length === 0 ? '' : `?${signed.join('&')}`,
  }
}

/** @throws AccessDenied once it has expired */
export function checkPresignedV2Time(claims: PresignedV2Claims, nowMs: number): void {
  const expiresMs = Number(claims.expires) * 1000
  if (nowMs > expiresMs) {
    throw new AuthError('AccessDenied', 'Request has expired', {
      Expires: formatErrorTime(expiresMs),
      ServerTime: formatErrorTime(nowMs),
    })
  }
}

const NOBODYS_SECRET = randomBytes(32).toString('hex')

/** Whether the signature holds. `secretKey` undefined (an unknown access key) costs the same, and never does. */
export function verifyPresignedV2(
  request: { readonly method: string; readonly target: RequestTarget; readonly headers: HeaderView },
  claims: PresignedV2Claims,
  secretKey: string | undefined,
): boolean {
  const { method, target, headers } = request
  const header = (name: string): string => (headers.get(name) ?? '').trim()
  const amzHeaders = headers.names
    .filter((name) => name.startsWith('x-amz-'))
    .sort()
    .map((name) => `${name}:${header(name)}\n`)
    .join('')
  const text =
    `${method}\n${header('content-md5')}\n${header('content-type')}\n${claims.expires}\n` +
    `${amzHeaders}${target.path}${claims.subResources}`
  const computed = createHmac('sha1', secretKey ?? NOBODYS_SECRET)
    .update(text)
    .digest('base64')
  const computedBytes = Buffer.from(computed)
  const claimedBytes = Buffer.from(claims.signature)
  const matches = claimedBytes.length === computedBytes.length && timingSafeEqual(claimedBytes, computedBytes)
  return matches && secretKey !== undefined
}
