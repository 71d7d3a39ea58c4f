// needs: etcd
/**
 * All nodes of a cluster are stopped at the same time, as `docker compose stop` does: whoever is last finds no majority, and addresses that answer nothing any more. Each
 * ends by itself, and nothing that was acknowledged is missing when they are started again.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { openBlackHole, type BlackHole } from '../support/black-hole.ts'
import { ClusterGateways } from '../support/cluster-gateways.ts'

const NODES = [0, 1, 2]
const STOP_MS_MAX = 20_000
const ROUNDS = 2
const WRITES_BEFORE = 20
/** The one lies in the metadata, the other in the journal. */
const BODY_BYTES = [40, 40_000]

let hole: BlackHole
let cluster: ClusterGateways

beforeAll(async () => {
  hole = await openBlackHole()
  cluster = await ClusterGateways.create(3, [], [`http://127.0.0.1:${hole.port}`])
})

afterAll(async () => {
  await cluster.end()
  await hole.end()
})

async function stopTimed(index: number): Promise<{ code: number | null; tookMs: number }> {
  const sinceMs = performance.now()
  const code = await cluster.stop(index)
  return { code, tookMs: performance.now() - sinceMs }
}

function bodyOf(key: string): string {
  const bytes = BODY_BYTES[Number(key.at(-1)) % BODY_BYTES.length] ?? 0
  return key.repeat(Math.ceil(bytes / key.length))
}

/** One key after the other, until the node takes no more. */
async function writeUntilStopped(index: number, round: number, acknowledged: string[]): Promise<void> {
  for (let number = 0; ; number++) {
    const key = `round-${round}-by-${index}-${number}`
    const answer = await cluster.put(index, key, bodyOf(key)).catch(() => undefined)
    if (answer === undefined) return
    if (answer.status < 300) acknowledged.push(key)
  }
}

it('ends by itself, node by node, and loses nothing', async () => {
  expect(await cluster.prepare('init', 0)).toMatchObject({ code: 0 })
  await cluster.start(0)
  await Promise.all([cluster.start(1), cluster.start(2)])
  expect((await cluster.call(0, 'PUT', `/kv/v1/${cluster.bucket}`)).status).toBe(201)
  await cluster.leader(0)
  for (let round = 0; round < ROUNDS; round++) {
    const acknowledged = NODES.map((): string[] => [])
    const writing = acknowledged.map((keys, index) => writeUntilStopped(index, round, keys))
    const fewest = (): number => Math.min(...acknowledged.map((keys) => keys.length))
    await expect.poll(fewest, { timeout: 30_000 }).toBeGreaterThan(WRITES_BEFORE)
    const stopped = await Promise.all(NODES.map(stopTimed))
    console.log(`stopped at once: ${JSON.stringify(stopped)}`)
    await Promise.all(writing)
    for (const { code, tookMs } of stopped) {
      expect(code).toBe(0)
      expect(tookMs).toBeLessThan(STOP_MS_MAX)
    }
    await Promise.all(NODES.map((index) => cluster.start(index)))
    await cluster.leader(0)
    for (const index of NODES)
      for (const key of acknowledged.flat())
        expect(await cluster.get(index, key)).toMatchObject({ status: 200, text: bodyOf(key) })
  }
}, 240_000)
