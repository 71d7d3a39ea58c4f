import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { AssertionFailed } from '../../../../src/common/assert.ts'
import { TidegateError } from '../../../../src/common/errors.ts'
import { silentLogger } from '../../../../src/common/logging.ts'
import { AuthError } from '../../../../src/gateway/http/auth/errors.ts'
import { createHttpPort, type HttpPort, type HttpPortOptions } from '../../../../src/gateway/http/port.ts'
import { RequestMetrics } from '../../../../src/gateway/http/request-metrics.ts'
import { ANONYMOUS } from '../../../../src/store/access.ts'

const stops: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function started(options: Partial<HttpPortOptions> = {}): Promise<HttpPort> {
  const port = createHttpPort({
    name: 'http',
    host: '127.0.0.1',
    port: 0,
    logger: silentLogger,
    metrics: new RequestMetrics(),
    ready: () => true,
    authenticate: ({ headers }) => {
      if (headers.authorization === 'wrong') throw new AuthError('InvalidToken', 'wrong')
      const origin = { host: '', address: '', secure: false }
      const principal =
        headers.authorization === 'late' ? { id: 'u', displayName: 'u', kind: 'user' as const } : ANONYMOUS
      const authenticated = {
        principal,
        origin,
        form: 'basic' as const,
        payload: { kind: 'unsigned' as const },
        trailers: [],
      }
      return headers.authorization === 'late' ? Promise.resolve(authenticated) : authenticated
    },
    plugins: [],
    ...options,
  })
  stops.push(() => port.stop())
  await port.start()
  return port
}

async function problem(response: Response): Promise<Record<string, unknown>> {
  expect(response.headers.get('content-type')).toBe('application/problem+json')
  return (await response.json()) as Record<string, unknown>
}

