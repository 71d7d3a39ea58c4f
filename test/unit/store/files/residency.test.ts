import { expect, test } from 'vitest'
import type { InodeId } from '../../../../src/common/ids.ts'
import { createFixture, type Fixture } from './files-fixture.ts'

/** What memory holds of segments is said by the test. */
function begin(residentShare = 0): { fixture: Fixture; local: { isLocal: boolean } } {
  const local = { isLocal: true }
  const fixture = createFixture(undefined, 1024, {
    isLocal: () => local.isLocal,
    residentBytes: (_segment, _offset, length) => length * residentShare,
  })
  return { fixture, local }
}

async function written(fixture: Fixture, bytes: number, offset = 0): Promise<{ inode: InodeId; handle: number }> {
  const inode = await fixture.make('a')
  const handle = await fixture.open(inode)
  await fixture.files.write(handle, offset, Buffer.alloc(bytes, 1), false)
  return { inode, handle }
}

const NOWHERE = { memory: 0, dirty: 0, journal: 0, remote: 0, metadata: 0 }

test('what was written and is nowhere else is dirty, and in memory', async () => {
  const { fixture } = begin()
  const { inode } = await written(fixture, 2000, 500)
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, memory: 2000, dirty: 2000 })
})

test('what is published lies in the journal until its segment is in the remote store; holes lie nowhere', async () => {
  const { fixture, local } = begin(0.5)
  const { inode, handle } = await written(fixture, 2000, 10_000)
  await fixture.files.flush(handle)
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, memory: 1000, journal: 2000 })
  local.isLocal = false
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, memory: 1000, remote: 2000 })
  await fixture.files.release(handle)
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, memory: 1000, remote: 2000 })
})

test('what is written anew counts once, and not where it was', async () => {
  const { fixture } = begin()
  const { inode, handle } = await written(fixture, 2000)
  await fixture.files.flush(handle)
  await fixture.files.write(handle, 1500, Buffer.alloc(1000, 2), false)
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, memory: 1000, dirty: 1000, journal: 1500 })
})

test('a small file lies with the metadata', async () => {
  const { fixture } = begin()
  const { inode, handle } = await written(fixture, 100)
  await fixture.files.release(handle)
  expect(await fixture.files.residency(inode)).toEqual({ ...NOWHERE, metadata: 100 })
})
