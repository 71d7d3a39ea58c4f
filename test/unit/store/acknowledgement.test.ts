import { expect, test } from 'vitest'
import { Acknowledgement } from '../../../src/store/acknowledgement.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
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
