import { expect, test } from 'vitest'
import type { Attached, AttachedBuckets } from '../../../src/attach/attached.ts'
import { attachedPersisting } from '../../../src/attach/persisting.ts'

const attached: AttachedBuckets = {
  isEmpty: false,
  of: (bucket) => (bucket === 'far' ? ({ record: { bucketId: 7 } } as Attached) : undefined),
  ofId: () => undefined,
  all: () => [],
}

test('C17: in an attached bucket, persisted means that the external bucket has it', async () => {
  const waited: unknown[] = []
  const note = (...what: unknown[]): Promise<void> => Promise.resolve(void waited.push(what))
  const persisting = attachedPersisting(
    {
      named: ({ key }) => note('named', key),
      covered: (revision, made) => note('covered', revision, made.length),
      other: 1,
    },
    { attached, writeBack: { written: (...what) => note('written', ...what) } },
  )
  const published = (bucket: string, key: string): Parameters<typeof persisting.named>[0] => {
    return { bucket, key, inode: 1, revision: 9 }
  }
  await persisting.named(published('far', 'a'))
  await persisting.named(published('near', 'b'))
  await persisting.covered(9, [published('far', 'c'), published('far', 'd')])
  await persisting.covered(9, [published('near', 'e')])
  expect(waited).toEqual([
    ['written', 7, 'a', 9],
    ['named', 'b'],
    ['written', 7, 'c', 9],
    ['written', 7, 'd', 9],
    ['covered', 9, 1],
  ])
  expect(persisting.other).toBe(1)
})
