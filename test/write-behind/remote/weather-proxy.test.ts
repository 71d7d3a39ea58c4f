import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Random } from '../../model/random.ts'
import { FAIR, WeatherProxy } from './weather-proxy.ts'

let server: Server
let received: string[]
let proxy: WeatherProxy

beforeEach(async () => {
  received = []
  server = createServer((request, response) => {
    void text(request).then((body) => {
      received.push(`${request.method} ${request.url} ${request.headers.host} ${body.length}`)
      response.writeHead(200, { 'x-known': 'yes' }).end(`got ${body.length}`)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  proxy = new WeatherProxy(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, new Random(1))
  await proxy.start()
})

afterEach(async () => {
  await proxy.stop()
  server.closeAllConnections()
  server.close()
})

function send(): Promise<Response> {
  return fetch(`${proxy.endpoint}/a?b=c`, { method: 'PUT', body: 'x'.repeat(100_000) })
}

it('passes requests on as they are, host and all', async () => {
  const response = await send()
  expect([response.status, response.headers.get('x-known'), await response.text()]).toEqual([200, 'yes', 'got 100000'])
  expect(received).toEqual([`PUT /a?b=c ${new URL(proxy.endpoint).host} 100000`])
})

it('refuses before the store has seen anything', async () => {
  proxy.weather = { ...FAIR, refuseChance: 1 }
  const response = await send()
  expect([response.status, await response.text()]).toEqual([503, expect.stringContaining('SlowDown')])
  expect(received).toEqual([])
})

it('breaks connections before and after the store has done what it was told', async () => {
  proxy.weather = { ...FAIR, dropChance: 1 }
  await expect(send()).rejects.toThrow()
  expect(received).toEqual([])
  proxy.weather = { ...FAIR, loseChance: 1 }
  await expect(send()).rejects.toThrow()
  expect(received).toHaveLength(1)
})

it('is slow when it is told to', async () => {
  proxy.weather = { ...FAIR, delayMs: 300 }
  const startedMs = performance.now()
  expect((await send()).status).toBe(200)
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(299)
})

it('can be cut off and comes back', async () => {
  expect((await send()).status).toBe(200)
  proxy.cutOff()
  await expect(send()).rejects.toThrow()
  proxy.restore()
  expect((await send()).status).toBe(200)
})
