/** A bare node:http server around the door, the fake store, and an authenticator that believes everything. */
import { createServer, request as httpRequest, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DEFAULT_LIMITS, type Limits } from '../../../../src/common/limits.ts'
import { systemClock } from '../../../../src/common/clock.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { RawRequest } from '../../../../src/gateway/http/auth/authenticator.ts'
import type { Authenticated, Exchange, PayloadForm } from '../../../../src/gateway/http/types.ts'
import { createS3Door } from '../../../../src/gateway/s3/door.ts'
import type { AccessControl } from '../../../../src/store/access.ts'
import { ANONYMOUS } from '../../../../src/store/access.ts'
import { FakeStore } from '../../../support/fake-store.ts'

export interface Asked {
  readonly action: string
  readonly bucket: string | undefined
  readonly key: string | undefined
  readonly context: Readonly<Record<string, string | undefined>>
}

export interface Harness {
  readonly store: FakeStore
  readonly port: number
  /** Every authorisation asked for, in order. */
  readonly asked: Asked[]
  readonly exchanges: Exchange[]
  /** Errors that the handler threw: bugs. */
  readonly bugs: unknown[]
  deny(rule: (asked: Asked) => boolean): void
  stop(): Promise<void>
}

export async function startHarness(
  options: { limits?: Partial<Limits>; domains?: string[]; bodyIdleMsMax?: number; region?: string } = {},
): Promise<Harness> {
  const store = new FakeStore()
  const asked: Asked[] = []
  const exchanges: Exchange[] = []
  const bugs: unknown[] = []
  let denied: (asked: Asked) => boolean = () => false
  const access: AccessControl = {
    authorize: (_principal, action, resource, context) => {
      const question = { action, bucket: resource.bucket, key: resource.key, context }
      asked.push(question)
      if (denied(question)) throw new TidegateError('AccessDenied', action)
    },
  }
  const handler = createS3Door({
    store,
    access,
    authenticate,
    clock: systemClock,
    region: options.region ?? 'us-east-1',
    domains: options.domains ?? [],
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    owner: (id) => ({ id, displayName: `name of ${id}` }),
    log: { warn: () => undefined, error: () => undefined },
    bodyIdleMsMax: options.bodyIdleMsMax ?? 5000,
  })
  const server = createServer()
  const answer = (
    request: Parameters<typeof handler>[0],
    response: Parameters<typeof handler>[1],
    waits: boolean,
  ): void => {
    const exchange: Exchange = {
      requestId: '00112233445566AA',
      operation: 'Unknown',
      principalId: '',
      errorCode: undefined,
      bytesIn: 0,
      bytesOut: 0,
      sendContinue: () => {
        if (waits) response.writeContinue()
      },
    }
    exchanges.push(exchange)
    handler(request, response, exchange).catch((error: unknown) => {
      bugs.push(error)
      response.destroy()
    })
  }
  server.on('request', (request, response) => answer(request, response, false))
  server.on('checkContinue', (request, response) => answer(request, response, true))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const deny = (rule: (asked: Asked) => boolean): void => {
    denied = rule
  }
  return { store, port, asked, exchanges, bugs, deny, stop: () => stop(server) }
}

async function stop(server: Server): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}

/** The payload form by x-amz-content-sha256, the sender by x-test-user. */
function authenticate(raw: RawRequest): Authenticated {
  const user = String(raw.headers['x-test-user'] ?? 'alice')
  const trailers = String(raw.headers['x-amz-trailer'] ?? '')
  return {
    principal: user === 'anonymous' ? ANONYMOUS : { id: user, displayName: user, kind: 'user' },
    origin: { host: raw.headers.host ?? '', address: '192.0.2.7', secure: false },
    form: user === 'anonymous' ? 'anonymous' : 'header',
    payload: payloadForm(raw),
    trailers: trailers === '' ? [] : trailers.split(','),
  }
}

function payloadForm(raw: RawRequest): PayloadForm {
  const claim = String(raw.headers['x-amz-content-sha256'] ?? 'UNSIGNED-PAYLOAD')
  if (claim === 'STREAMING-UNSIGNED-PAYLOAD-TRAILER') {
    return { kind: 'chunked-unsigned-trailer', decodedLength: Number(raw.headers['x-amz-decoded-content-length']) }
  }
  return /^[0-9a-f]{64}$/.test(claim) ? { kind: 'signed', sha256: claim } : { kind: 'unsigned' }
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  readonly text: string
}

export interface Sent {
  readonly headers?: Record<string, string>
  readonly body?: string | Uint8Array
}

/** One request on a connection of its own. */
export function send(port: number, line: string, sent: Sent = {}): Promise<Answer> {
  const [method = 'GET', path = '/'] = line.split(' ')
  const body = sent.body === undefined ? undefined : Buffer.from(sent.body)
  const length = body === undefined ? {} : { 'content-length': String(body.length) }
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { port, host: '127.0.0.1', method, path, agent: false, headers: { ...length, ...sent.headers } },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const bytes = Buffer.concat(chunks)
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            text: bytes.toString('utf8'),
          })
        })
      },
    )
    request.on('error', reject)
    request.end(body)
  })
}

export function errorCode(answer: Answer): string | undefined {
  return /<Code>([^<]*)<\/Code>/.exec(answer.text)?.[1]
}
