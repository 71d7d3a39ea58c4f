/**
 * AWS Signature Version 4 for requests whose every header is known beforehand. Written apart from the gateway's own code,
 * so that the two check each other. See "Create a signed AWS API request" in the IAM user guide.
 */
import { createHash, createHmac } from 'node:crypto'
import type { LoadJob } from './job.ts'
import { sendsBody, targetOf } from './target.ts'

const REGION = 'us-east-1'
const SERVICE = 's3'

/** Signatures are good for 15 minutes; anew well before that. */
const SIGNED_MS_MAX = 10 * 60 * 1000

const hmac = (key: Uint8Array | string, text: string): Buffer => createHmac('sha256', key).update(text).digest()
const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex')

export interface Signer {
  /** Head of request `index`, up to and with the empty line. */
  head(index: number): Buffer
}

export function createSigner(job: LoadJob, body: Uint8Array): Signer {
  const { host } = new URL(job.origin)
  const { request, credentials } = job
  const payloadHash = request.unsignedPayload ? 'UNSIGNED-PAYLOAD' : sha256(body)
  let signedMs = 0
  let amzDate = ''
  let scope = ''
  let key: Buffer = Buffer.alloc(0)

  const renewDate = (): void => {
    if (Date.now() - signedMs < SIGNED_MS_MAX) return
    signedMs = Date.now()
    amzDate = new Date(signedMs).toISOString().replaceAll(/[-:]|\.\d{3}/g, '')
    const day = amzDate.slice(0, 8)
    scope = `${day}/${REGION}/${SERVICE}/aws4_request`
    key = [REGION, SERVICE, 'aws4_request'].reduce<Buffer>(hmac, hmac(`AWS4${credentials.secretKey}`, day))
  }

  return {
    head(index) {
      renewDate()
      const { path, query } = targetOf(request, index)
      const headers: Record<string, string> = {
        host,
        'x-amz-content-sha256': payloadHash,
        'x-amz-date': amzDate,
        ...request.headers,
      }
      const names = Object.keys(headers).sort()
      const canonicalHeaders = names.map((name) => `${name}:${headers[name]}\n`).join('')
      const signedHeaders = names.join(';')
      const canonical = [request.method, path, query, canonicalHeaders, signedHeaders, payloadHash].join('\n')
      const signature = hmac(key, ['AWS4-HMAC-SHA256', amzDate, scope, sha256(canonical)].join('\n')).toString('hex')
      const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKey}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`
      const lines = [
        `${request.method} ${path}${query === '' ? '' : `?${query}`} HTTP/1.1`,
        ...names.map((name) => `${name}: ${headers[name]}`),
        `authorization: ${authorization}`,
        ...(sendsBody(request.method) ? [`content-length: ${body.length}`] : []),
        '\r\n',
      ]
      return Buffer.from(lines.join('\r\n'), 'latin1')
    },
  }
}
