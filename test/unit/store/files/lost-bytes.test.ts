/** What was journaled and not published lies in a segment that breaks for good: it is told once, and the file goes on (C20). */
import { expect, test } from 'vitest'
import { createFixture } from './files-fixture.ts'

test('C20: every handle is told of a loss once; the rest is published, and the range reads as it was published before', async () => {
  const fixture = createFixture()
  const { files, journal } = fixture
  const inode = await fixture.make('a')
  const [one, other] = [await fixture.open(inode), await fixture.open(inode)]
  await files.write(one, 0, Buffer.alloc(2000, 'a'), false)
  await files.sync(one)
  await files.write(one, 500, Buffer.alloc(100, 'b'), false)
  await files.write(other, 1990, Buffer.alloc(100, 'c'), false)
  journal.hook = (what) => {
    if (what === 'sync')
      for (const segment of journal.segments.keys()) if (!journal.synced.has(segment)) journal.broken.add(segment)
  }
  await expect(files.sync(one)).rejects.toMatchObject({ code: 'Unavailable' })
  journal.hook = () => undefined
  await files.sync(one)
  await expect(files.sync(other)).rejects.toMatchObject({ code: 'Unavailable' })
  await files.sync(other)
  await files.write(one, 10, Buffer.from('new'), false)
  await files.sync(one)
  const expected = Buffer.alloc(2090, 'a')
  expected.set(Buffer.from('new'), 10)
  expected.fill(0, 2000)
  expect((await fixture.contentOf(one)).equals(expected)).toBe(true)
  expect((await fixture.publishedContent(inode)).equals(expected)).toBe(true)
  expect(journal.pending).toBe(0)
})
