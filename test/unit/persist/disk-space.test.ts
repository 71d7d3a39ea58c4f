import { expect, test } from 'vitest'
import { DiskSpace } from '../../../src/persist/disk-space.ts'
import type { FileSystem } from '../../../src/persist/ports.ts'
import { Scheduler } from '../../sim/scheduler.ts'
import { newFileSystem } from './fixtures.ts'

function diskOf(
  space: { freeBytes: number; totalBytes: number },
  reserveBytes?: number,
): { disk: DiskSpace; scheduler: Scheduler; looks: () => number } {
  const scheduler = new Scheduler()
  let looks = 0
  const fileSystem: FileSystem = Object.assign(Object.create(newFileSystem()) as FileSystem, {
    space: () => {
      looks++
      return Promise.resolve({ ...space })
    },
  })
  const disk = new DiskSpace({ fileSystem, path: '/data', clock: scheduler.clock, reserveBytes })
  return { disk, scheduler, looks: () => looks }
}

test('C19: what would eat into the reserve is refused, and accepted again when there is room', async () => {
  const space = { freeBytes: 1000, totalBytes: 10_000 }
  const { disk } = diskOf(space, 400)
  await disk.accept(600)
  await disk.accept(600)
  space.freeBytes = 500
  await expect(disk.accept(101)).rejects.toMatchObject({
    code: 'StorageFull',
    details: { freeBytes: 500, reserveBytes: 400 },
  })
  await disk.accept(100)
  space.freeBytes = 5000
  await disk.accept(4000)
})

test('between two looks, what was accepted counts as used', async () => {
  const { disk, scheduler, looks } = diskOf({ freeBytes: 1000, totalBytes: 10_000 }, 0)
  await disk.accept(300)
  await disk.accept(300)
  expect([looks(), disk.freeBytes]).toEqual([1, 400])
  scheduler.nowMs += 501
  await disk.accept(0)
  expect([looks(), disk.freeBytes]).toEqual([2, 1000])
})

test('the reserve is a twentieth of the disk, at most 1 GiB, unless configured', async () => {
  const small = diskOf({ freeBytes: 600, totalBytes: 10_000 }).disk
  await small.accept(100)
  await expect(small.accept(101)).rejects.toMatchObject({ code: 'StorageFull', details: { reserveBytes: 500 } })
  const large = diskOf({ freeBytes: 2 ** 40, totalBytes: 2 ** 42 }).disk
  await large.accept(2 ** 40 - 2 ** 30)
})
