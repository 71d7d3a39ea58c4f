import { afterEach, beforeEach, expect, it } from 'vitest'
import { createOpenApiPlugin } from '../../../../src/gateway/http/openapi.ts'
import { registerBatchRoute } from '../../../../src/gateway/kv/batch.ts'
import { registerBucketRoutes } from '../../../../src/gateway/kv/buckets.ts'
import { registerExistsRoute } from '../../../../src/gateway/kv/exists.ts'
import { registerIncrementRoute } from '../../../../src/gateway/kv/increment.ts'
import { registerMatchRoute } from '../../../../src/gateway/kv/match.ts'
import { registerScanOrWatchRoute } from '../../../../src/gateway/kv/scan-or-watch.ts'
import { registerTransactRoute } from '../../../../src/gateway/kv/transact.ts'
import { registerValueRoutes } from '../../../../src/gateway/kv/values.ts'
import { createMetricsPlugin } from '../../../../src/gateway/admin/metrics.ts'
import { createTokensPlugin } from '../../../../src/gateway/admin/tokens.ts'
import type { AccessControl, Tokens } from '../../../../src/store/access.ts'
import { authenticateByHeader, startKvHarness, type KvHarness } from '../kv/kv-harness.ts'
import { send } from '../s3/door-harness.ts'

interface Parameter {
  readonly in: string
  readonly name: string
}

interface Operation {
  readonly operationId: string
  readonly summary?: string
  readonly security?: readonly unknown[]
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, unknown>> }
  readonly responses: Readonly<Record<string, { description: string; content?: Record<string, unknown> }>>
}

interface Document {
  readonly openapi: string
  readonly info: { readonly version: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: object; readonly securitySchemes: object }
}

let kv: KvHarness
beforeEach(async () => {
  const tokens: Tokens = {
    create: () => Promise.reject(new Error('unused')),
    list: () => Promise.resolve([]),
    revoke: () => Promise.resolve(),
    verify: () => Promise.resolve(undefined),
  }
  const access: AccessControl = { authorize: () => undefined }
  const parts = [
    registerBucketRoutes,
    registerScanOrWatchRoute,
    registerBatchRoute,
    registerTransactRoute,
    registerIncrementRoute,
    registerExistsRoute,
    registerMatchRoute,
    registerValueRoutes,
  ]
  const plugins = [
    createOpenApiPlugin({ version: '1.2.3' }),
    createMetricsPlugin({ collect: () => Promise.reject(new Error('unused')), authenticate: authenticateByHeader }),
    createTokensPlugin({ tokens, access }),
  ]
  kv = await startKvHarness(parts, { plugins })
})
afterEach(() => kv.stop())

async function description(): Promise<Document> {
  const answer = await send(kv.port, 'GET /openapi.json', { headers: { 'x-test-user': 'anonymous' } })
  expect(answer.headers['content-type']).toMatch(/^application\/json/)
  return JSON.parse(answer.text) as Document
}

function operationsOf({ paths }: Document): { path: string; method: string; operation: Operation }[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
}

it('describes every route of the port, in OpenAPI 3.1', async () => {
  const document = await description()
  expect([document.openapi, document.info.version]).toEqual(['3.1.1', '1.2.3'])
  expect(
    operationsOf(document)
      .map(({ path, method }) => `${method} ${path}`)
      .toSorted(),
  ).toEqual([
    'delete /admin/v1/tokens/{id}',
    'delete /kv/v1/{bucket}',
    'delete /kv/v1/{bucket}/{key}',
    'get /-/healthz',
    'get /-/readyz',
    'get /admin/v1/tokens',
    'get /kv/v1',
    'get /kv/v1/{bucket}',
    'get /kv/v1/{bucket}/{key}',
    'get /metrics',
    'get /openapi.json',
    'head /kv/v1/{bucket}',
    'head /kv/v1/{bucket}/{key}',
    'post /admin/v1/tokens',
    'post /kv/v1/{bucket}:batch',
    'post /kv/v1/{bucket}:exists',
    'post /kv/v1/{bucket}:increment',
    'post /kv/v1/{bucket}:match',
    'post /kv/v1/{bucket}:txn',
    'put /kv/v1/{bucket}',
    'put /kv/v1/{bucket}/{key}',
  ])
})

