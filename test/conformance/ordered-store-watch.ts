/** The part of the conformance suite about `watch`. */
import { expect, test } from 'vitest'
import { isTidegateError } from '../../src/common/errors.ts'
import type { ByteString, Revision } from '../../src/common/ids.ts'
import type { Change, OrderedStore } from '../../src/meta/ports.ts'
import { bytes, key, put, text, type CreateStore, type OrderedStoreHarness } from './ordered-store-rows.ts'

interface Seen {
  readonly revision: Revision
  readonly rows: readonly string[]
}

function seen(change: Change): Seen {
  const shown = ({ key: k, value, deleted }: Change['rows'][number]): string =>
    `${k.slice(1)}${deleted ? ' deleted' : `=${text(value)}`}`
  return { revision: change.revision, rows: change.rows.map(shown).sort() }
}

/** The first `count` changes from `from` on. */
async function take(store: OrderedStore, from: Revision, count: number, prefix = key('')): Promise<Seen[]> {
  const changes: Seen[] = []
  const abort = new AbortController()
  for await (const change of store.watch(prefix, from, abort.signal)) {
    changes.push(seen(change))
    if (changes.length === count) abort.abort()
  }
  return changes
}

export function testWatch(create: CreateStore, harness: OrderedStoreHarness): void {
  test('watch shows every revision once, in order, first those of the past and then live', async () => {
    const store = await create()
    const revisions: Revision[] = []
    for (let i = 0; i < 10; i++) revisions.push(await put(store, { [`k${i}`]: String(i) }))
    const watching = take(store, revisions[3]!, 20)
    for (let i = 10; i < 23; i++) revisions.push(await put(store, { [`k${i}`]: String(i) }))
    const expected = revisions.slice(3).map((revision, i) => ({ revision, rows: [`k${i + 3}=${i + 3}`] }))
    expect(await watching).toEqual(expected)
    expect(await take(store, revisions[15]!, 3)).toEqual(expected.slice(12, 15))
  })

  test('watch shows all that one revision changed under the prefix, deleted rows as deleted', async () => {
    const store = await create()
    await put(store, { a1: 'x', b1: 'x' })
    const committed = await store.transact(async (tx) => {
      tx.put(key('a2'), bytes('new'))
      tx.delete(key('a1'))
      tx.put(key('b2'), bytes('elsewhere'))
      tx.put(key('a3'), bytes(''))
    })
    const [change] = await take(store, committed.revision, 1, key('a'))
    expect(change).toEqual({ revision: committed.revision, rows: ['a1 deleted', 'a2=new', 'a3='] })
  })

  test('watch leaves out counters, and values too large to be logged', async () => {
    const store = await create({ loggedValueBytesMax: 4 })
    await store.transact(async (tx) => tx.add(key('c'), [1]))
    await store.transact(async (tx) => {
      tx.add(key('c'), [1])
      tx.put(key('large'), bytes('12345'))
      tx.put(key('small'), bytes('1234'))
    })
    expect((await take(store, 0, 1))[0]?.rows).toEqual(['large=undefined', 'small=1234'])
  })

  test('watch resumes across reopening', async () => {
    let store = await create()
    const first = await put(store, { a: '1' })
    await store.flush()
    store = await harness.reopen(store)
    const second = await put(store, { b: '2' })
    expect(await take(store, first, 2)).toEqual([
      { revision: first, rows: ['a=1'] },
      { revision: second, rows: ['b=2'] },
    ])
  })

  test('C7: what is no longer kept is RevisionGone, and at least the stated revisions are kept', async () => {
    const store = await create({ changeLogRevisionsMax: 20 })
    const revisions: Revision[] = []
    for (let i = 0; i < 60; i++) {
      revisions.push(await put(store, { k: String(i) }))
      await store.flush()
    }
    const error: unknown = await take(store, revisions[0]!, 1).catch((reason: unknown) => reason)
    expect(isTidegateError(error, 'RevisionGone'), String(error)).toBe(true)
    const kept = revisions.slice(-20)
    expect((await take(store, kept[0]!, 20)).map((change) => change.revision)).toEqual(kept)
  })

  test('watch ends after the revision it was to go through', async () => {
    const store = await create()
    const first = await put(store, { a: '1' })
    const second = await put(store, { a: '2' })
    await put(store, { a: '3' })
    await store.flush()
    const { signal } = new AbortController()
    const revisions = async (from: Revision, through: Revision): Promise<Revision[]> => {
      const shown: Revision[] = []
      for await (const change of store.watch(key(''), from, signal, { through })) shown.push(change.revision)
      return shown
    }
    expect(await revisions(1, second)).toEqual([first, second])
    expect(await revisions(second, second)).toEqual([second])
    expect(await revisions(second + 1, second)).toEqual([])
    expect(await revisions(1, store.durableRevision())).toHaveLength(3)
  })

  test('watch says how far it has come, also when nothing concerned it', async () => {
    const store = await create()
    const first = await put(store, { a: '1' })
    await store.flush()
    const shown: string[] = []
    const abort = new AbortController()
    const watching = (async (): Promise<void> => {
      for await (const { revision, rows } of store.watch(key('a'), 1, abort.signal, { progress: true }))
        shown.push(`${rows.length > 0 ? 'changed' : 'through'} ${revision}`)
    })()
    await new Promise(setImmediate)
    expect(shown).toEqual([`changed ${first}`, `through ${first}`])
    const other = await put(store, { b: '1' })
    await store.flush()
    await new Promise(setImmediate)
    expect(shown.slice(2)).toEqual([`through ${other}`])
    abort.abort()
    await watching
  })

  test('an aborted watch ends, waiting or not', async () => {
    const store = await create()
    await put(store, { a: '1' })
    const abort = new AbortController()
    const changes: Change[] = []
    const watching = (async (): Promise<void> => {
      for await (const change of store.watch(key(''), 0, abort.signal)) changes.push(change)
    })()
    await put(store, { b: '1' })
    await store.flush()
    await new Promise(setImmediate)
    abort.abort()
    await watching
    expect(changes).toHaveLength(2)
    for await (const _ of store.watch('' as ByteString, 0, abort.signal)) expect.unreachable()
  })
}
