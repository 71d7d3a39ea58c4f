// needs: etcd aws
/** What one of three gateways wrote is read from the others before anything has left its journal. */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { refusalOf } from '../support/sdk-client.ts'
import { BUCKET, SharedGateways } from '../support/three-gateways.ts'

/** So that what is read lies in the open segment of its writer. */
const FLAGS = ['--segment-age', '1h', '--segment-size', '256MiB']
const LARGE_BYTES = 20 * 1024 * 1024
const SMALL_OBJECTS = 200
const READERS = [1, 2] as const

let gateways: SharedGateways
let clients: readonly S3Client[]

beforeAll(async () => {
  gateways = await SharedGateways.start({ flags: FLAGS })
  clients = gateways.indexes.map((index) => gateways.s3(index))
})

afterAll(() => gateways.end())

const client = (index: number): S3Client => must(clients[index], 'a client')

const put = (index: number, key: string, body: Uint8Array): Promise<unknown> =>
  client(index).send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }))

async function get(index: number, key: string, range?: string): Promise<Buffer> {
  const { Body } = await client(index).send(new GetObjectCommand({ Bucket: BUCKET, Key: key, Range: range }))
  return Buffer.from((await Body?.transformToByteArray()) ?? [])
}

async function isRead(index: number, key: string, body: Buffer): Promise<void> {
  const found = await get(index, key)
  expect(found.equals(body), `${key} by gateway ${index}: ${found.length} bytes`).toBe(true)
}

it('a large object that the AWS CLI put at one is read from the others, whole and in ranges', async () => {
  const body = randomBytes(LARGE_BYTES)
  writeFileSync(gateways.file('large'), body)
  expect(await gateways.aws(0, 's3', 'cp', gateways.file('large'), `s3://${BUCKET}/large`)).toMatchObject({ code: 0 })
  const copies = READERS.map((index) =>
    gateways.aws(index, 's3', 'cp', `s3://${BUCKET}/large`, gateways.file(`large-${index}`)),
  )
  for (const copied of await Promise.all(copies)) expect(copied).toMatchObject({ code: 0 })
  for (const index of READERS) expect(readFileSync(gateways.file(`large-${index}`)).equals(body)).toBe(true)
  for (const [from, to] of [
    [0, 0],
    [65_535, 65_536],
    [1_048_570, 3_145_740],
    [LARGE_BYTES - 5, LARGE_BYTES - 1],
  ] as const) {
    const wanted = body.subarray(from, to + 1)
    for (const index of READERS) {
      const found = await get(index, 'large', `bytes=${from}-${to}`)
      expect(found.equals(wanted), `bytes ${from} to ${to} by gateway ${index}`).toBe(true)
    }
  }
  for (const index of READERS) expect(await gateways.metric(index, 'tidegate_neighbour_hits_total')).toBeGreaterThan(0)
})

it('small ones are read from the others as soon as they are acknowledged, while more are written', async () => {
  const bodies = Array.from({ length: SMALL_OBJECTS }, (_, index) => randomBytes(600 + ((index * 7919) % 70_000)))
  const read: Promise<void>[] = []
  let next = 0
  const writer = async (): Promise<void> => {
    for (let index = next++; index < bodies.length; index = next++) {
      const [key, body] = [`small/${index}`, must(bodies[index], 'a body')]
      await put(0, key, body)
      read.push(...READERS.map((reader) => isRead(reader, key, body)))
    }
  }
  await Promise.all([writer(), writer(), writer(), writer()])
  await Promise.all(read)
  expect(read).toHaveLength(2 * SMALL_OBJECTS)
})

it('while a large one is on its way in, what was acknowledged before is read', async () => {
  const before = randomBytes(300_000)
  await put(0, 'before', before)
  const body = randomBytes(LARGE_BYTES)
  const done = new AbortController()
  const writing = put(0, 'on-its-way', body).finally(() => done.abort())
  do {
    for (const index of READERS) await isRead(index, 'before', before)
  } while (!done.signal.aborted)
  await writing
  for (const index of READERS) await isRead(index, 'on-its-way', body)
})

it('an overwritten one is read as it is now, a deleted one is gone, at whichever it was done', async () => {
  const [first, second] = [randomBytes(100_000), randomBytes(120_000)]
  await put(0, 'changed', first)
  for (const index of READERS) await isRead(index, 'changed', first)
  await put(1, 'changed', second)
  for (const index of gateways.indexes) await isRead(index, 'changed', second)
  await client(2).send(new DeleteObjectCommand({ Bucket: BUCKET, Key: 'changed' }))
  for (const index of gateways.indexes) expect(await refusalOf(get(index, 'changed'))).toBe('404 NoSuchKey')
})

it('what only a node has that hangs is refused in bounded time, and read when it is back', async () => {
  const [body, other] = [randomBytes(700_000), randomBytes(50_000)]
  await put(0, 'hangs', body)
  await put(1, 'elsewhere', other)
  gateways.pause(0)
  try {
    for (const index of READERS) {
      const sinceMs = performance.now()
      expect(await refusalOf(get(index, 'hangs'))).toMatch(/^503 /)
      expect(performance.now() - sinceMs).toBeLessThan(15_000)
      await isRead(index, 'elsewhere', other)
    }
  } finally {
    gateways.resume(0)
  }
  for (const index of READERS) {
    await expect.poll(() => refusalOf(get(index, 'hangs')), { timeout: 30_000 }).toBe('200')
    await isRead(index, 'hangs', body)
  }
})

it('status names the others, whether they are reached, and who holds what', async () => {
  const shown = await gateways.until(1, ({ holdings }) => (holdings?.byNode.length ?? 0) > 0, { what: 'segments' })
  expect(shown.nodes.map(({ state }) => state)).toEqual(['serving', 'serving', 'serving'])
  const [holder] = shown.nodes
  expect(holder).toMatchObject({ isReachable: true, roundTripMs: expect.any(Number) as number })
  expect(shown.tiers.neighbours).toMatchObject({ badPages: 0 })
  // The one that was paused may have been taken for away.
  await gateways.until(1, ({ lost }) => lost.length === 0, { what: 'nobody away' })
})
