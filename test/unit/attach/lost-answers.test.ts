/** An upload of ours that arrives without our knowing, or before we know, of a body that lies in part in the very object that it takes the place of. */
import { expect, test } from 'vitest'
import type { Attached } from '../../../src/attach/attached.ts'
import { carryOut, type CarriedOut, type CarryOutParts } from '../../../src/attach/carry-out.ts'
import { PLAN_LIMITS } from '../../../src/attach/carry-out-plan.ts'
import { WriteBack } from '../../../src/attach/write-back.ts'
import { isExternalSegment } from '../../../src/common/external.ts'
import type { ContentReader } from '../../../src/attach/carry-out-content.ts'
import { MemoryBucket } from '../../support/memory-bucket.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { attachedFixture, BUCKET, type AttachedFixture } from '../meta/namespace/attached/fixture.ts'
import { DELAY_MS, turns } from './write-back-fixture.ts'

const SIZE = 400
const PART_BYTES_MIN = 50
/** Files up to so many bytes go in one PUT. */
const IN_PARTS = 20
const OURS = 'ab'.repeat(16)

interface World {
  readonly made: AttachedFixture
  readonly bucket: MemoryBucket
  /** What was written here, in the one segment of ours. */
  readonly local: Buffer[]
  expected: Buffer
}

async function begin(bucket: MemoryBucket = new MemoryBucket({ clock: new HandClock() })): Promise<World> {
  const made = await attachedFixture()
  bucket.partBytesMin = PART_BYTES_MIN
  const expected = Buffer.from(Array.from({ length: SIZE }, (_, at) => at % 251))
  bucket.outsidePut('f', expected)
  await made.mirror.mergeOne({
    bucketId: made.attachment.bucketId,
    key: 'f',
    found: bucket.peek('f'),
    askedAt: made.namespace.revision(),
  })
  return { made, bucket, local: [], expected: Buffer.from(expected) }
}

async function edit(world: World, key: string, offset: number): Promise<void> {
  const { made, local } = world
  const bytes = Buffer.alloc(10, 0xf0 + local.length)
  const { inode } = await made.namespace.lookup(BUCKET, key)
  const content = await made.namespace.allocateContentId()
  const run = { content, segment: OURS as never, segmentOffset: local.length * bytes.length, length: bytes.length }
  local.push(bytes)
  bytes.copy(world.expected, offset)
  await made.namespace.files.publishFile({
    inode,
    edits: [{ offset, length: bytes.length, run }],
    inline: undefined,
    size: SIZE,
    modified: undefined,
    ack: 'journal',
  })
}

/** As the store reads: from the segment of ours, or outside with `If-Match`. */
function reader({ made, bucket, local }: World): ContentReader {
  const { bucketId } = made.attachment
  return {
    open: () => ({
      async *bytes({ key }, offset, length) {
        const { extents } = (await made.mirror.dirtyState(bucketId, key))!
        for (let at = offset; at < offset + length;) {
          const extent = extents.find((one) => one.offset <= at && at < one.offset + one.length)!
          const from = extent.segmentOffset + at - extent.offset
          const bytes = Buffer.alloc(Math.min(offset + length, extent.offset + extent.length) - at)
          if (isExternalSegment(extent.segment)) {
            const { body } = (await made.mirror.externalSegment(extent.segment))!
            await bucket.read(body, from, [bytes])
          } else Buffer.concat(local).copy(bytes, 0, from)
          at += bytes.length
          yield bytes
        }
      },
      close: () => undefined,
    }),
  }
}

function partsOf(world: World, clock: HandClock, wholeBytesMax: number): CarryOutParts {
  const planLimits = { ...PLAN_LIMITS, partBytesMin: PART_BYTES_MIN, partBytes: 100, wholeBytesMax }
  return { names: world.made.mirror, contents: reader(world), clock, fillRandom: () => undefined, planLimits }
}

function attachedOf({ made, bucket }: World): Attached {
  return { record: made.attachment, external: bucket, capabilities: bucket.capabilities }
}

async function carry(world: World, key: string, wholeBytesMax: number = IN_PARTS): Promise<CarriedOut> {
  const request = { attached: attachedOf(world), key, signal: new AbortController().signal }
  return await carryOut(partsOf(world, new HandClock(), wholeBytesMax), request)
}

async function carryUntilClean(world: World, keys: readonly string[]): Promise<string[]> {
  const outcomes: string[] = []
  for (let round = 0; round < 6 && (await world.made.dirty()).length > 0; round++) {
    for (const key of keys) outcomes.push((await carry(world, key)).kind)
  }
  return outcomes
}

