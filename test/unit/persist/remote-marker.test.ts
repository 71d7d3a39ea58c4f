import { beforeEach, expect, test } from 'vitest'
import {
  checkRemote,
  claimRemote,
  remoteHistory,
  remoteHolder,
  takeOverRemote,
} from '../../../src/persist/remote-marker.ts'
import { FaultyStore } from '../../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../../src/persist/remote/memory-store.ts'
import { REMOTE_MARKER_NAME } from '../../../src/persist/remote/ports.ts'
import { HandClock } from '../../conformance/hand-clock.ts'
import { newFileSystem } from './fixtures.ts'

const ID = (digit: string): string => digit.repeat(32)
const MINE = { namespace: ID('a'), holder: ID('1') }
const OTHER = { namespace: ID('b'), holder: ID('2') }
const FRESH = { nowMs: 5, unmarkedIsOurs: false }

let store: MemoryStore
let faulty: FaultyStore

beforeEach(async () => {
  store = new MemoryStore({ clock: new HandClock(), fileSystem: newFileSystem() })
  faulty = new FaultyStore(store, { clock: new HandClock(), random: () => 0 })
  await store.connect()
})

test('an empty store is claimed, and claimed again by the same', async () => {
  expect(await remoteHolder(store)).toBeUndefined()
  await claimRemote(store, MINE, FRESH)
  await claimRemote(store, MINE, FRESH)
  expect(await remoteHolder(store)).toEqual(MINE)
  await expect(checkRemote(store, MINE)).resolves.toBeUndefined()
})

test("somebody else's store is not claimed, and its marker stays", async () => {
  await claimRemote(store, OTHER, FRESH)
  await expect(claimRemote(store, MINE, FRESH)).rejects.toMatchObject({
    code: 'InvalidRequest',
    message: expect.stringContaining('holds another namespace') as string,
  })
  expect(await remoteHolder(store)).toEqual(OTHER)
})

test('segments without a marker are nobody knows whose, unless they are known to be ours', async () => {
  await store.put('segments/ab/x.seg', Buffer.from('x'))
  await expect(claimRemote(store, MINE, FRESH)).rejects.toMatchObject({ code: 'InvalidRequest' })
  await claimRemote(store, MINE, { nowMs: 5, unmarkedIsOurs: true })
  expect(await remoteHolder(store)).toEqual(MINE)
})

test('a claim whose acknowledgement was lost is a claim', async () => {
  faulty.failNth('put', 1, 'lost-acknowledgement')
  await claimRemote(faulty, MINE, FRESH).catch(() => undefined)
  await claimRemote(faulty, MINE, FRESH)
  expect(await remoteHolder(store)).toEqual(MINE)
})

test('of two that claim at the same moment one loses', async () => {
  const outcomes = await Promise.allSettled([claimRemote(store, MINE, FRESH), claimRemote(store, OTHER, FRESH)])
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
})

test('who was taken over is fenced, and the namespace stays what it was', async () => {
  await claimRemote(store, MINE, FRESH)
  const restored = await takeOverRemote(store, ID('9'), { namespace: ID('f'), nowMs: 6 })
  expect(restored).toEqual({ namespace: MINE.namespace, holder: ID('9') })
  await expect(checkRemote(store, MINE)).rejects.toMatchObject({ code: 'InvalidRequest', details: { fenced: true } })
  await expect(checkRemote(store, restored)).resolves.toBeUndefined()
})

test('of two that take over at the same moment one loses', async () => {
  await claimRemote(store, MINE, FRESH)
  const fallback = { namespace: ID('f'), nowMs: 6 }
  const outcomes = await Promise.allSettled([
    takeOverRemote(store, ID('8'), fallback),
    takeOverRemote(store, ID('9'), fallback),
  ])
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
})

