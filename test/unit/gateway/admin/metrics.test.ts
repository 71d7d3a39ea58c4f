import { metrics } from '@opentelemetry/api'
import { createServer } from 'node:http'
import { gunzipSync } from 'node:zlib'
import { networkInterfaces } from 'node:os'
import { afterEach, expect, it } from 'vitest'
import { silentLogger } from '../../../../src/common/logging.ts'
import { startTelemetry } from '../../../../src/common/telemetry.ts'
import { createMetricsPlugin } from '../../../../src/gateway/admin/metrics.ts'
import { AuthError } from '../../../../src/gateway/http/auth/errors.ts'
import { createHttpPort, type PortAuthenticate } from '../../../../src/gateway/http/port.ts'
import { prometheusText } from '../../../../src/gateway/admin/prometheus.ts'
import { RequestMetrics } from '../../../../src/gateway/http/request-metrics.ts'
import { createDoorServer } from '../../../../src/gateway/http/server.ts'
import { ANONYMOUS, type Principal } from '../../../../src/store/access.ts'
import type { AddressInfo } from 'node:net'
import type { Telemetry } from '../../../../src/common/telemetry.ts'
import type { HttpPort, HttpPortOptions } from '../../../../src/gateway/http/port.ts'

const stops: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

async function telemetry(otlpEndpoint?: string): Promise<{ telemetry: Telemetry; requests: RequestMetrics }> {
  const requests = new RequestMetrics()
  const started = await startTelemetry({ version: '1.2.3', otlpEndpoint, producers: [requests], logger: silentLogger })
  stops.push(() => started.stop())
  return { telemetry: started, requests }
}

const KINDS: Readonly<Record<string, Principal>> = {
  user: { id: 'alice', displayName: 'alice', kind: 'user' },
  token: {
    id: 'alice',
    displayName: 'alice',
    kind: 'user',
    token: { id: 't', buckets: ['*'], verbs: ['read', 'list', 'write', 'delete'] },
  },
}

/** Takes the name of a kind of principal for its credentials. */
const authenticate: PortAuthenticate = ({ headers }) => {
  const kind = headers.authorization
  const principal = kind === undefined ? ANONYMOUS : KINDS[kind]
  if (principal === undefined) throw new AuthError('InvalidAccessKeyId', 'wrong')
  const origin = { host: '', address: '', secure: false }
  return { principal, origin, form: 'basic', payload: { kind: 'unsigned' }, trailers: [] }
}

async function port(options: Partial<HttpPortOptions> = {}): Promise<HttpPort> {
  const { telemetry: started, requests } = await telemetry()
  requests.record({ door: 's3', operation: 'GetObject', status: 200, durationMs: 3, bytesIn: 0, bytesOut: 4096 })
  requests.record({ door: 's3', operation: 'GetObject', status: 206, durationMs: 70_000, bytesIn: 0, bytesOut: 1 })
  const http = createHttpPort({
    name: 'http',
    host: '127.0.0.1',
    port: 0,
    logger: silentLogger,
    metrics: requests,
    ready: () => true,
    authenticate,
    plugins: [createMetricsPlugin({ collect: () => started.collect(), authenticate })],
    ...options,
  })
  stops.push(() => http.stop())
  await http.start()
  return http
}

