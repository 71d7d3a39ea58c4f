import { expect, test } from 'vitest'
import { must } from '../../../../src/common/assert.ts'
import type { ByteString, Revision } from '../../../../src/common/ids.ts'
import { MemoryBackend, MemoryDisk } from '../../../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import { isKeyLogKey, KeyLog, type KeyLogSettings } from '../../../../src/meta/stage/key-log.ts'
import type { EmbeddedStore, RowChanges } from '../../../../src/meta/stage/ports.ts'

/** What a row of the log takes besides its keys. */
const ROW_BYTES = 14
const ALL: KeyLogSettings = { includes: (key) => !isKeyLogKey(key) && !key.startsWith('-'), bytesMax: 1e6 }
const EVERY_GROUP = 1e6
const VALUE = Uint8Array.of(1)

/** A log on a disk that outlives it, written as the stage does it: one group after another. */
class Log {
  readonly backend: MemoryBackend
  readonly log: KeyLog

  private constructor(disk: MemoryDisk, settings: KeyLogSettings | undefined) {
    this.backend = new MemoryBackend({ disk })
    this.log = new KeyLog(this.backend, settings)
  }

  static async open(disk: MemoryDisk, settings: KeyLogSettings | undefined, revision: Revision): Promise<Log> {
    const opened = new Log(disk, settings)
    await opened.backend.open()
    await opened.backend.commit([opened.log.open(revision)])
    return opened
  }

  async group(revision: Revision, ...keys: readonly string[]): Promise<void> {
    const changes: RowChanges = new Map(keys.map((key) => [key as ByteString, VALUE]))
    const batch = new Map(changes)
    const { committed } = this.log.prepare(revision, changes, batch)
    await this.backend.commit([batch])
    committed()
  }

  /** Undefined when the log does not reach back so far. */
  changed(after: Revision, through: Revision): string[] | undefined {
    return this.log.changed(this.backend, after, { through, groups: EVERY_GROUP })?.keys.map(String)
  }

  /** Last revisions of the groups whose rows there are. */
  rows(): number[] {
    const range = { start: 'Y\x01' as ByteString, end: 'Y\x02' as ByteString }
    return this.backend.keys(range, EVERY_GROUP).map((key) => Number(Buffer.from(key, 'latin1').readBigUInt64BE(2)))
  }
}

test('tells each group its keys once, by pages of groups, and leaves out what is not asked for', async () => {
  const log = await Log.open(new MemoryDisk(), ALL, 0)
  const long = 'k'.repeat(1900)
  await log.group(3, 'a', long, '-counter')
  await log.group(4, '-counter')
  await log.group(7, 'b', 'a')
  expect(log.changed(0, 7)).toEqual(['a', long, 'b', 'a'])
  expect(log.changed(3, 7)).toEqual(['b', 'a'])
  expect(log.changed(7, 7)).toEqual([])
  expect(log.log.changed(log.backend, 0, { through: 7, groups: 1 })).toEqual({ keys: ['a', long], through: 3 })
  expect(log.log.changed(log.backend, 3, { through: 7, groups: 2 })).toEqual({ keys: ['b', 'a'], through: 7 })
  // A group of which nothing is logged costs no row.
  expect(log.rows()).toEqual([3, 7])
})

test('what nobody needs goes with the next group, and is not promised any more', async () => {
  const log = await Log.open(new MemoryDisk(), ALL, 0)
  for (const revision of [2, 4, 6, 8]) await log.group(revision, `key-${revision}`)
  log.log.neededAfter(6)
  expect(log.changed(0, 8)).toHaveLength(4)
  await log.group(10, 'key-10')
  expect(log.rows()).toEqual([8, 10])
  expect([log.changed(5, 10), log.changed(6, 10)]).toEqual([undefined, ['key-8', 'key-10']])
  // Who asks for less than before is not given it.
  log.log.neededAfter(2)
  await log.group(12, 'key-12')
  expect(log.rows()).toEqual([8, 10, 12])
})

test('a need that lies ahead of what was committed takes away nothing that comes later', async () => {
  const log = await Log.open(new MemoryDisk(), ALL, 0)
  await log.group(2, 'two')
  log.log.neededAfter(1000)
  await log.group(4, 'four')
  expect(log.changed(2, 4)).toEqual(['four'])
  await log.group(6, 'six')
  expect(log.changed(4, 6)).toEqual(['six'])
})

test('too many bytes: the oldest go first, and who needed them is told that the log does not reach back', async () => {
  const rowBytes = ROW_BYTES + 1 + 'key-00'.length
  const log = await Log.open(new MemoryDisk(), { ...ALL, bytesMax: 3 * rowBytes }, 0)
  for (const revision of [11, 12, 13]) await log.group(revision, `key-${revision}`)
  expect(log.changed(0, 13)).toEqual(['key-11', 'key-12', 'key-13'])
  await log.group(14, 'key-14')
  expect(log.rows()).toEqual([12, 13, 14])
  expect([log.changed(0, 14), log.changed(10, 14)]).toEqual([undefined, undefined])
  expect(log.changed(11, 14)).toEqual(['key-12', 'key-13', 'key-14'])
})

