// needs: etcd
/** However many read a cold block on however many nodes, the remote store is asked for it once. */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Random } from '../model/random.ts'
import { BUCKET, SharedGateways } from '../support/three-gateways.ts'
import { startRemote, type RemoteTarget } from '../write-behind/remote/remote-target.ts'
import { WeatherProxy } from '../write-behind/remote/weather-proxy.ts'

const READERS = 1_000
const OBJECT_BYTES = 600_000
/** So that they meet at the block, the store does not answer at once. */
const STORE_DELAY_MS = 100

interface Asked {
  readonly path: string
  readonly range: string | undefined
}

let remote: RemoteTarget
let proxy: WeatherProxy
let gateways: SharedGateways
let asked: Asked[] = []
const agent = new Agent({ keepAlive: true, maxSockets: READERS })

beforeAll(async () => {
  remote = await startRemote('tidegate')
  proxy = new WeatherProxy(remote.endpoint, new Random(1))
  await proxy.start()
  proxy.onRequest = ({ method, url = '', headers }) => {
    const path = url.replace(/\?.*/, '')
    if (method === 'GET' && path.endsWith('.seg')) asked.push({ path, range: headers.range })
  }
  gateways = await SharedGateways.start({
    flags: [...remote.flags('neighbours', proxy.endpoint), '--segment-age', '200ms'],
    environment: remote.environment,
  })
})

afterAll(async () => {
  agent.destroy()
  await gateways?.end()
  await proxy?.stop()
  await remote?.stop()
})

function get(index: number, key: string): Promise<{ readonly status: number; readonly body: Buffer }> {
  const { http } = gateways.of(index)
  const options = { agent, headers: { authorization: gateways.authorization } }
  return new Promise((resolve, reject) => {
    const sent = request(`${http}/kv/v1/${BUCKET}/${key}`, options, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }))
      response.on('error', reject)
    })
    sent.on('error', reject)
    sent.end()
  })
}

/** Nothing of it is in any node's memory, journal or disk level. */
async function chill(): Promise<void> {
  for (const index of gateways.indexes) {
    await gateways.stop(index)
    rmSync(join(gateways.data(index), 'cache'), { recursive: true, force: true })
    await gateways.start(index)
  }
}

it('a thousand readers on three nodes of one cold block cost one request at the remote store', async () => {
  const body = randomBytes(OBJECT_BYTES)
  await gateways.kv(0).put('cold', body, { ack: 'persisted' })
  await chill()
  // A node knows its neighbours when their rows have reached it.
  for (const index of gateways.indexes) {
    const all = { what: 'all nodes serve' }
    await gateways.until(index, ({ nodes }) => nodes.filter(({ state }) => state === 'serving').length === 3, all)
  }
  asked = []
  proxy.weather = { ...proxy.weather, delayMs: STORE_DELAY_MS }
  const answers = await Promise.all(Array.from({ length: READERS }, (_, reader) => get(reader % 3, 'cold')))
  const wrong = answers.filter((answer) => answer.status !== 200 || !answer.body.equals(body))
  expect(wrong.map(({ status }) => status)).toEqual([])
  console.log(`asked of the remote store: ${JSON.stringify(asked)}`)
  // What lies behind the body is the footer, which each node may want for itself.
  const ofBody = asked.filter(({ range = 'bytes=0-' }) => Number(/=(\d*)/.exec(range)?.[1]) < OBJECT_BYTES)
  expect(ofBody).toHaveLength(1)
  expect(asked.length - ofBody.length).toBeLessThanOrEqual(3)
}, 180_000)