describe('the HTTP port', () => {
  it('answers health, and refuses everything else without saying anything about the inside (lesson 5.2.3)', async () => {
    let ready = true
    const http = await started({ ready: () => ready })
    expect((await fetch(`${http.url}/-/healthz`)).status).toBe(200)
    expect((await fetch(`${http.url}/-/readyz`)).status).toBe(200)
    ready = false
    expect((await fetch(`${http.url}/-/readyz`)).status).toBe(503)
    for (const path of ['/', '/admin/v1/status', '/config', '/%zz']) {
      const response = await fetch(http.url + path)
      expect([400, 404]).toContain(response.status)
    }
  })

  it('shows what a handler throws as problem details, with the stable code', async () => {
    const thrown = new TidegateError('NoSuchKey', 'no object "a"', { details: { key: 'a' } })
    const { url } = await started({
      plugins: [
        (app) => void app.get('/throws', { config: { operation: 'Throws', open: true } }, () => Promise.reject(thrown)),
      ],
    })
    const response = await fetch(`${url}/throws`)
    expect(response.status).toBe(404)
    expect(response.headers.get('x-tidegate-error')).toBe('NoSuchKey')
    const requestId = response.headers.get('x-request-id')
    expect(await problem(response)).toEqual({
      type: 'urn:tidegate:error:NoSuchKey',
      title: 'Not Found',
      status: 404,
      code: 'NoSuchKey',
      detail: 'no object "a"',
      key: 'a',
      requestId,
    })
  })

  it('says nothing of what a bug was, and tells the guard of a failed assertion', async () => {
    const bugs: Error[] = []
    const { url } = await started({
      onBug: (error) => bugs.push(error),
      plugins: [
        (app) => {
          const open = { config: { operation: 'Bug', open: true as const } }
          app.get('/bug', open, () => Promise.reject(new Error('a secret')))
          app.get('/assertion', open, () => Promise.reject(new AssertionFailed('an invariant')))
        },
      ],
    })
    const response = await fetch(`${url}/bug`)
    expect(response.status).toBe(500)
    expect(JSON.stringify(await problem(response))).not.toContain('secret')
    expect(bugs).toHaveLength(0)
    expect((await fetch(`${url}/assertion`)).status).toBe(500)
    expect(bugs).toHaveLength(1)
  })

  it('authenticates every route that is not open before its handler runs (lessons 5.2.1, 5.2.2)', async () => {
    let calls = 0
    const { url } = await started({
      plugins: [
        (app) =>
          void app.get('/who', { config: { operation: 'Who' } }, (request) => {
            calls++
            return { who: request.authenticated?.principal.id }
          }),
      ],
    })
    expect((await fetch(`${url}/who`, { headers: { authorization: 'wrong' } })).status).toBe(401)
    expect(calls).toBe(0)
    expect(await (await fetch(`${url}/who`, { headers: { authorization: 'late' } })).json()).toEqual({ who: 'u' })
    expect(await (await fetch(`${url}/who`)).json()).toEqual({ who: 'anonymous' })
  })

  it('asks somebody without credentials for them, and refuses somebody with them', async () => {
    const denied = new TidegateError('AccessDenied', 'no')
    const { url } = await started({
      plugins: [(app) => void app.get('/no', { config: { operation: 'No' } }, () => Promise.reject(denied))],
    })
    const asked = await fetch(`${url}/no`)
    expect(asked.status).toBe(401)
    expect(asked.headers.get('www-authenticate')).toContain('Basic')
    expect((await problem(asked))['code']).toBe('Unauthenticated')
    expect((await fetch(`${url}/no`, { headers: { authorization: 'late' } })).status).toBe(403)
  })

  it('names what is wrong with a body, a path or a type', async () => {
    const schema = {
      body: {
        type: 'object',
        properties: { count: { type: 'integer' } },
        required: ['count'],
        additionalProperties: false,
      },
    }
    const { url } = await started({
      plugins: [
        (app) => void app.post('/count', { config: { operation: 'Count', open: true }, schema }, () => ({ ok: true })),
      ],
    })
    const post = (body: string, type = 'application/json'): Promise<Response> =>
      fetch(`${url}/count`, { method: 'POST', headers: { 'content-type': type }, body })
    expect((await post('{"count": 1}')).status).toBe(200)
    for (const [body, code] of [
      ['{"count": "x"}', 'InvalidArgument'],
      ['{}', 'InvalidArgument'],
      ['{', 'InvalidRequest'],
    ] as const) {
      const response = await post(body)
      expect(response.status).toBe(400)
      expect((await problem(response))['code']).toBe(code)
    }
    expect((await post('{}', 'text/csv')).status).toBe(415)
    expect((await post(`{"count": "${'x'.repeat(100_000)}"}`)).status).toBe(413)
    expect((await problem(await fetch(`${url}/count/%zz`)))['code']).toBe('InvalidArgument')
  })

  it('sends 100 Continue only to those whose body is wanted (lesson 5.1.14)', async () => {
    const { url } = await started({
      plugins: [(app) => void app.post('/take', { config: { operation: 'Take' } }, () => ({ ok: true }))],
    })
    const { port } = new URL(url)
    const talk = (authorization: string, { path = '/take', length = 2 } = {}): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(Number(port), '127.0.0.1')
        let text = ''
        socket.on('data', (chunk) => {
          text += chunk.toString()
          if (text.startsWith('HTTP/1.1 100') && !text.includes('200 OK')) socket.write('{}')
        })
        socket.on('close', () => resolve(text))
        socket.on('error', reject)
        socket.write(
          `POST ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Type: application/json\r\n` +
            `Content-Length: ${length}\r\n` +
            'Expect: 100-continue\r\nConnection: close\r\n\r\n',
        )
      })
    expect(await talk('late')).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK/)
    expect(await talk('wrong')).toMatch(/^HTTP\/1.1 401/)
    expect(await talk('late', { length: 100_000 })).toMatch(/^HTTP\/1.1 413/)
    expect(await talk('wrong', { path: '/nowhere' })).toMatch(/^HTTP\/1.1 404/)
  })

  it('answers a wrong method with 405 and the right ones', async () => {
    const open = { config: { operation: 'Any', open: true as const } }
    const { url } = await started({
      plugins: [
        (app) => {
          app.get('/things/:thing', open, () => 'one')
          app.put('/things/:thing/*', open, () => 'put')
          app.post('/things/:thing(^[^:/]+)::count', open, () => 'count')
        },
      ],
    })
    for (const [method, path, allow] of [
      ['DELETE', '/things/a?b=c', 'GET'],
      ['GET', '/things/a/b/c', 'PUT'],
      ['DELETE', '/things/a:count', 'GET, POST'],
    ] as const) {
      const response = await fetch(url + path, { method })
      expect(response.status, path).toBe(405)
      expect(response.headers.get('allow')).toBe(allow)
      expect((await problem(response))['code']).toBe('MethodNotAllowed')
    }
    expect((await fetch(`${url}/thing`)).status).toBe(404)
  })
})
