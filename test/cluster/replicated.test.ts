// needs: etcd aws
/** What was acknowledged as `replicated` outlives two of three nodes, one after the other (C17, C23). */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  GetObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { BUCKET, areSafeAgain, SharedGateways } from '../support/three-gateways.ts'

const MIB = 1024 * 1024
const FLAGS = ['--node-grace', '3s', '--segment-size', '8MiB', '--segment-age', '1s']
const SMALL_OBJECTS = 40
/** From a kill until its node counts as lost there pass its lease and the grace; then there is work. */
const TAKEN_OVER_MS_MAX = 60_000

let gateways: SharedGateways
/** By key, what was acknowledged. */
const written = new Map<string, Buffer>()

beforeAll(async () => {
  gateways = await SharedGateways.start({ flags: FLAGS })
})

afterAll(() => gateways.end())

async function put(client: S3Client, key: string, body: Buffer): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }))
  written.set(key, body)
}

async function putInParts(client: S3Client, key: string, parts: readonly Buffer[]): Promise<void> {
  const address = { Bucket: BUCKET, Key: key }
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(address))
  const sent = parts.map(async (body, index) => {
    const part = { ...address, UploadId, PartNumber: index + 1 }
    const { ETag } = await client.send(new UploadPartCommand({ ...part, Body: body }))
    return { PartNumber: index + 1, ETag }
  })
  const MultipartUpload = { Parts: await Promise.all(sent) }
  await client.send(new CompleteMultipartUploadCommand({ ...address, UploadId, MultipartUpload }))
  written.set(key, Buffer.concat(parts))
}

/** @returns after how many ms the last one was read */
async function allAreRead(index: number): Promise<number> {
  const sinceMs = performance.now()
  const client = gateways.s3(index)
  const waiting = [...written]
  const reader = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      const [key, body] = next
      const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key: key }))
      const found = Buffer.from((await Body?.transformToByteArray()) ?? [])
      expect(found.equals(body), `${key} by gateway ${index}: ${found.length} bytes`).toBe(true)
    }
  }
  await Promise.all(Array.from({ length: 4 }, reader))
  return performance.now() - sinceMs
}

/** Ids of the segments of which a node has a file in its journal or its store. */
function segmentsIn(index: number): Set<string> {
  const places = ['journal', 'store'].map((place) => join(gateways.data(index), place))
  const names = places.filter(existsSync).flatMap((place) => readdirSync(place, { recursive: true, encoding: 'utf8' }))
  return new Set(names.flatMap((name) => /(?<id>[0-9a-f]{32})(?:\.\w+)?$/.exec(name)?.groups?.['id'] ?? []))
}

it('is acknowledged for bodies of every kind, and read from everywhere', async () => {
  const client = gateways.s3(0, 'replicated')
  const small = Array.from({ length: SMALL_OBJECTS }, (_, index) =>
    put(client, `small/${index}`, randomBytes(1 + ((index * 4999) % 200_000))),
  )
  await Promise.all([
    ...small,
    put(client, 'large', randomBytes(20 * MIB)),
    putInParts(client, 'in-parts', [randomBytes(6 * MIB), randomBytes(9 * MIB), randomBytes(1000)]),
  ])
  const value = randomBytes(30_000)
  await gateways.kv(0).put('value', value, { ack: 'replicated' })
  written.set('value', value)
  const streamed = randomBytes(12 * MIB)
  writeFileSync(gateways.file('streamed'), streamed)
  expect(await gateways.aws(1, 's3', 'cp', gateways.file('streamed'), `s3://${BUCKET}/streamed`)).toMatchObject({
    code: 0,
  })
  for (const index of gateways.indexes) await allAreRead(index)
})

it('is read from the survivors within seconds of a kill -9 of its node; then that node is taken over and copied again', async () => {
  const own = segmentsIn(0)
  expect(own.size).toBeGreaterThan(0)
  await gateways.kill(0)
  const tookMs = [await allAreRead(1), await allAreRead(2)]
  console.log(`read from the survivors after ${tookMs.map((ms) => ms.toFixed(0)).join(' and ')} ms`)
  expect(Math.max(...tookMs)).toBeLessThan(20_000)
  const what = 'taken over and copied again'
  for (const index of [1, 2]) await gateways.until(index, areSafeAgain(2), { what, withinMs: TAKEN_OVER_MS_MAX })
  for (const index of [1, 2]) await allAreRead(index)
})

it('and from the last one, when the second holder is killed as well', async () => {
  // What the CLI put without a copy was that node's alone.
  written.delete('streamed')
  await gateways.kill(1)
  await allAreRead(2)
  const isTakenOver = await gateways.until(
    2,
    ({ nodes, lost }) => nodes.length === 1 && lost.every(({ state }) => state === 'cleaned'),
    { what: 'alone', withinMs: TAKEN_OVER_MS_MAX },
  )
  expect(isTakenOver.nodes[0]).toMatchObject({ isSelf: true, state: 'serving' })
  await allAreRead(2)
})

it('a node that comes back removes what is not its own any more, and reads everything', async () => {
  const before = segmentsIn(0)
  await gateways.start(0)
  await allAreRead(0)
  await allAreRead(2)
  await expect.poll(() => [...segmentsIn(0)].filter((id) => before.has(id)), { timeout: 30_000 }).toEqual([])
  await gateways.start(1)
  await gateways.until(2, areSafeAgain(3), { what: 'copied again', withinMs: TAKEN_OVER_MS_MAX })
  for (const index of gateways.indexes) await allAreRead(index)
  const client = gateways.s3(0, 'replicated')
  await put(client, 'afterwards', randomBytes(100_000))
  for (const index of gateways.indexes) await allAreRead(index)
})
