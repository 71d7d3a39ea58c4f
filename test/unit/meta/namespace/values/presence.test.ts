import { afterEach, describe, expect, test } from 'vitest'
import type { ByteString } from '../../../../../src/common/ids.ts'
import { Random, randomKey, testSeed } from '../../../../model/random.ts'
import { fixture, type Fixture } from '../fixture.ts'
import { STORES } from './stores.ts'

const SEED = testSeed()
const open: Fixture[] = []

afterEach(async () => {
  for (const made of open.splice(0)) await made.stop()
})

async function begun(making: Promise<Fixture>): Promise<Fixture> {
  const made = await making
  open.push(made)
  await made.bucket('box')
  return made
}

describe.each(STORES)(`presence over %s (seed ${SEED})`, (_name, begin) => {
  test('random odd keys, in order, against a set', async () => {
    const random = new Random(SEED)
    const made = await begun(begin({ forceRetry: true }))
    const there = new Set<string>()
    for (let i = 0; i < 300; i++) {
      const key = randomKey(random)
      await made.put('box', key)
      there.add(key)
    }
    for (let i = 0; i < 20; i++) {
      const keys = Array.from({ length: random.below(600) }, () =>
        random.chance(0.5) ? random.pick([...there]) : randomKey(random),
      )
      const expected = keys.map((key) => there.has(key))
      const found = await made.namespace.presence('box', keys, false)
      expect(found).toEqual({ present: expected, revision: made.namespace.revision() })
    }
  })
})

test('what has expired, a directory and a deleted key are not present', async () => {
  const made = await begun(fixture())
  await made.namespace.setVersioning('box', 'enabled')
  await made.put('box', 'a/b')
  await made.put('box', 'gone')
  await made.remove('box', 'gone')
  await made.put('box', 'short', { ttlMs: 10 })
  const keys = ['a', 'a/', 'a/b', 'a/b/', 'a/b/c', 'gone', 'short']
  expect((await made.namespace.presence('box', keys, false)).present).toEqual([
    false,
    false,
    true,
    false,
    false,
    false,
    true,
  ])
  made.clock.ms += 10
  expect((await made.namespace.presence('box', ['short'], false)).present).toEqual([false])
})

test('leading: the answer ends with the first that is absent', async () => {
  const made = await begun(fixture())
  const keys = Array.from({ length: 1000 }, (_, i) => `chain/${i}`)
  await Promise.all(keys.slice(0, 600).map((key) => made.put('box', key)))
  const { present } = await made.namespace.presence('box', keys, true)
  expect(present.length).toBe(601)
  expect(present.indexOf(false)).toBe(600)
  expect((await made.namespace.presence('box', keys.slice(0, 600), true)).present).toHaveLength(600)
  expect((await made.namespace.presence('box', [], true)).present).toEqual([])
})

test('keys are checked, and the bucket', async () => {
  const made = await begun(fixture())
  const { presence } = made.namespace
  await expect(presence('box', ['a', ''], false)).rejects.toMatchObject({ code: 'InvalidKey' })
  await expect(presence('box', ['x'.repeat(1025)], false)).rejects.toMatchObject({ code: 'KeyTooLong' })
  await expect(presence('none', ['a'], false)).rejects.toMatchObject({ code: 'NoSuchBucket' })
})

test('10,000 keys of one directory cost one look-up of it, and a batch a window', async () => {
  const made = await begun(fixture())
  const keys = Array.from({ length: 10_000 }, (_, i) => `model/layer/${i}`)
  await Promise.all(keys.slice(0, 5000).map((key) => made.put('box', key)))
  const asked: (readonly ByteString[])[] = []
  const read = made.store.read.bind(made.store)
  made.store.read = (reading) =>
    read((view) =>
      reading({
        revision: view.revision,
        provisional: view.provisional,
        get: (key) => view.get(key),
        getMany: (rows) => {
          asked.push(rows)
          return view.getMany(rows)
        },
        counters: (key, width) => view.counters(key, width),
        scan: (...rest) => view.scan(...rest),
        scanMany: (...rest) => view.scanMany(...rest),
      }),
    )
  const { present } = await made.namespace.presence('box', keys, false)
  expect(present.filter(Boolean)).toHaveLength(5000)
  expect(asked.length).toBeLessThanOrEqual(2 + Math.ceil(10_000 / 256))
  expect(asked.flat()).toHaveLength(10_002)
})