test('a marker that is gone, or does not answer, fences nobody', async () => {
  await expect(checkRemote(store, MINE)).rejects.toMatchObject({ code: 'Unavailable', details: { fenced: false } })
  faulty.faults.down = true
  await expect(checkRemote(faulty, MINE)).rejects.toMatchObject({ code: 'Unavailable' })
})

test.each([['{'], ['{"format":1}'], ['{"format":1,"namespace":"x","holder":"y"}'], ['null']])(
  'a marker that is none of ours is refused: %s',
  async (text) => {
    await store.put(REMOTE_MARKER_NAME, Buffer.from(text))
    await expect(claimRemote(store, MINE, FRESH)).rejects.toMatchObject({ code: 'InvalidRequest' })
    expect((await store.get(REMOTE_MARKER_NAME, 1000))?.bytes.toString()).toBe(text)
  },
)

test('a marker of a newer Tidegate is named as such', async () => {
  await store.put(REMOTE_MARKER_NAME, Buffer.from('{"format":7}'))
  await expect(remoteHolder(store)).rejects.toThrow('of a newer Tidegate')
})

const FALLBACK = { namespace: ID('f'), nowMs: 6 }

test('the marker says of each holder that a restore made what it began with, newest first', async () => {
  await claimRemote(store, MINE, FRESH)
  await takeOverRemote(store, ID('8'), FALLBACK, { from: MINE.holder, backup: '20261122T063918Z-3fa9' })
  await takeOverRemote(store, ID('9'), { ...FALLBACK, nowMs: 7 }, { from: ID('8'), backup: undefined })
  expect(await remoteHistory(store)).toEqual({
    holder: ID('9'),
    origins: [
      { holder: ID('9'), from: ID('8'), backup: undefined, sinceMs: 7 },
      { holder: ID('8'), from: MINE.holder, backup: '20261122T063918Z-3fa9', sinceMs: 6 },
    ],
  })
})

test('a restore that is run again says what it takes now; when it took over stays', async () => {
  await claimRemote(store, MINE, FRESH)
  await takeOverRemote(store, ID('8'), FALLBACK, { from: MINE.holder, backup: undefined })
  const again = { ...FALLBACK, nowMs: 9 }
  await takeOverRemote(store, ID('8'), again, { from: ID('7'), backup: undefined })
  const { origins } = await remoteHistory(store)
  expect(origins).toEqual([{ holder: ID('8'), from: ID('7'), backup: undefined, sinceMs: 6 }])
})

test('a marker stays small however often its store is taken over, and is read by who knows no origins', async () => {
  await claimRemote(store, MINE, FRESH)
  for (let time = 1; time <= 40; time++) {
    const holder = time.toString(16).padStart(32, '0')
    await takeOverRemote(store, holder, FALLBACK, { from: ID('8'), backup: '20261122T063918Z-3fa9' })
  }
  const { holder, origins } = await remoteHistory(store)
  expect([holder, origins.length, origins[0]?.holder]).toEqual([(40).toString(16).padStart(32, '0'), 24, holder])
  expect((await store.get(REMOTE_MARKER_NAME, 4096))?.bytes.length).toBeLessThan(4096)
})

test.each([
  ['', []],
  [',"restored":7', []],
  [`,"restored":[null,{"holder":"x"},{"holder":"${ID('1')}","from":"${ID('2')}","backup":"../x"}]`, []],
  [
    `,"restored":[{},{"holder":"${ID('1')}","from":"${ID('2')}"}]`,
    [{ holder: ID('1'), from: ID('2'), backup: undefined, sinceMs: 0 }],
  ],
])('a marker without origins, or with strange ones, is read all the same: %s', async (rest, origins) => {
  const text = `{"format":1,"namespace":"${MINE.namespace}","holder":"${MINE.holder}","sinceMs":5${rest}}`
  await store.put(REMOTE_MARKER_NAME, Buffer.from(text))
  expect(await remoteHistory(store)).toEqual({ holder: MINE.holder, origins })
  await expect(checkRemote(store, MINE)).resolves.toBeUndefined()
})