test('a group that is larger than all that there may be leaves a log that is short, not one that is wrong', async () => {
  const log = await Log.open(new MemoryDisk(), { ...ALL, bytesMax: 100 }, 0)
  await log.group(1, 'a')
  await log.group(2, ...Array.from({ length: 50 }, (_, index) => `many-${index}`))
  await log.group(3, 'c')
  expect([log.changed(0, 3), log.changed(1, 3)]).toEqual([undefined, undefined])
  expect(log.changed(2, 3)).toEqual(['c'])
})

test('a batch that failed has changed nothing of what the log believes', async () => {
  const disk = new MemoryDisk()
  const log = await Log.open(disk, { ...ALL, bytesMax: 60 }, 0)
  await log.group(1, 'a'.repeat(20))
  log.backend.fillUp()
  await expect(log.group(2, 'b'.repeat(20))).rejects.toMatchObject({ code: 'StorageFull' })
  expect(log.changed(0, 1)).toEqual(['a'.repeat(20)])
  log.backend.failCommits()
  await log.group(2, 'c'.repeat(20))
  expect([log.changed(0, 2), log.changed(1, 2)]).toEqual([undefined, ['c'.repeat(20)]])
})

test('reopened it goes on: it counts what it takes, and trims what was there', async () => {
  const disk = new MemoryDisk()
  const settings = { ...ALL, bytesMax: 2 * (ROW_BYTES + 2) }
  const first = await Log.open(disk, settings, 0)
  await first.group(1, 'a')
  await first.group(2, 'b')
  const second = await Log.open(disk, settings, 2)
  expect(second.changed(0, 2)).toEqual(['a', 'b'])
  await second.group(3, 'c')
  expect(second.rows()).toEqual([2, 3])
  expect([second.changed(0, 3), second.changed(1, 3)]).toEqual([undefined, ['b', 'c']])
})

test('after a time without the log it is complete from then on only, and what it had is trimmed', async () => {
  const disk = new MemoryDisk()
  const first = await Log.open(disk, ALL, 0)
  await first.group(1, 'a')
  const without = await Log.open(disk, undefined, 1)
  await without.group(2, 'b')
  expect(without.changed(1, 2)).toBeUndefined()
  const again = await Log.open(disk, ALL, 2)
  // Its rows of revision 1 are still there, and those of 2 never were.
  expect(again.rows()).toEqual([1])
  expect([again.changed(0, 2), again.changed(1, 2)]).toEqual([undefined, undefined])
  await again.group(3, 'c')
  expect([again.changed(1, 3), again.changed(2, 3)]).toEqual([undefined, ['c']])
  again.log.neededAfter(3)
  await again.group(4, 'd')
  expect(again.rows()).toEqual([4])
})

test('without having written anything a time without the log ends it as well', async () => {
  const disk = new MemoryDisk()
  const first = await Log.open(disk, ALL, 0)
  await first.group(1, 'a')
  await Log.open(disk, undefined, 1)
  const again = await Log.open(disk, ALL, 1)
  expect([again.changed(0, 1), again.changed(1, 1)]).toEqual([undefined, []])
})

test('a state that another version wrote is refused, and not guessed at', async () => {
  const disk = new MemoryDisk()
  await Log.open(disk, ALL, 0)
  disk.write([new Map([['M\x01keys' as ByteString, Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0)]])])
  await expect(Log.open(disk, ALL, 0)).rejects.toMatchObject({ code: 'Unavailable' })
})

/** Keys that the store says have changed; undefined when it cannot say. */
function changedIn(store: EmbeddedStore, after: Revision): { keys: string[]; revision: Revision } | undefined {
  return store.readDurable((rows) => {
    const found = rows.changedKeys(after, EVERY_GROUP)
    return found && { keys: found.keys.map(String), revision: rows.revision }
  })
}

async function openStore(disk: MemoryDisk, sync?: () => Promise<void>): Promise<[EmbeddedStore, MemoryBackend]> {
  const backend = new MemoryBackend({ disk, ...(sync && { sync }) })
  const store = createMemoryStore({ backend, keyLog: ALL, changeLogRevisionsMax: 0 })
  await store.start()
  return [store, backend]
}

test.each([true, false])(
  'C17: after a power cut in the middle of a commit the log tells exactly what is there (survived: %s)',
  async (survives) => {
    const disk = new MemoryDisk()
    let hang: (() => void) | undefined
    const [store, backend] = await openStore(disk, () => (hang ? new Promise(() => hang?.()) : Promise.resolve()))
    const write = (key: string): Promise<unknown> => store.transact(async (tx) => tx.put(key as ByteString, VALUE))
    await write('before')
    await store.flush()
    const { revision } = must(changedIn(store, 0), 'log')
    const begun = new Promise<void>((resolve) => (hang = resolve))
    void write('during')
    await begun
    const [after] = await openStore(backend.crash(() => survives))
    const told = must(changedIn(after, revision), 'log that reaches back')
    expect(told.keys).toEqual(survives ? ['during'] : [])
    expect(after.readDurable((rows) => rows.get('during' as ByteString) !== undefined)).toBe(survives)
    await after.stop()
  },
)