it('is a document that tools can work with', async () => {
  const document = await description()
  const operations = operationsOf(document)
  const ids = operations.map(({ operation }) => operation.operationId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const { path, method, operation } of operations) {
    const inPath = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name ?? '')
    const declared = (operation.parameters ?? []).filter((each) => each.in === 'path').map(({ name }) => name)
    expect({ path, declared: declared.toSorted() }).toEqual({ path, declared: inPath.toSorted() })
    expect({ path, method, summary: operation.summary }).toEqual({ path, method, summary: expect.stringMatching(/\w/) })
    for (const response of Object.values(operation.responses)) expect(typeof response.description).toBe('string')
    expect(operation.responses['default']?.content).toHaveProperty(['application/problem+json'])
    expect(Object.keys(operation.responses).length).toBeGreaterThan(1)
    const names = (operation.parameters ?? []).map((each) => `${each.in} ${each.name}`)
    expect(new Set(names).size).toBe(names.length)
  }
  const text = JSON.stringify(document)
  for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
    expect(document.components.schemas).toHaveProperty([name ?? ''])
  }
  expect(Object.keys(document.components.securitySchemes)).toEqual(['bearer', 'basic', 'sigv4'])
})

it('says what bodies look like, also those that no parser reads', async () => {
  const { paths } = await description()
  const media = (path: string, method: string): string[] =>
    Object.keys(paths[path]?.[method]?.requestBody?.content ?? {})
  expect(media('/kv/v1/{bucket}:batch', 'post')).toEqual(['application/json', 'application/vnd.tidegate.batch'])
  expect(media('/kv/v1/{bucket}:txn', 'post')).toEqual(['application/json'])
  expect(media('/kv/v1/{bucket}:increment', 'post')).toEqual(['application/json'])
  expect(media('/kv/v1/{bucket}/{key}', 'put')).toEqual(['application/octet-stream'])
  const scanned = paths['/kv/v1/{bucket}']?.['get']
  expect(Object.keys(scanned?.responses['200']?.content ?? {})).toContain('application/x-ndjson')
  const names = scanned?.parameters?.filter((each) => each.in === 'query').map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining(['prefix', 'cursor', 'watch', 'from', 'wait']))
})

it('wants credentials for all but what is open', async () => {
  const open = operationsOf(await description()).filter(({ operation }) => operation.security?.length === 0)
  expect(open.map(({ path }) => path).toSorted()).toEqual(['/-/healthz', '/-/readyz', '/metrics', '/openapi.json'])
})

it('shows a page that takes nothing from elsewhere', async () => {
  const page = await send(kv.port, 'GET /docs', { headers: { 'x-test-user': 'anonymous' } })
  const index = page.status === 200 ? page : await send(kv.port, 'GET /docs/')
  expect(index.status).toBe(200)
  const csp = String(index.headers['content-security-policy'])
  expect(csp).toContain("default-src 'none'")
  expect(csp).not.toMatch(/https?:|unsafe-eval|script-src[^;]*unsafe/)
  // What the policy forbids must not be needed: scripts in the page, and whatever lies elsewhere.
  expect(index.text).not.toMatch(/<script(?![^>]*\bsrc=)[^>]*>\s*\S/)
  const sources = [...index.text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source]) => source ?? '')
  expect(sources.length).toBeGreaterThan(3)
  for (const source of sources) {
    expect(source).not.toMatch(/^(?:https?:)?\/\//)
    const { pathname } = new URL(source, `${kv.url}/docs/`)
    const asset = await send(kv.port, `GET ${pathname}`)
    expect([pathname, asset.status]).toEqual([pathname, 200])
  }
  const initializer = await send(kv.port, 'GET /docs/static/swagger-initializer.js')
  expect(initializer.text).toContain('/openapi.json')
})

it('lets out of the page’s folder only what lies in it', async () => {
  for (const path of [
    '/docs/static/..%2f..%2fpackage.json',
    '/docs/static/%2e%2e/package.json',
    '/docs/package.json',
  ]) {
    expect([path, (await send(kv.port, `GET ${path}`)).status]).toEqual([
      path,
      expect.toSatisfy((s: number) => s >= 400),
    ])
  }
  expect((await send(kv.port, 'POST /docs')).status).toBe(405)
  expect((await send(kv.port, 'PUT /docs/json')).status).toBe(405)
})
