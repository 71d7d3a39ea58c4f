import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { requestFacts } from '../../../../../src/gateway/http/auth/request-facts.ts'
import { authenticate, EXAMPLE, EXAMPLE_MS, HOST, rawRequest, refusal } from './support.ts'

/** As botocore's HmacV1QueryAuth does it. */
function url(
  resource: string,
  options: { method?: string; amz?: string; secretKey?: string; expires?: number } = {},
): string {
  const [path = '', query] = resource.split('?')
  const expires = options.expires ?? EXAMPLE_MS / 1000 + 60
  const signedQuery = query === undefined ? '' : `?${decodeURIComponent(query)}`
  const text = `${options.method ?? 'GET'}\n\n\n${expires}\n${options.amz ?? ''}${path}${signedQuery}`
  const signature = createHmac('sha1', options.secretKey ?? EXAMPLE.secretKey)
    .update(text)
    .digest('base64')
  const credentials = `AWSAccessKeyId=${EXAMPLE.accessKey}&Signature=${encodeURIComponent(signature)}&Expires=${expires}`
  return `${path}?${query === undefined ? '' : `${query}&`}${credentials}`
}

const get = (target: string, headers: Record<string, string> = {}, options = {}) =>
  authenticate(rawRequest({ target, headers: { host: HOST, ...headers } }), options)

describe('presigned URLs of signature version 2', () => {
  it('accepts what `aws s3 presign` and boto3 make in us-east-1', () => {
    for (const resource of [
      '/b/k',
      '/b/a%20b%2Bc%3A%28%C3%A9%29.txt',
      '/b/k?versionId=3%2F4',
      '/b?acl',
      '/b/k?response-content-type=text%2Fplain',
    ]) {
      expect(get(url(resource))).toMatchObject({
        form: 'presigned-v2',
        principal: { kind: 'root' },
        payload: { kind: 'unsigned' },
      })
    }
    expect(get(url('/b/k', { amz: 'x-amz-meta-a:1\n' }), { 'x-amz-meta-a': '1' }).form).toBe('presigned-v2')
  })

  it('is told apart by policy conditions, and is an unsigned payload to them (C35)', () => {
    const authenticated = get(url('/b/k'))
    expect(requestFacts({ authenticated, headers: {}, query: () => undefined })).toMatchObject({
      's3:authtype': 'REST-QUERY-STRING',
      's3:signatureversion': 'AWS',
      's3:x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
    })
  })

  it('reads no bucket from a host that is not signed', () => {
    expect(get(url('/b/k')).origin.host).toBe('')
  })

  it('holds it to path, method, time, headers and signed parameters', () => {
    refusal('SignatureDoesNotMatch', () => get(url('/b/k').replace('/b/k', '/b/l')))
    refusal('SignatureDoesNotMatch', () => get(url('/b/k', { method: 'PUT' })))
    refusal('SignatureDoesNotMatch', () => get(url('/b/k', { secretKey: 'other' })))
    refusal('SignatureDoesNotMatch', () => get(url('/b/k'), { 'x-amz-acl': 'public-read' }))
    refusal('SignatureDoesNotMatch', () => get(url('/b/k'), { 'content-type': 'text/html' }))
    refusal('SignatureDoesNotMatch', () => get(`${url('/b/k')}&acl`))
    refusal('SignatureDoesNotMatch', () => get(url('/b/k').replace(/Expires=.*/, 'Expires=9999999999')))
    refusal('InvalidAccessKeyId', () => get(url('/b/k').replace(EXAMPLE.accessKey, 'NOBODY')))
    expect(refusal('AccessDenied', () => get(url('/b/k', { expires: EXAMPLE_MS / 1000 - 1 }))).message).toBe(
      'Request has expired',
    )
  })

  it('refuses what version 2 does not sign', () => {
    refusal('InvalidRequest', () => get(`${url('/b')}&prefix=a`))
    refusal('InvalidRequest', () => get(`${url('/b/k')}&x-amz-acl=public-read`))
    refusal('InvalidRequest', () => get(url('/b/k?response-content-type=a%26versionId=1')))
    refusal('AccessDenied', () => get(url('/b/k'), { 'x-tidegate-ack': 'memory' }))
    refusal('InvalidArgument', () => get(`${url('/b/k')}&Expires=9999999999`))
    refusal('InvalidToken', () =>
      get(url('/b/k', { amz: 'x-amz-security-token:t\n' }), { 'x-amz-security-token': 't' }),
    )
    refusal('AccessDenied', () => get('/b/k?AWSAccessKeyId=a'))
    refusal('AccessDenied', () => get('/b/k?Signature=a'))
  })

  it('can be switched off, and then is answered as AWS does where version 2 is gone', () => {
    refusal('InvalidRequest', () => get(url('/b/k'), {}, { allowPresignedV2: false }))
  })
})
