/** What a takeover means for the one that was replaced, and for what it left. */
import { expect, it } from 'vitest'
import { newSegmentId } from '../../../../src/common/ids.ts'
import { NamesStream } from '../../../../src/persist/names/names-stream.ts'
import { LINEAGE, Model } from './model.ts'

const DAY_MS = 86_400_000
const HOUR_MS = 3_600_000

async function rounds(model: Model, count: number, stream = model.stream): Promise<void> {
  for (let round = 0; round < count; round++) {
    await model.namespace.flush()
    model.clock.ms += 61_000
    await stream.round().catch(() => undefined)
    await model.settle()
  }
}

it('C17: a delta counts once the store was seen to be ours after its last part had arrived', async () => {
  const model = new Model(3)
  await model.start()
  await model.put('old', 'inline')
  await rounds(model, 5)
  const through = model.stream.status().shippedThrough
  const revision = await model.put('late', 'inline')
  await model.namespace.flush()
  model.held = () => Promise.reject(new Error('taken over'))
  let told = false
  const waiting = model.stream.covered(revision).then(() => (told = true))
  await rounds(model, 4)
  expect(model.stream.status().shippedThrough).toBe(through)
  expect(told).toBe(false)
  model.held = () => Promise.resolve()
  await rounds(model, 2)
  await waiting
  await model.stop()
})

it('nothing is shipped before the store has been seen to be ours', async () => {
  const model = new Model(4)
  await model.start()
  model.held = () => Promise.reject(new Error('not ours'))
  const revision = await model.put('key', 'inline')
  await model.namespace.flush()
  const waiting = model.stream.named({ bucket: 'bucket', key: 'key', inode: 0, revision })
  await rounds(model, 4)
  expect(model.objects.size).toBe(0)
  model.held = () => Promise.resolve()
  await rounds(model, 5)
  await waiting
  await model.stop()
})

it('what a former holder left stays for a day after the takeover, however old it is, and its bytes with it', async () => {
  const model = new Model(5)
  await model.start()
  await model.put('key', 'inline')
  await rounds(model, 6)
  await model.stream.stop()
  const left = [...model.objects.keys()].filter((name) => name.startsWith(`names/${LINEAGE}`))
  expect(left.length).toBeGreaterThan(1)
  const oldSegment = model.open
  model.clock.ms += 3 * DAY_MS
  const sinceMs = model.clock.ms
  let drawn = 0
  const successor = new NamesStream({
    source: model.namespace.names,
    remote: model.remote,
    lineage: 'd'.repeat(32),
    clock: model.clock,
    fillRandom: (bytes) => bytes.fill(++drawn),
    intervalMs: 1000,
    backupIntervalMs: 0,
    backupsKept: 3,
    waitMsMax: 60_000,
    mayDelete: () => Promise.resolve(true),
    held: () => Promise.resolve(),
    heldSinceMs: () => sinceMs,
    onFailure: () => undefined,
  })
  const newSegment = newSegmentId(sinceMs + 2 * HOUR_MS)
  const leftNow = (): string[] => left.filter((name) => model.objects.has(name))
  await rounds(model, 8, successor)
  expect(successor.status().shippedThrough).toBeGreaterThan(0)
  expect(leftNow()).toEqual(left)
  expect(successor.needsUnknown(oldSegment)).toBe(true)
  expect(successor.mayRemove(oldSegment, 1)).toBe(false)
  expect(successor.mayRemove(newSegment, 1)).toBe(true)
  model.clock.ms = sinceMs + DAY_MS - HOUR_MS
  await rounds(model, 2, successor)
  expect(leftNow()).toEqual(left)
  model.clock.ms = sinceMs + DAY_MS
  await rounds(model, 2, successor)
  expect(leftNow()).toEqual([])
  expect(successor.needsUnknown(oldSegment)).toBe(false)
  expect(successor.mayRemove(oldSegment, 1)).toBe(true)
  await successor.stop()
  await model.stop()
})