test.each(['putInParts', 'head'] as const)(
  'C32: the answer to %s is lost and the file is changed once more: the rest of it lies in what we left there',
  async (method) => {
    const world = await begin()
    await edit(world, 'f', 200)
    world.bucket.failNth(method, 1, 'after')
    await expect(carry(world, 'f')).rejects.toThrow()
    expect(world.bucket.peek('f')?.bytes.equals(world.expected)).toBe(true)
    await edit(world, 'f', 20)
    const outcomes = await carryUntilClean(world, ['f'])
    expect(outcomes).not.toContain('conflict')
    expect(world.bucket.peek('f')?.bytes.equals(world.expected)).toBe(true)
    expect(await world.made.dirty()).toEqual([])
  },
)

test.each([
  ['f', 'g'],
  ['g', 'f'],
] as const)('C32: the same when it is renamed meanwhile, whichever key comes first (%s, then %s)', async (...keys) => {
  const world = await begin()
  await edit(world, 'f', 200)
  world.bucket.failNth('putInParts', 1, 'after')
  await expect(carry(world, 'f')).rejects.toThrow()
  await world.made.namespace.rename({ bucket: BUCKET, from: 'f', to: 'g', replace: false })
  await edit(world, 'g', 20)
  const outcomes = await carryUntilClean(world, keys)
  expect(outcomes).not.toContain('conflict')
  expect(world.bucket.peek('g')?.bytes.equals(world.expected)).toBe(true)
  expect(world.bucket.peek('f')).toBeUndefined()
})

test('C32: what somebody else has put there is none of ours, and the conflict is listed', async () => {
  const world = await begin()
  await edit(world, 'f', 200)
  world.bucket.failNth('putInParts', 1, 'after')
  await expect(carry(world, 'f')).rejects.toThrow()
  world.bucket.outsidePut('f', Buffer.alloc(SIZE, 9))
  await edit(world, 'f', 20)
  expect(await carry(world, 'f')).toMatchObject({ kind: 'conflict', ended: 'listed' })
  expect(world.bucket.peek('f')?.bytes.equals(Buffer.alloc(SIZE, 9))).toBe(true)
})

test('C32: renamed while it is on its way, and that is settled when the new name finds the bytes gone: no conflict', async () => {
  const world = await begin()
  await edit(world, 'f', 200)
  const uploaded = world.bucket.pauseNth('head')
  const former = carry(world, 'f', SIZE)
  await uploaded.reached
  await world.made.namespace.rename({ bucket: BUCKET, from: 'f', to: 'g', replace: false })
  const refused = world.bucket.pauseNth('head')
  const renamed = carry(world, 'g', SIZE)
  await refused.reached
  uploaded.release()
  expect(await former).toMatchObject({ kind: 'changed' })
  refused.release()
  expect(await renamed).toEqual({ kind: 'again' })
  expect(await carryUntilClean(world, ['g', 'f'])).not.toContain('conflict')
  expect(world.bucket.peek('g')?.bytes.equals(world.expected)).toBe(true)
  expect(world.bucket.peek('f')).toBeUndefined()
})

/** Joins parts under an ETag that nobody can tell before. */
class UntoldBucket extends MemoryBucket {
  override putInParts(...[key, pieces, options]: Parameters<MemoryBucket['putInParts']>): Promise<{ etag: string }> {
    const { attributes, expected, signal } = options
    return super.putInParts(key, pieces, { attributes, expected, signal })
  }
}

test('C32: renamed while it is on its way, and the new name finds the bytes gone before that is settled: no conflict', async () => {
  const clock = new HandClock()
  const world = await begin(new UntoldBucket({ clock }))
  const { bucket, made } = world
  const attached = attachedOf(world)
  const conflicts: string[] = []
  const writeBack = new WriteBack({
    ...partsOf(world, clock, IN_PARTS),
    attached: { isEmpty: false, of: () => attached, ofId: () => attached, all: () => [attached] },
    random: () => 1,
    concurrency: 2,
    delayMs: DELAY_MS,
    waitMsMax: 1000,
    onFailure: () => undefined,
    onConflict: ({ key }) => conflicts.push(key),
  })
  writeBack.start()
  await edit(world, 'f', 200)
  const uploaded = bucket.pauseNth('head')
  await clock.advance(DELAY_MS)
  await uploaded.reached
  await made.namespace.rename({ bucket: BUCKET, from: 'f', to: 'g', replace: false })
  await clock.advance(DELAY_MS)
  await turns()
  expect(bucket.operations.some(({ key, outcome }) => key === 'g' && outcome === 'PreconditionFailed')).toBe(true)
  uploaded.release()
  for (let round = 0; round < 20 && (await made.dirty()).length > 0; round++) {
    await clock.advance(1000)
    await turns()
  }
  expect(conflicts).toEqual([])
  expect(await made.dirty()).toEqual([])
  expect(bucket.peek('g')?.bytes.equals(world.expected)).toBe(true)
  expect(bucket.peek('f')).toBeUndefined()
  await writeBack.stop()
})
