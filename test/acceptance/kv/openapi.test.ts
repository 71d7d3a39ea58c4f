/** `/openapi.json` describes what there is, and `/docs` shows it. */
// needs: curl
import { expect, it } from 'vitest'
import { curl } from '../../support/curl.ts'
import { useKv } from '../../support/kv-suite.ts'

const suite = useKv(['--buckets', 'kvs'])

interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[]
  readonly responses?: Readonly<Record<string, unknown>>
  readonly requestBody?: unknown
}

interface Description {
  readonly openapi: string
  readonly info: { readonly title: string; readonly version: string }
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components?: { readonly securitySchemes?: Readonly<Record<string, unknown>> }
}

async function description(): Promise<Description> {
  const answer = await curl([`${suite.gateway.http}/openapi.json`])
  expect([answer.status, answer.headers['content-type']]).toEqual([200, expect.stringMatching(/json/)])
  return JSON.parse(answer.text) as Description
}

/** Method, and path with the names of its parts left out. */
const ROUTES = [
  'get /kv/v1',
  ...['get', 'head', 'put', 'delete'].map((method) => `${method} /kv/v1/{}`),
  ...['get', 'head', 'put', 'delete'].map((method) => `${method} /kv/v1/{}/{}`),
  ...['batch', 'txn', 'increment', 'exists', 'match'].map((operation) => `post /kv/v1/{}:${operation}`),
]

it('is OpenAPI 3.1, and lists every route', async () => {
  const { openapi, info, paths, components } = await description()
  expect(openapi).toMatch(/^3\.1\.\d+$/)
  expect(info.version).toMatch(/^\d+\.\d+\.\d+/)
  const listed = Object.entries(paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method} ${path.replaceAll(/\{[^}]*\}/g, '{}')}`),
  )
  for (const route of ROUTES) expect(listed).toContain(route)
  expect(Object.keys(components?.securitySchemes ?? {}).length).toBeGreaterThan(1)
})

it('is well formed: unique operations, declared parts of paths, references that lead somewhere', async () => {
  const whole = await description()
  const ids: string[] = []
  for (const [path, operations] of Object.entries(whole.paths)) {
    const parts = [...path.matchAll(/\{(?<name>[^}]+)\}/g)].map((match) => match.groups?.['name'] ?? '')
    for (const [method, operation] of Object.entries(operations)) {
      const where = `${method} ${path}`
      ids.push(operation.operationId ?? where)
      expect(operation.responses, where).toBeDefined()
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path')
      expect(declared.map(({ name }) => name).sort(), where).toEqual([...parts].sort())
      for (const parameter of declared) expect(parameter.required, where).toBe(true)
      for (const status of Object.keys(operation.responses ?? {}))
        expect(status, where).toMatch(/^(?:[1-5]\d\d|[1-5]XX|default)$/)
    }
  }
  expect(new Set(ids).size).toBe(ids.length)
  for (const [, reference = ''] of JSON.stringify(whole).matchAll(/"\$ref":"#\/([^"]+)"/g)) {
    let at: unknown = whole
    for (const step of reference.split('/')) {
      at = (at as Record<string, unknown> | undefined)?.[
        decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~')
      ]
    }
    expect(at, reference).toBeDefined()
  }
})

it('names the parameters of a scan, a watch and a put', async () => {
  const { paths } = await description()
  const named = (method: string, pattern: RegExp): string[] => {
    const [, operations] = Object.entries(paths).find(([path]) => pattern.test(path)) ?? []
    return (operations?.[method]?.parameters ?? [])
      .filter((parameter) => parameter.in === 'query')
      .map(({ name }) => name)
  }
  expect(named('get', /^\/kv\/v1\/\{\w+\}$/)).toEqual(
    expect.arrayContaining([
      'prefix',
      'start',
      'end',
      'limit',
      'cursor',
      'reverse',
      'keys',
      'values',
      'watch',
      'from',
      'wait',
    ]),
  )
  expect(named('put', /^\/kv\/v1\/\{\w+\}\/\{/)).toEqual(expect.arrayContaining(['ttl', 'pin']))
})

it('can be read at /docs, from this gateway alone', async () => {
  const page = await curl(['-L', `${suite.gateway.http}/docs`])
  expect([page.status, page.headers['content-type']]).toEqual([200, expect.stringMatching(/^text\/html/)])
  const assets = [...page.text.matchAll(/(?:src|href)="(?<address>[^"#]+)"/g)].map(
    (match) => match.groups?.['address'] ?? '',
  )
  expect(assets.length).toBeGreaterThan(2)
  for (const address of assets) {
    expect(address, 'nothing is fetched from elsewhere').not.toMatch(/^(?:https?:)?\/\//)
    const url = new URL(address, `${suite.gateway.http}/docs/`)
    expect((await curl([url.href])).status, address).toBe(200)
  }
})
