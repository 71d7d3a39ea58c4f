import { expect, it, test } from 'vitest'
import { DirectoryStore } from '../../../../src/persist/remote/directory-store.ts'
import { Random } from '../../../model/random.ts'
import type { ForgetfulFileSystem } from '../../../sim/forgetful-file-system.ts'
import { Scheduler } from '../../../sim/scheduler.ts'
import { HandClock } from '../../../conformance/hand-clock.ts'
import { newFileSystem, writeFile } from '../fixtures.ts'

const DIRECTORY = '/remote'
const JOURNAL = '/journal/one.seg'
const CONTENT = Buffer.alloc(3_000, 5)

/** Not even after a restart does a name come back. */
let uploads = 0

function storeOn(fileSystem: ForgetfulFileSystem, clock = new HandClock()): DirectoryStore {
  return new DirectoryStore({
    directory: DIRECTORY,
    fileSystem,
    clock,
    randomText: () => String(uploads++),
    modifiedMs: async () => 0,
  })
}

async function withSegment(otherDevice: string | undefined): Promise<ForgetfulFileSystem> {
  const fileSystem = newFileSystem(otherDevice === undefined ? {} : { otherDevice })
  await fileSystem.makeDirectory(DIRECTORY)
  await fileSystem.makeDirectory('/journal')
  await fileSystem.syncDirectory('/')
  await writeFile(fileSystem, JOURNAL, CONTENT)
  await fileSystem.syncDirectory('/journal')
  return fileSystem
}

test.each([undefined, DIRECTORY])('what was stored survives a power cut (other device: %s)', async (otherDevice) => {
  const fileSystem = await withSegment(otherDevice)
  const store = storeOn(fileSystem)
  await store.put('names/base/1', Buffer.from('names'))
  await store.putFile('segments/ab/one.seg', { path: JOURNAL, bytes: CONTENT.length })
  for (let seed = 1; seed <= 20; seed++) {
    const after = fileSystem.crash(new Random(seed))
    expect(after.contents(`${DIRECTORY}/names/base/1`)).toEqual(Buffer.from('names'))
    expect(after.contents(`${DIRECTORY}/segments/ab/one.seg`)).toEqual(CONTENT)
  }
})

test.each([undefined, DIRECTORY])(
  'a power cut anywhere inside leaves old or new, whole, never loses the segment, and may be repeated (other device: %s)',
  async (otherDevice) => {
    for (let seed = 1; seed <= 100; seed++) {
      const random = new Random(seed)
      const before = await withSegment(otherDevice)
      await storeOn(before).put('names/tip', Buffer.from('old'))
      const scheduler = new Scheduler()
      const options = { scheduler, random, ...(otherDevice === undefined ? {} : { otherDevice }) }
      const slow = before.crash(random, options)
      slow.latencyMsMax = 1
      const working = storeOn(slow)
      const work = (async () => {
        await working.put('names/tip', Buffer.from('new'))
        await working.putFile('segments/ab/one.seg', { path: JOURNAL, bytes: CONTENT.length })
      })()
      work.catch(() => undefined)
      for (let steps = random.below(50); steps > 0; steps--) await scheduler.step()
      const found = slow.crash(random)
      const store = storeOn(found)
      const tip = (await store.get('names/tip', 100))?.bytes.toString()
      expect(['old', 'new'], `seed ${seed}`).toContain(tip)
      await store.putFile('segments/ab/one.seg', { path: JOURNAL, bytes: CONTENT.length })
      expect(found.contents(`${DIRECTORY}/segments/ab/one.seg`), `seed ${seed}`).toEqual(CONTENT)
      await store.abandonUploads(Infinity)
      expect(await found.list(`${DIRECTORY}/.uploads`), `seed ${seed}`).toEqual([])
    }
  },
)

it('abandons what was begun before, and nothing younger', async () => {
  const fileSystem = newFileSystem()
  const clock = new HandClock()
  const store = storeOn(fileSystem, clock)
  await store.connect()
  for (const begunMs of [5, 900, 1_000]) {
    await writeFile(fileSystem, `${DIRECTORY}/.uploads/${begunMs.toString(16)}-x`, Buffer.from('torn'))
  }
  expect(await store.abandonUploads(1_000)).toBe(2)
  expect(await store.abandonUploads(1_000)).toBe(0)
  expect(await fileSystem.list(`${DIRECTORY}/.uploads`)).toEqual(['3e8-x'])
  expect(await store.list('', undefined, 10)).toEqual([])
})

it('says that the disk is full, and leaves nothing of the attempt', async () => {
  const fileSystem = newFileSystem()
  const store = storeOn(fileSystem)
  await store.connect()
  fileSystem.faults.full = true
  await expect(store.put('names/tip', Buffer.from('new'))).rejects.toMatchObject({
    code: 'StorageFull',
    details: { remoteCode: 'ENOSPC' },
  })
  fileSystem.faults.full = false
  expect(await store.get('names/tip', 10)).toBeUndefined()
  expect(await fileSystem.list(`${DIRECTORY}/.uploads`)).toEqual([])
})
