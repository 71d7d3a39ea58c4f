/** A gateway for a test file of the KV door, its client, and curl pointed at it. */
import { afterAll, expect } from 'vitest'
import { createKvClient, type KvClient, type KvClientOptions } from '../../src/client/kv-client.ts'
import { basic, curl, type CurlAnswer } from './curl.ts'
import type { GatewayCredentials, GatewayOptions, GatewayProcess } from './gateway-process.ts'
import { useGateway } from './gateway-suite.ts'

export interface KvSuite {
  readonly gateway: GatewayProcess
  readonly directory: string
  /** A client of the root user that is closed when the file ends. */
  readonly client: (bucket: string, options?: Partial<KvClientOptions>) => KvClient
  /** curl with `target` (`/bucket/key?x=y`, as it is) behind `/kv/v1`; as the root user by Basic unless `as` says otherwise. */
  readonly curl: (target: string, args?: readonly string[], options?: CurlOptions) => Promise<CurlAnswer>
  /** `POST` of JSON, and the answer's JSON. */
  readonly post: <T = unknown>(target: string, body: unknown) => Promise<CurlAnswer & { readonly json: T }>
}

export interface CurlOptions {
  readonly as?: readonly string[] | undefined
  readonly stdin?: Uint8Array | string | undefined
}

export const ANONYMOUS: readonly string[] = []

export function useKv(
  flags: readonly string[],
  options: (directory: string) => Partial<GatewayOptions> = () => ({}),
  expectedErrors?: RegExp,
): KvSuite {
  const suite = useGateway((directory) => {
    const own = options(directory)
    return { ...own, flags: [...flags, ...(own.flags ?? [])] }
  }, expectedErrors)
  const clients: KvClient[] = []
  afterAll(() => {
    for (const client of clients) client.close()
  })
  const run: KvSuite['curl'] = (target, args = [], { as = basic(suite.gateway.root), stdin } = {}) =>
    curl([...as, ...args, `${suite.gateway.http}/kv/v1${target}`], stdin)
  return {
    get gateway() {
      return suite.gateway
    },
    directory: suite.directory,
    client: (bucket, own = {}) => {
      const { http: url, root } = suite.gateway
      const identity = own.token === undefined && own.accessKey === undefined ? root : {}
      const client = createKvClient({ url, bucket, ...identity, ...own })
      clients.push(client)
      return client
    },
    curl: run,
    post: async <T>(target: string, body: unknown) => {
      const args = ['-H', 'Content-Type: application/json', '--data-binary', '@-']
      const answer = await run(target, args, { stdin: typeof body === 'string' ? body : JSON.stringify(body) })
      return { ...answer, json: JSON.parse(answer.text) as T }
    },
  }
}

interface Problem {
  readonly type: string
  readonly status: number
  readonly code: string
  readonly detail: string
  readonly requestId: string
}

/** Status and code of a refusal, with the form that every one of them has checked. */
export function problemOf(answer: CurlAnswer): string {
  expect(answer.headers['content-type'], answer.text).toMatch(/^application\/problem\+json/)
  const problem = JSON.parse(answer.text) as Problem
  expect(problem, answer.text).toMatchObject({
    type: `urn:tidegate:error:${problem.code}`,
    title: expect.any(String),
    status: answer.status,
    detail: expect.any(String),
    requestId: expect.stringMatching(/^[\dA-F]{16}$/),
  })
  expect(answer.headers['x-tidegate-error']).toBe(problem.code)
  return `${answer.status} ${problem.code}`
}

export function randomIdentity(name: string): GatewayCredentials {
  return { accessKey: `AK${name.toUpperCase()}000000001`, secretKey: `the secret of ${name}, which is long enough` }
}

/** The lines of an NDJSON body. */
export function linesOf<T = Record<string, unknown>>(answer: CurlAnswer): T[] {
  expect(answer.headers['content-type']).toMatch(/^application\/x-ndjson/)
  expect(answer.text.endsWith('\n')).toBe(true)
  return answer.text
    .slice(0, -1)
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}