it('shows metrics as Prometheus reads them', async () => {
  const http = await port()
  const counter = metrics.getMeter('tidegate').createCounter('tidegate_things', { description: 'Things\nof "kinds"' })
  counter.add(2, { kind: 'a"b\\c\nd' })
  const response = await fetch(`${http.url}/metrics`)
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  const text = await response.text()
  expect(text).toContain('# TYPE tidegate_requests_total counter\n')
  expect(text).toContain('tidegate_requests_total{door="s3",operation="GetObject",status="2xx"} 2\n')
  expect(text).toContain('tidegate_response_body_bytes_total{door="s3",operation="GetObject",status="2xx"} 4097\n')
  expect(text).toContain(
    'tidegate_request_duration_seconds_bucket{door="s3",operation="GetObject",status="2xx",le="0.0025"} 0\n',
  )
  expect(text).toContain(
    'tidegate_request_duration_seconds_bucket{door="s3",operation="GetObject",status="2xx",le="0.005"} 1\n',
  )
  expect(text).toContain('le="60"} 1\n')
  expect(text).toContain('le="+Inf"} 2\n')
  expect(text).toContain('tidegate_request_duration_seconds_sum{door="s3",operation="GetObject",status="2xx"} 70.003\n')
  expect(text).toContain('# HELP tidegate_things_total Things\\nof "kinds"\n')
  expect(text).toContain('tidegate_things_total{kind="a\\"b\\\\c\\nd"} 2\n')
  expect(text).toMatch(/tidegate_event_loop_delay_seconds\{quantile="0.99"\} [\d.e-]+\n/)
  expect(text).toMatch(/tidegate_process_memory_bytes\{kind="rss"\} \d+\n/)
  expect(text).toMatch(/tidegate_build_info\{version="1.2.3",node="[\d.]+"\} 1\n/)
  expect(
    text.split('\n').every((line) => line === '' || line.startsWith('#') || /^[a-z_]+(\{.*\})? [\d.eE+-]+$/.test(line)),
  ).toBe(true)
  expect(text.match(/# TYPE tidegate_requests_total/g)).toHaveLength(1)
})

it('wants credentials for metrics from elsewhere, also through a proxy on this machine (lesson 5.2.13)', async () => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((address) => address !== undefined && !address.internal && address.family === 'IPv4')?.address
  const http = await port({ host: '0.0.0.0' })
  const { port: number } = new URL(http.url)
  const asked: [string, Record<string, string>][] = [
    [`http://127.0.0.1:${number}/metrics`, { 'x-forwarded-for': '127.0.0.1' }],
  ]
  if (outside !== undefined) asked.push([`http://${outside}:${number}/metrics`, {}])
  for (const [url, headers] of asked) {
    const refused = await fetch(url, { headers })
    expect(refused.status, url).toBe(401)
    expect(refused.headers.get('www-authenticate')).toContain('Basic')
    const statusFor = async (authorization: string): Promise<number> =>
      (await fetch(url, { headers: { ...headers, authorization } })).status
    expect(await statusFor('somebody')).toBe(401)
    expect(await statusFor('token')).toBe(403)
    expect(await statusFor('user')).toBe(200)
  }
  expect((await fetch(`http://127.0.0.1:${number}/metrics`)).status).toBe(200)
})

it('pushes metrics and request spans by OTLP when a collector is configured', async () => {
  const received = new Map<string, string>()
  const collector = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks)
      const text = request.headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body
      received.set(request.url ?? '', (received.get(request.url ?? '') ?? '') + text.toString())
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => {
    collector.listen(0, '127.0.0.1', resolve)
  })
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  const { telemetry: started, requests } = await telemetry(endpoint)
  expect(started.tracing).toBe(true)
  const door = createDoorServer({
    name: 's3',
    host: '127.0.0.1',
    port: 0,
    logger: silentLogger,
    metrics: requests,
    ready: () => true,
    tracing: started.tracing,
    handler: (_request, response, exchange) => {
      exchange.operation = 'ListBuckets'
      response.end('x')
      return Promise.resolve()
    },
  })
  await door.start()
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  await (await fetch(door.url, { headers: { traceparent: `00-${traceId}-b7ad6b7169203331-01` } })).text()
  await door.stop()
  await started.stop()
  collector.closeAllConnections()
  collector.close()
  expect(received.get('/v1/traces')).toContain('ListBuckets')
  expect(received.get('/v1/traces')).toContain(traceId)
  expect(received.get('/v1/metrics')).toContain('tidegate_request_duration_seconds')
  expect(received.get('/v1/metrics')).toContain('tidegate_event_loop_delay_seconds')
})

it('keeps going when the collector is away, and ends in time', async () => {
  const { telemetry: started } = await telemetry('http://127.0.0.1:9')
  const before = performance.now()
  await started.stop()
  expect(performance.now() - before).toBeLessThan(7_000)
  expect(prometheusText({ resource: {} as never, scopeMetrics: [] })).toBe('')
})
