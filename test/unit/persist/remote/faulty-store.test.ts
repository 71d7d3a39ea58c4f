import { beforeEach, describe, expect, it } from 'vitest'
import { FaultyStore, type RemoteFault } from '../../../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../../../src/persist/remote/memory-store.ts'
import { HandClock, turn } from '../../../conformance/hand-clock.ts'
import { Random } from '../../../model/random.ts'
import { newFileSystem } from '../fixtures.ts'

let clock: HandClock
let inner: MemoryStore
let store: FaultyStore
beforeEach(async () => {
  const random = new Random(7)
  clock = new HandClock()
  inner = new MemoryStore({ clock, fileSystem: newFileSystem() })
  store = new FaultyStore(inner, { clock, random: () => random.next() })
  await store.put('there', Buffer.from('0123456789'))
})

describe('a fault at the n-th call', () => {
  it.each([
    ['unavailable', 'Unavailable', 503, false],
    ['slow-down', 'SlowDown', 503, false],
    ['denied', 'AccessDenied', 403, false],
    ['conflict', 'Unavailable', 409, false],
    ['precondition', 'PreconditionFailed', 412, false],
    ['torn', 'Unavailable', undefined, false],
    ['lost-acknowledgement', 'Unavailable', undefined, true],
  ] as const)('%s', async (kind, code, status, isDone) => {
    store.failNth('put', 2, kind)
    await store.put('first', Buffer.from('x'))
    await expect(store.put('second', Buffer.from('x'))).rejects.toMatchObject({
      code,
      ...(status === undefined ? {} : { details: { status } }),
    })
    await store.put('third', Buffer.from('x'))
    expect(inner.objects.has('second')).toBe(isDone)
    expect(store.calls('put')).toBe(4)
    expect(store.failures).toBe(1)
  })

  it('counts each method for itself, and each plan for itself', async () => {
    store.failNth('get', 1, 'unavailable')
    store.failNth('get', 2, 'denied')
    await store.stat('there')
    await expect(store.get('there', 10)).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(store.get('there', 10)).rejects.toMatchObject({ code: 'AccessDenied' })
    expect((await store.get('there', 10))?.bytes.toString()).toBe('0123456789')
  })
})

it('a torn read leaves scribbles in the buffers', async () => {
  store.failNth('read', 1, 'torn')
  const buffers = [Buffer.alloc(4), Buffer.alloc(4)]
  await expect(store.read('there', 0, buffers)).rejects.toMatchObject({ code: 'Unavailable' })
  expect(buffers[0]).toEqual(Buffer.alloc(4, 0xa5))
  expect(await store.read('there', 0, buffers)).toBe(8)
  expect(Buffer.concat(buffers).toString()).toBe('01234567')
})

it('is down, and has its credentials revoked, until it is switched back', async () => {
  store.faults.down = true
  for (const call of [store.connect(), store.get('there', 10), store.list('', undefined, 1), store.abandonUploads(0)]) {
    await expect(call).rejects.toMatchObject({ code: 'Unavailable', details: { status: 503 } })
  }
  store.faults.down = false
  store.faults.revoked = true
  await expect(store.stat('there')).rejects.toMatchObject({ code: 'AccessDenied' })
  store.faults.revoked = false
  expect(await store.stat('there')).toBeDefined()
})

it('fails at random in the share that it is told, the same for the same seed', async () => {
  const run = async (): Promise<string[]> => {
    const random = new Random(42)
    const faulty = new FaultyStore(inner, { clock, random: () => random.next() })
    faulty.faults.chance = 0.3
    faulty.faults.chanceKinds = ['unavailable', 'slow-down'] satisfies RemoteFault[]
    const outcomes: string[] = []
    for (let call = 0; call < 1000; call++) {
      outcomes.push(
        await faulty.stat('there').then(
          () => 'fine',
          (error: { code: string }) => error.code,
        ),
      )
    }
    return outcomes
  }
  const outcomes = await run()
  const share = outcomes.filter((outcome) => outcome !== 'fine').length / 1000
  expect(share).toBeGreaterThan(0.25)
  expect(share).toBeLessThan(0.35)
  expect(new Set(outcomes)).toEqual(new Set(['fine', 'Unavailable', 'SlowDown']))
  expect(await run()).toEqual(outcomes)
})

it('is slow by the clock that it was given', async () => {
  store.faults.latencyMs = () => 2_000
  let isDone = false
  const done = store.stat('there').then(() => (isDone = true))
  await clock.advance(1_999)
  expect(isDone).toBe(false)
  await clock.advance(1)
  await turn()
  await done
  expect(isDone).toBe(true)
})
