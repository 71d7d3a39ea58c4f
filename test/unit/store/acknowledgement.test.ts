import { expect, test } from 'vitest'
import { Acknowledgement } from '../../../src/store/acknowledgement.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import type { BucketRecord } from '../../../src/common/model.ts'
import type { JournaledBody, Replicating } from '../../../src/store/byte-ports.ts'
import { segmentNumber } from '../persist/fixtures.ts'

test('C17: all segments of a write are hurried at once, so that their waits together are no longer than one', async () => {
  const hurried: SegmentId[] = []
  const arrived = Promise.withResolvers<void>()
  const segments = [1, 2, 3].map(segmentNumber)
  const acknowledgement = new Acknowledgement({
    journal: { sealSoon: () => undefined },
    persisting: {
      persisted: (segment: SegmentId) => {
        hurried.push(segment)
        return arrived.promise
      },
    },
    contents: {},
  } as unknown as ConstructorParameters<typeof Acknowledgement>[0])
  const persisted = acknowledgement.persisted('persisted', segments)
  expect(hurried).toEqual(segments)
  arrived.resolve()
  await persisted
})

function acknowledging(replicating: Replicating | undefined, contents: object = {}): Acknowledgement {
  const parts = { journal: {}, persisting: {}, contents, replicating }
  return new Acknowledgement(parts as unknown as ConstructorParameters<typeof Acknowledgement>[0])
}

test('C17: "replicated" is refused where there are no other nodes, and is the bucket\'s where nothing else is asked for', () => {
  const bucket = { ack: 'replicated' } as BucketRecord
  expect(() => acknowledging(undefined).level(undefined, bucket)).toThrow('needs more than one node')
  const replicating = { check: () => undefined, copied: () => Promise.resolve() }
  expect(acknowledging(replicating).level(undefined, bucket)).toBe('replicated')
  expect(acknowledging(replicating).level('journal', bucket)).toBe('journal')
})

test('C17: a replicated body may be named once both this node and another have it', async () => {
  const [here, there] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const asked: unknown[] = []
  const acknowledgement = acknowledging({
    check: () => undefined,
    copied: (segment, through) => {
      asked.push([segment, through])
      return there.promise
    },
  })
  const run = { content: 1, segment: segmentNumber(1), segmentOffset: 100, length: 50 }
  let isNamed = false
  const body = { run, sync: () => here.promise } as unknown as JournaledBody
  const waiting = acknowledgement.beforeCommit('replicated', body).then(() => (isNamed = true))
  expect(asked).toEqual([[segmentNumber(1), 150]])
  here.resolve()
  await new Promise((resolve) => setImmediate(resolve))
  expect(isNamed).toBe(false)
  there.resolve()
  await waiting
  const failing = { ...body, sync: () => Promise.reject(new Error('the disk failed')) }
  await expect(acknowledgement.beforeCommit('replicated', failing)).rejects.toThrow('the disk failed')
})

test('C16: all that a content refers to is copied, but what lies in an external bucket', async () => {
  const asked: SegmentId[] = []
  const copied = (segment: SegmentId): Promise<void> => {
    asked.push(segment)
    return Promise.resolve()
  }
  const segments = [segmentNumber(1), segmentNumber(2)]
  const contents = { contentSegments: () => Promise.resolve(segments) }
  const acknowledgement = acknowledging({ check: () => undefined, copied }, contents)
  await acknowledgement.raisedContent('journal', 7)
  expect(asked).toEqual([])
  await acknowledgement.raisedContent('replicated', 7)
  expect(asked).toEqual(segments)
})
