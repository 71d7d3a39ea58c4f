import { expect, test } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import { DecodedCache, type CommitEvents, type Fill } from '../../../../src/meta/namespace/decoded-cache.ts'
import { createMemoryStore } from '../../../../src/meta/memory/memory-store.ts'
import type { OrderedStore } from '../../../../src/meta/ports.ts'
import { fixture } from './fixture.ts'

const KEY = 'key' as ByteString
const RECORD = { kind: 'directory', inode: 1 } as const

function eventful(): {
  store: OrderedStore & CommitEvents
  commit: (keys: readonly ByteString[]) => void
  rollback: () => void
} {
  let commit: (keys: readonly ByteString[]) => void = () => {}
  let rollback: () => void = () => {}
  const store = Object.assign(createMemoryStore(), {
    onCommit: (listener: typeof commit) => {
      commit = listener
      return () => {}
    },
    onRollback: (listener: typeof rollback) => {
      rollback = listener
      return () => {}
    },
  })
  return { store, commit: (keys) => commit(keys), rollback: () => rollback() }
}

const DURABLE = { provisional: false }

test('what was read before it was durable is not kept', () => {
  const cache = new DecodedCache(eventful().store, 1_000_000)
  cache.put(KEY, RECORD, { recordBytes: 1, fill: cache.beginFill({ provisional: true }) })
  expect(cache.get(KEY)).toBeUndefined()
  cache.put(KEY, RECORD, { recordBytes: 1, fill: cache.beginFill(DURABLE) })
  expect(cache.get(KEY)).toBe(RECORD)
})

test('a row read before it was written again is not kept', () => {
  const { store, commit, rollback } = eventful()
  const cache = new DecodedCache(store, 1_000_000)
  const put = (fill: Fill): void => cache.put(KEY, RECORD, { recordBytes: 1, fill })
  const early = cache.beginFill(DURABLE)
  commit(['other' as ByteString])
  put(early)
  expect(cache.get(KEY)).toBe(RECORD)
  commit([KEY])
  expect(cache.get(KEY)).toBeUndefined()
  put(early)
  expect(cache.get(KEY)).toBeUndefined()
  put(cache.beginFill(DURABLE))
  expect(cache.get(KEY)).toBe(RECORD)
  const beforeRollback = cache.beginFill(DURABLE)
  rollback()
  put(beforeRollback)
  expect(cache.get(KEY)).toBeUndefined()
})

test('bounded by bytes; what is used stays longer', () => {
  const { store } = eventful()
  const cache = new DecodedCache(store, 50_000)
  const put = (key: string): void =>
    cache.put(key as ByteString, RECORD, { recordBytes: 100, fill: cache.beginFill(DURABLE) })
  put('hot')
  for (let i = 0; i < 500; i++) {
    put(`key ${i}`)
    if (i % 20 === 0) expect(cache.get('hot' as ByteString)).toBe(RECORD)
  }
  expect(cache.bytes).toBeLessThanOrEqual(50_000)
  expect(cache.get('key 0' as ByteString)).toBeUndefined()
})

test('commits that are undone are not answered from the cache', async () => {
  const backend = new MemoryBackend()
  const made = await fixture({ backend })
  await made.bucket('box')
  await made.put('box', 'k', { bytes: 'old' })
  await made.namespace.flush()
  expect((await made.namespace.lookup('box', 'k')).size).toBe(3)
  const commit = backend.commit.bind(backend)
  backend.commit = () => Promise.reject(new Error('no room'))
  const failed = await made.namespace.publish({
    ...(await made.namespace.lookup('box', 'k')),
    body: { kind: 'inline', bytes: Buffer.from('newer') },
    size: 5,
    conditions: {},
    ack: 'journal',
  })
  await expect(failed.durable).rejects.toMatchObject({ code: 'Unavailable' })
  backend.commit = commit
  expect((await made.namespace.lookup('box', 'k')).size).toBe(3)
  expect((await made.namespace.lookup('box', 'k')).size).toBe(3)
  await made.stop()
})

test('a way counts while every row on it is here, and goes with the last one', () => {
  const { store, commit, rollback } = eventful()
  const cache = new DecodedCache(store, 1_000_000)
  const [first, last] = ['first', 'last'] as ByteString[] as [ByteString, ByteString]
  const fill = (): void => {
    for (const key of [first, last]) cache.put(key, RECORD, { recordBytes: 1, fill: cache.beginFill(DURABLE) })
    cache.keepWay('way', [first, last])
  }
  cache.keepWay('way', [first, last])
  expect(cache.way('way')).toBeUndefined()
  for (const drop of [() => commit([first]), () => commit([last]), rollback]) {
    fill()
    expect(cache.way('way')).toEqual([RECORD, RECORD])
    drop()
    expect(cache.way('way')).toBeUndefined()
  }
  fill()
  cache.keepWay('other', [first, last])
  expect(cache.way('way')).toBeUndefined()
  expect(cache.way('other')).toEqual([RECORD, RECORD])
})
