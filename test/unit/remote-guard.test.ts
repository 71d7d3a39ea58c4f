import { beforeEach, expect, test } from 'vitest'
import { takeOverRemote, claimRemote } from '../../src/persist/remote-marker.ts'
import { FaultyStore } from '../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../src/persist/remote/memory-store.ts'
import { RemoteGuard } from '../../src/remote-guard.ts'
import { HandClock } from '../conformance/hand-clock.ts'
import { newFileSystem } from './persist/fixtures.ts'

const MINE = { namespace: 'a'.repeat(32), holder: '1'.repeat(32) }
let clock: HandClock
let faulty: FaultyStore
let fenced: Error[]
let guard: RemoteGuard

beforeEach(async () => {
  clock = new HandClock()
  const store = new MemoryStore({ clock, fileSystem: newFileSystem() })
  faulty = new FaultyStore(store, { clock, random: () => 0 })
  fenced = []
  await claimRemote(store, MINE, { nowMs: 0, unmarkedIsOurs: false })
  guard = new RemoteGuard({ remote: faulty, claim: MINE, clock, onFenced: (error) => fenced.push(error) })
})

test('what was seen to be ours once may receive; removing asks anew once the answer is old', async () => {
  await Promise.all([guard.verified(), guard.verified()])
  await guard.verified()
  await guard.verifiedNow()
  expect(faulty.calls('get')).toBe(1)
  await clock.advance(10_000)
  await guard.verified()
  expect(faulty.calls('get')).toBe(1)
  await guard.verifiedNow()
  expect(faulty.calls('get')).toBe(2)
})

test('a store that does not answer holds back, fences nobody, and is asked again', async () => {
  faulty.faults.down = true
  await expect(guard.verified()).rejects.toMatchObject({ code: 'Unavailable' })
  faulty.faults.down = false
  await guard.verified()
  expect(fenced).toEqual([])
})

test('who was taken over is told once, and does nothing more', async () => {
  await guard.verified()
  await takeOverRemote(faulty, '2'.repeat(32), { namespace: MINE.namespace, nowMs: 1 })
  await clock.advance(10_000)
  await expect(guard.verifiedNow()).rejects.toThrow('taken over')
  await expect(guard.verified()).rejects.toThrow('taken over')
  await expect(guard.job.round()).rejects.toThrow('taken over')
  expect(fenced).toHaveLength(1)
})

test('C17: to look afresh is to ask after the call, whatever is under way; those who wait at once share one', async () => {
  await guard.verified()
  expect(faulty.calls('get')).toBe(1)
  await Promise.all([guard.verifiedAfresh(), guard.verifiedAfresh()])
  expect(faulty.calls('get')).toBe(2)
  // One is under way, answered before the takeover, and its answer takes its time.
  const get = faulty.get.bind(faulty)
  const late = Promise.withResolvers<void>()
  faulty.get = async (...request) => {
    const answer = await get(...request)
    await late.promise
    return answer
  }
  const underWay = guard.job.round()
  await new Promise((resolve) => setImmediate(resolve))
  faulty.get = get
  await takeOverRemote(faulty, '2'.repeat(32), { namespace: MINE.namespace, nowMs: 1 })
  const looked = expect(guard.verifiedAfresh()).rejects.toThrow('taken over')
  late.resolve()
  await looked
  await underWay
})

test('the guard knows since when the store is held', async () => {
  expect(guard.sinceMs).toBeUndefined()
  await takeOverRemote(faulty, '2'.repeat(32), { namespace: MINE.namespace, nowMs: 77 })
  const claim = { ...MINE, holder: '2'.repeat(32) }
  const successor = new RemoteGuard({ remote: faulty, claim, clock, onFenced: (error) => fenced.push(error) })
  await successor.verified()
  expect(successor.sinceMs).toBe(77)
})
