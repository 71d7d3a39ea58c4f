import { afterEach, describe, expect, test } from 'vitest'
import { newSegmentId } from '../../../../src/common/ids.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import type { MemoryStoreOptions } from '../../../../src/meta/memory/memory-store.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { fixture, type Fixture } from './fixture.ts'

const open: Fixture[] = []

async function begin(options: MemoryStoreOptions = {}): Promise<Fixture> {
  const made = await fixture(options)
  open.push(made)
  await made.bucket('box')
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

describe('reclaim', () => {
  test('C12: nothing is taken apart before the horizon has passed its drop', async () => {
    const made = await begin()
    await made.put('box', 'k', { run: await made.run(10) })
    const before = made.namespace.revision()
    await made.remove('box', 'k')
    await made.namespace.flush()
    expect((await made.namespace.dismantle(before)).value.steps).toBe(0)
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 1 })
    expect((await made.namespace.dismantle(made.namespace.revision())).value.steps).toBe(1)
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0 })
  })

  test('C12: a drop that was seen, undone and made again waits for the readers from before it was made again', async () => {
    let sync = (): Promise<void> => Promise.resolve()
    const made = await begin({ backend: new MemoryBackend({ sync: () => sync() }) })
    await made.put('box', 'k', { run: await made.run(10) })
    await made.namespace.flush()
    const failing = Promise.withResolvers<void>()
    sync = () => failing.promise
    const undone = await made.remove('box', 'k')
    const seen = made.namespace.dismantle(made.namespace.revision())
    failing.reject(new Error('EIO'))
    await expect(undone.durable).rejects.toMatchObject({ code: 'Unavailable' })
    // It looked while the drop was visible, and was told what is there now.
    expect((await seen).value.steps).toBe(0)
    sync = () => Promise.resolve()
    await made.put('box', 'other')
    const reading = made.namespace.revision()
    await made.remove('box', 'k')
    await made.namespace.flush()
    expect((await made.namespace.dismantle(reading)).value.steps).toBe(0)
    expect((await made.namespace.dismantle(made.namespace.revision())).value.steps).toBe(1)
  })

  test('a segment that was open when it emptied is told once it is sealed', async () => {
    const made = await begin()
    await made.put('box', 'k', { run: await made.run(10) })
    await made.remove('box', 'k')
    expect(await made.reclaim()).toEqual([])
    await made.namespace.segmentChanged(made.segment, 'sealed', 10)
    expect(await made.reclaim()).toEqual([made.segment])
    await made.namespace.segmentRemoved(made.segment)
    expect(await made.namespace.segments(undefined, 10)).toEqual([])
  })

  test('C23: a segment moves along open, sealed, persisted, and never back', async () => {
    const { namespace, segment } = await begin()
    await expect(namespace.segmentOpened(segment)).rejects.toMatchObject({ code: 'ConditionalRequestConflict' })
    await namespace.segmentChanged(segment, 'sealed', 5)
    await namespace.segmentChanged(segment, 'persisted', 5)
    await namespace.segmentChanged(segment, 'persisted', 5)
    await expect(namespace.segmentChanged(segment, 'sealed', 5)).rejects.toMatchObject({
      code: 'ConditionalRequestConflict',
    })
    expect(await namespace.segments(undefined, 10)).toEqual([{ segment, state: 'persisted', bytes: 5, liveBytes: 0 }])
    const later = newSegmentId(2_000_000_000_000)
    await namespace.segmentOpened(later)
    expect((await namespace.segments(segment, 10)).map((record) => record.segment)).toEqual([later])
  })

  test('compaction moves a content, also one that waits to be taken apart', async () => {
    const made = await begin()
    const run = await made.run(10)
    await made.put('box', 'k', { run })
    const other = newSegmentId(made.clock.ms)
    await made.namespace.segmentOpened(other)
    const moved = { ...run, segment: other, segmentOffset: 99 }
    expect((await made.namespace.contentMoved(run, moved)).value).toBe(true)
    expect((await made.namespace.contentMoved(run, moved)).value).toBe(false)
    expect(await made.namespace.contentLiesAt(moved)).toBe(true)
    expect(await made.namespace.extents(run.content, 2, 5)).toEqual([
      { offset: 2, length: 5, segment: other, segmentOffset: 101 },
    ])
    await made.remove('box', 'k')
    expect(await made.namespace.contentLiesAt(moved)).toBe(true)
    expect((await made.namespace.contentMoved(moved, run)).value).toBe(true)
    await made.reclaim()
    expect(await made.namespace.contentLiesAt(run)).toBe(false)
  })

  test('C18: lost bytes remove what was written at level memory, and report the rest', async () => {
    const made = await begin()
    await made.namespace.setVersioning('box', 'enabled')
    const kept = await made.put('box', 'dir/memory', { bytes: 'older' })
    const [memory, journal, elsewhere] = [await made.run(10), await made.run(10), await made.run(10)]
    await made.put('box', 'dir/memory', { run: memory, ack: 'memory' })
    await made.put('box', 'dir/journal', { run: journal })
    await made.put('box', 'dir/fine', { run: elsewhere })
    expect(await made.namespace.bytesLost(made.segment, 5, 15)).toEqual({
      removedMemory: 1,
      lost: [{ bucket: 'box', key: 'dir/journal' }],
    })
    expect(await made.namespace.lookup('box', 'dir/memory')).toMatchObject({ versionId: kept.versionId })
    expect(await made.namespace.bytesLost(made.segment, 30, 40)).toEqual({ removedMemory: 0, lost: [] })
  })
})
