// needs: etcd
/** A node that leaves hands over what lies on it alone (`tidegate node drain`). */
import { randomBytes } from 'node:crypto'
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { areSafeAgain, BUCKET, SharedGateways } from '../support/three-gateways.ts'

let gateways: SharedGateways

beforeAll(async () => {
  gateways = await SharedGateways.start({ flags: ['--node-grace', '3s'] })
})

afterAll(() => gateways.end())

it('is drained, stopped, and everything that was written there at the level of the journal is read from the others', async () => {
  const client = gateways.s3(0)
  const bodies = Array.from({ length: 30 }, (_, index) => randomBytes(1000 + index * 400_000))
  for (const [index, Body] of bodies.entries())
    await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: `key${index}`, Body }))
  const drain = async (): Promise<{ segments: number; left: number; done: boolean }> => {
    const response = await fetch(`${gateways.of(0).http}/admin/v1/nodes/drain`, {
      method: 'POST',
      headers: { authorization: gateways.authorization },
    })
    expect(response.status).toBe(200)
    return (await response.json()) as { segments: number; left: number; done: boolean }
  }
  let drained = await drain()
  while (!drained.done) drained = await drain()
  expect(drained).toMatchObject({ left: 0 })
  expect(drained.segments).toBeGreaterThan(1)
  const { nodes } = await gateways.status(1)
  expect(nodes.map(({ state }) => state).sort()).toEqual(['leaving', 'serving', 'serving'])
  // Of after the drain: handed over by the stop.
  const late = randomBytes(50_000)
  await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: 'late', Body: late }))
  expect(await gateways.stop(0)).toBe(0)

  const read = async (index: number, key: string): Promise<Buffer> => {
    const { Body } = await gateways.s3(index).send(new GetObjectCommand({ Bucket: BUCKET, Key: key }))
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }
  for (const index of [1, 2]) {
    for (const [number, body] of bodies.entries())
      expect((await read(index, `key${number}`)).equals(body), `key${number} by gateway ${index}`).toBe(true)
    expect((await read(index, 'late')).equals(late)).toBe(true)
  }
  // And taken over: nothing waits for the node that has left.
  await gateways.until(1, areSafeAgain(2), { what: 'its segments are of those that stay' })
}, 180_000)
