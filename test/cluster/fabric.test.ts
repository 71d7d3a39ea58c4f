// needs: etcd cc libfabric
/** Gateways that read each other's memory by a fabric: what goes by it, and what happens where it is not or is no more. */
import { randomBytes } from 'node:crypto'
import { GetObjectCommand, PutObjectCommand, type S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { BUCKET, SharedGateways } from '../support/three-gateways.ts'

/** What is read lies with its writer alone. */
const FLAGS = ['--segment-age', '1h', '--segment-size', '256MiB']
/** Copies of the first one's go to the second, and the third has no fabric. */
const FLAGS_OF = [
  ['--fabric', 'tcp', '--node-label', 'zone=a'],
  ['--fabric', 'tcp', '--node-label', 'zone=b'],
  ['--fabric', 'off', '--node-label', 'zone=a'],
] as const
const BYTES = 8 * 1024 * 1024

let gateways: SharedGateways
let clients: S3Client[]

beforeAll(async () => {
  gateways = await SharedGateways.start({ flags: FLAGS, flagsOf: (index) => FLAGS_OF[index] ?? [] })
  clients = gateways.indexes.map((index) => gateways.s3(index))
})

afterAll(() => gateways.end())

const client = (index: number): S3Client => must(clients[index], 'a client')
const peers = (index: number): Promise<number> => gateways.metric(index, 'tidegate_fabric_peers')
const moved = (index: number, kind: 'read' | 'write'): Promise<number> =>
  gateways.metric(index, 'tidegate_fabric_bytes_total', `kind="${kind}"`)

const put = (index: number, key: string, body: Uint8Array): Promise<unknown> =>
  client(index).send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }))

async function get(index: number, key: string): Promise<Buffer> {
  const { Body } = await client(index).send(new GetObjectCommand({ Bucket: BUCKET, Key: key }))
  return Buffer.from((await Body?.transformToByteArray()) ?? [])
}

it("blocks are read from the other's memory, and by the connection by one that has no fabric", async () => {
  // Agreed on as soon as they know of each other.
  for (const index of [0, 1]) await expect.poll(() => peers(index), { timeout: 30_000 }).toBe(1)
  const body = randomBytes(BYTES)
  await put(0, 'read', body)
  const before = await moved(1, 'read')
  for (const index of [1, 2]) expect((await get(index, 'read')).equals(body), `gateway ${index}`).toBe(true)
  expect((await moved(1, 'read')) - before).toBeGreaterThan(BYTES / 2)
  expect(await peers(2)).toBe(0)
  expect(await gateways.metric(1, 'tidegate_neighbour_bad_pages_total')).toBe(0)
  const { nodes } = await gateways.status(1)
  expect(nodes.map(({ isSelf, fabric }) => (isSelf ? 'self' : fabric))).toEqual(['tcp', 'self', null])
})

it('copies of what two are to have are written to memory that the other has granted', async () => {
  const before = await moved(0, 'write')
  const replicated = gateways.s3(0, 'replicated')
  const bodies = Array.from({ length: 6 }, () => randomBytes(BYTES / 2))
  // The first asks for the grant, and goes with its call.
  for (const [index, body] of bodies.entries())
    await replicated.send(new PutObjectCommand({ Bucket: BUCKET, Key: `copied/${index}`, Body: body }))
  expect((await moved(0, 'write')) - before).toBeGreaterThan(BYTES)
  for (const [index, body] of bodies.entries()) expect((await get(1, `copied/${index}`)).equals(body)).toBe(true)
  expect(await gateways.metric(0, 'tidegate_fabric_fallbacks_total')).toBe(0)
})

it('one that was killed is read again by the fabric when it is back', async () => {
  const body = randomBytes(BYTES)
  await put(0, 'again', body)
  await gateways.kill(0)
  await gateways.start(0)
  clients[0] = gateways.s3(0)
  await expect
    .poll(
      () =>
        get(1, 'again').then(
          (found) => found.equals(body),
          () => false,
        ),
      { timeout: 60_000 },
    )
    .toBe(true)
  await expect.poll(() => peers(1), { timeout: 60_000 }).toBe(1)
  const other = randomBytes(BYTES)
  await put(0, 'other', other)
  const before = await moved(1, 'read')
  expect((await get(1, 'other')).equals(other)).toBe(true)
  expect((await moved(1, 'read')) - before).toBeGreaterThan(BYTES / 2)
})

it('one that is told to end does so in order: libfabric would take its signals', async () => {
  expect(await gateways.stop(1)).toBe(0)
})
