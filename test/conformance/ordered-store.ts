/**
 * What every ordered store promises (src/meta/ports.ts), as tests. An engine's own test file calls `testOrderedStore`
 * with a harness that makes stores of its kind.
 */
import { afterEach, describe, expect, test } from 'vitest'
import * as fc from 'fast-check'
import type { ByteString, Revision } from '../../src/common/ids.ts'
import type { Change, OrderedStore } from '../../src/meta/ports.ts'
import { anyPlan, expectSerial, runPlan } from './ordered-store-history.ts'
import { ALL, bytes, codeOf, key, put, rowTexts, text } from './ordered-store-rows.ts'
import type { CreateStore, OrderedStoreHarness } from './ordered-store-rows.ts'
import { testWatch } from './ordered-store-watch.ts'

export function testOrderedStore(name: string, harness: OrderedStoreHarness): void {
  afterEach(() => harness.dispose())

  for (const forceRetry of [false, true]) {
    describe(`${name}${forceRetry ? ', every function run twice (C1)' : ''}`, () => {
      const create: CreateStore = (options = {}) => harness.create({ forceRetry, ...options })
      testRows(create)
      testScans(create)
      testSerializability(create, harness)
      testLimits(create)
      testRevisions(create, harness)
      testCounters(create, harness)
      testWatch(create, harness)
    })
  }
}

function testRows(create: CreateStore): void {
  test('what was put is read back, and what was deleted is gone', async () => {
    const store = await create()
    await put(store, { a: '1', b: '', c: '3' })
    await store.transact(async (tx) => {
      tx.put(key('a'), bytes('2'))
      tx.delete(key('c'))
      tx.delete(key('never there'))
    })
    const values = await store.read((view) => view.getMany(['c', 'a', 'b', 'd', 'a'].map(key)))
    expect(values.map(text)).toEqual([undefined, '2', '', undefined, '2'])
    expect(text(await store.read((view) => view.get(key('a'))))).toBe('2')
    expect(await store.read((view) => view.get('' as ByteString))).toBeUndefined()
  })

  test('a transaction reads its own writes, and nobody else does before it is over', async () => {
    const store = await create()
    await put(store, { a: '1', b: '2', d: '4' })
    const committed = await store.transact(async (tx) => {
      tx.put(key('c'), bytes('3'))
      tx.put(key('a'), bytes('one'))
      tx.delete(key('b'))
      expect((await tx.getMany(['a', 'b', 'c'].map(key))).map(text)).toEqual(['one', undefined, '3'])
      return [rowTexts(await tx.scan(ALL, 10)), rowTexts(await tx.scan(ALL, 2, true))]
    })
    expect(committed.value).toEqual([
      ['a=one', 'c=3', 'd=4'],
      ['d=4', 'c=3'],
    ])
  })

  test('a transaction knows what it has written, and what was there before', async () => {
    const store = await create()
    await put(store, { a: '1', b: '2', c: '3' })
    await store.transact(async (tx) => {
      expect([...tx.writtenKeys()]).toEqual([])
      tx.put(key('a'), bytes('one'))
      tx.delete(key('b'))
      tx.put(key('d'), bytes('4'))
      tx.rewrite(key('c'), bytes('three'))
      expect([...tx.writtenKeys()].toSorted()).toEqual(['a', 'b', 'c', 'd'].map(key))
      const before = await Promise.all(['a', 'b', 'c', 'd'].map((name) => tx.before(key(name))))
      expect(before.map(text)).toEqual(['1', '2', '3', undefined])
    })
  })

  test('what the function throws is thrown, and nothing is written', async () => {
    const store = await create()
    const before = store.revision()
    const failing = store.transact(async (tx) => {
      tx.put(key('a'), bytes('1'))
      await tx.get(key('a'))
      throw new Error('changed my mind')
    })
    await expect(failing).rejects.toThrow('changed my mind')
    expect(store.revision()).toBe(before)
    expect(await store.read((view) => view.get(key('a')))).toBeUndefined()
  })

  test('a value stays as it was read, whatever is written later', async () => {
    const store = await create()
    for (const size of [1, 100, 5000, 70_000, 300_000]) {
      const old = 'x'.repeat(size)
      await put(store, { a: old })
      await store.flush()
      const got = await store.read((view) => view.get(key('a')))
      const [scanned] = await store.read((view) => view.scan(ALL, 1))
      for (let round = 0; round < 5; round++) {
        await put(store, { a: 'y'.repeat(size), [`other${round}`]: 'z'.repeat(size) })
        await store.flush()
        await store.read((view) => view.scan(ALL, 100))
      }
      expect(text(got) === old && text(scanned?.value) === old, `${size} bytes`).toBe(true)
    }
  })

  test('keys may be as long as the limit says, and longer ones are refused', async () => {
    const store = await create()
    const { keyBytesMax } = store.limits
    const longest = key('k'.repeat(keyBytesMax - 1))
    await store.transact(async (tx) => tx.put(longest, bytes('v')))
    await store.flush()
    expect(text(await store.read((view) => view.get(longest)))).toBe('v')
    const longer = `${longest}k` as ByteString
    expect(await codeOf(store.transact(async (tx) => tx.put(longer, bytes('v'))))).toBe('KeyTooLong')
    expect(await store.read((view) => view.get(longer))).toBeUndefined()
  })
}

function testScans(create: CreateStore): void {
  test('a scan is in byte order, starts inclusively and ends exclusively, in both directions', async () => {
    const store = await create()
    const names = ['a', 'a\0', 'a\0\0', 'a\x01', 'a-b', 'a/', 'a/x', 'a\x7f', 'a\x80', 'a\xff', 'a\xffz', 'b']
    await store.transact(async (tx) => {
      for (const name of names.toReversed()) tx.put(key(name), bytes('v'))
    })
    const range = { start: key('a\0'), end: key('a\xffz') }
    const expected = names.slice(1, 10).map(key)
    for (const state of ['visible', 'durable']) {
      if (state === 'durable') await store.flush()
      const scans = await store.read(async (view) => [
        await view.scan(range, 100),
        await view.scan(range, 100, true),
        await view.scan(range, 3),
        await view.scan(range, 3, true),
        await view.scan(range, 0),
        await view.scan({ start: range.end, end: range.start }, 10),
      ])
      const keys = scans.map((rows) => rows.map((row) => row.key))
      expect(keys, state).toEqual([
        expected,
        expected.toReversed(),
        expected.slice(0, 3),
        expected.toReversed().slice(0, 3),
        [],
        [],
      ])
    }
  })

  test('bounds of a scan may be longer than a key can be', async () => {
    const store = await create()
    const longest = key('m'.repeat(store.limits.keyBytesMax - 1))
    await store.transact(async (tx) => {
      for (const k of [key('a'), longest, key('z')]) tx.put(k, bytes('v'))
    })
    await store.flush()
    const behind = `${longest}\0` as ByteString
    const [after, before, afterReversed, beforeReversed] = await store.read(async (view) => [
      await view.scan({ start: behind, end: ALL.end }, 10),
      await view.scan({ start: ALL.start, end: behind }, 10),
      await view.scan({ start: behind, end: ALL.end }, 10, true),
      await view.scan({ start: ALL.start, end: behind }, 10, true),
    ])
    expect(after.map((row) => row.key)).toEqual([key('z')])
    expect(before.map((row) => row.key)).toEqual([key('a'), longest])
    expect(afterReversed.map((row) => row.key)).toEqual([key('z')])
    expect(beforeReversed.map((row) => row.key)).toEqual([longest, key('a')])
  })

  test('a scan skips many rows that were deleted but are not durably gone', async () => {
    const store = await create()
    const names = Array.from({ length: 300 }, (_, i) => `n${String(i).padStart(4, '0')}`)
    await store.transact(async (tx) => {
      for (const name of names) tx.put(key(name), bytes(name))
    })
    await store.flush()
    const found = await store.transact(async (tx) => {
      for (const name of names.slice(0, 290)) tx.delete(key(name))
      return [rowTexts(await tx.scan(ALL, 1)), rowTexts(await tx.scan(ALL, 1000)).length]
    })
    expect(found.value).toEqual([['n0290=n0290'], 10])
    expect(await store.read(async (view) => (await view.scan(ALL, 1, true)).length)).toBe(1)
  })

  test('scanMany is a scan of each range', async () => {
    const store = await create()
    await put(store, { a1: '', a2: '', b1: '', c1: '', c2: '', c3: '' })
    const ranges = ['a', 'x', 'c'].map((name) => ({ start: key(name), end: key(`${name}\xff`) }))
    const found = await store.read((view) => view.scanMany(ranges, 2))
    expect(found.map((rows) => rows.map((row) => row.key.slice(1)))).toEqual([['a1', 'a2'], [], ['c1', 'c2']])
  })
}

function testSerializability(create: CreateStore, harness: OrderedStoreHarness): void {
  test('C1: concurrent increments all count', async () => {
    const store = await create()
    const increment = (): Promise<unknown> =>
      store.transact(async (tx) => {
        const before = Number(text(await tx.get(key('n'))) ?? 0)
        tx.put(key('n'), bytes(String(before + 1)))
      })
    await Promise.all(Array.from({ length: 200 }, increment))
    expect(text(await store.read((view) => view.get(key('n'))))).toBe('200')
  })

  test('C1: of many who create what they found absent, one does', async () => {
    const store = await create()
    const createOnce = (_: unknown, i: number): Promise<boolean> =>
      store
        .transact(async (tx) => {
          if ((await tx.get(key('only'))) !== undefined) return false
          tx.put(key('only'), bytes(String(i)))
          return true
        })
        .then((committed) => committed.value)
    const outcomes = await Promise.all(Array.from({ length: 50 }, createOnce))
    expect(outcomes.filter(Boolean)).toHaveLength(1)
  })

  test('C1: no write skew, over rows and over rows that are absent', async () => {
    const store = await create()
    await put(store, { alice: 'on call', bob: 'on call' })
    const leave = (who: string): Promise<unknown> =>
      store.transact(async (tx) => {
        const others = await tx.getMany(['alice', 'bob'].map(key))
        if (others.filter((value) => value !== undefined).length > 1) tx.delete(key(who))
      })
    await Promise.all([leave('alice'), leave('bob')])
    expect(await store.read((view) => view.scan(ALL, 10))).toHaveLength(1)
  })

  test('C1: no phantoms: of many who write into a range they found empty, one does', async () => {
    const store = await create()
    await put(store, { before: '', zzz: '' })
    const range = { start: key('r'), end: key('s') }
    const claim = (_: unknown, i: number): Promise<unknown> =>
      store.transact(async (tx) => {
        const reverse = i % 2 === 1
        if ((await tx.scan(range, 1, reverse)).length === 0) tx.put(key(`r${i}`), bytes('mine'))
      })
    await Promise.all(Array.from({ length: 50 }, claim))
    expect(await store.read((view) => view.scan(range, 100))).toHaveLength(1)
  })

  test('C1: random transactions and reads at once are as if they had run in the order of their revisions', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyPlan, { maxLength: 40 }), async (plans) => {
        const store = await create()
        const runs = await Promise.all(plans.map((plan, i) => runPlan(store, plan, i)))
        expectSerial(runs, harness)
        await store.drain()
        await store.stop()
      }),
      { numRuns: 40, endOnFailure: true },
    )
  })
}

function testLimits(create: CreateStore): void {
  const putMany = (store: OrderedStore, count: number, value: Uint8Array): Promise<unknown> =>
    store.transact(async (tx) => {
      for (let i = 0; i < count; i++) tx.put(key(`k${i}`), value)
    })

  test('C2: 128 operations pass and 129 are refused, before anything is written', async () => {
    const store = await create({ operationsMax: 128 })
    expect(store.limits.operationsMax).toBe(128)
    expect(await codeOf(putMany(store, 129, bytes('v')))).toBe('TransactionTooLarge')
    expect(await store.read((view) => view.scan(ALL, 1))).toEqual([])
    await putMany(store, 128, bytes('v'))
    expect(await store.read((view) => view.scan(ALL, 1000))).toHaveLength(128)
    const mixed = store.transact(async (tx) => {
      for (let i = 0; i < 64; i++) tx.delete(key(`k${i}`))
      for (let i = 0; i < 65; i++) tx.add(key(`c${i}`), [1])
    })
    expect(await codeOf(mixed)).toBe('TransactionTooLarge')
    expect(await store.read((view) => view.scan(ALL, 1000))).toHaveLength(128)
  })

  test('C2: 1.4 MiB pass and more is refused, before anything is written', async () => {
    const bytesMax = Math.floor(1.4 * 1024 * 1024)
    const store = await create({ bytesMax })
    const room = bytesMax - key('k0').length
    expect(await codeOf(putMany(store, 1, Buffer.alloc(room + 1)))).toBe('TransactionTooLarge')
    expect(await store.read((view) => view.scan(ALL, 1))).toEqual([])
    await putMany(store, 1, Buffer.alloc(room))
    await store.flush()
    expect((await store.read((view) => view.get(key('k0'))))?.length).toBe(room)
  })

  test('C2: a function that swallows the refusal commits nothing all the same', async () => {
    const store = await create({ operationsMax: 2 })
    const swallowing = store.transact(async (tx) => {
      try {
        for (let i = 0; i < 3; i++) tx.put(key(`k${i}`), bytes('v'))
      } catch {
        tx.delete(key('k2'))
      }
    })
    expect(await codeOf(swallowing)).toBe('TransactionTooLarge')
    expect(await store.read((view) => view.scan(ALL, 1))).toEqual([])
  })
}

function testRevisions(create: CreateStore, harness: OrderedStoreHarness): void {
  test('C3: revisions grow with every commit that wrote, and only then', async () => {
    const store = await create()
    expect(store.revision()).toBe(0)
    let last = 0
    for (let i = 0; i < 20; i++) {
      const committed = await store.transact(async (tx) => {
        expect(tx.revision).toBe(last)
        tx.put(key('a'), bytes(String(i)))
      })
      expect(Number.isSafeInteger(committed.revision)).toBe(true)
      expect(committed.revision).toBeGreaterThan(last)
      last = committed.revision
      expect(store.revision()).toBe(last)
      const idle = await store.transact((tx) => tx.get(key('a')))
      expect(idle.revision).toBe(last)
      expect(await store.read(async (view) => view.revision)).toBe(last)
    }
    await store.flush()
    expect(store.durableRevision()).toBe(last)
  })

  test('C3: a row that is stamped holds the revision of its commit, for every reader and whatever is written with it', async () => {
    const store = await create()
    const stampOf = (row: Uint8Array | undefined): number => Number(Buffer.from(row!).readBigUInt64BE(2))
    const stamped = (name: string): Promise<{ revision: Revision }> =>
      store.transact(async (tx) => {
        tx.put(key(name), Buffer.from('ab________cd'), 2)
        tx.rewrite(key(`${name}2`), Buffer.from('ab________'), 2)
        tx.put(key(`${name}3`), Buffer.from('ab________'), 2)
        tx.put(key(`${name}3`), bytes('not any more'))
      })
    const commits = await Promise.all(['a', 'b', 'c'].map(stamped))
    const readThenCopied = await store.transact(async (tx) => {
      const row = await tx.get(key('a'))
      tx.put(key('copy'), row!)
      return stampOf(row)
    })
    expect(readThenCopied.value).toBe(commits[0]!.revision)
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
      const rows = await store.read((view) => view.getMany([name, `${name}2`, `${name}3`, 'copy'].map(key)))
      expect(rows.slice(0, 2).map(stampOf)).toEqual([commits[i]!.revision, commits[i]!.revision])
      expect(text(rows[0])).toMatch(/^ab.{8}cd$/s)
      expect(text(rows[2])).toBe('not any more')
      expect(stampOf(rows[3])).toBe(commits[0]!.revision)
    }
    const [change] = await changesFrom(store, commits[0]!.revision)
    expect(stampOf(change!.rows.find((row) => row.key === key('a'))!.value)).toBe(commits[0]!.revision)
  })

  test('what is durable is there after reopening, and revisions go on growing (C3)', async () => {
    let store = await create()
    let last = 0
    for (let round = 0; round < 3; round++) {
      const committed = await store.transact(async (tx) => tx.put(key(`r${round}`), bytes('v')))
      await committed.durable
      expect(store.durableRevision()).toBeGreaterThanOrEqual(committed.revision)
      expect(committed.revision).toBeGreaterThan(last)
      last = committed.revision
      store = await harness.reopen(store)
      expect(store.revision()).toBe(last)
      expect(await store.read((view) => view.scan(ALL, 10))).toHaveLength(round + 1)
    }
  })

  test('drained, everything acknowledged is durable and new work is refused', async () => {
    const store = await create()
    const pending = Array.from({ length: 30 }, (_, i) => put(store, { [`k${i}`]: 'v' }))
    const draining = store.drain()
    expect(await codeOf(store.read((view) => view.get(key('a'))))).toBe('Unavailable')
    await draining
    await Promise.all(pending)
    expect(store.durableRevision()).toBe(store.revision())
    const reopened = await harness.reopen(store)
    expect(await reopened.read((view) => view.scan(ALL, 100))).toHaveLength(30)
  })
}

/** The first change from a revision on. */
async function changesFrom(store: OrderedStore, from: Revision): Promise<Change[]> {
  const abort = new AbortController()
  for await (const change of store.watch(key(''), from, abort.signal)) return [change]
  return []
}

function testCounters(create: CreateStore, harness: OrderedStoreHarness): void {
  test('C8: counters add up, from many at once, below zero, and across reopening', async () => {
    let store = await create()
    const at = key('usage')
    const add = (...deltas: number[]): Promise<unknown> => store.transact(async (tx) => tx.add(at, deltas))
    expect(await store.read((view) => view.counters(at, 3))).toEqual([0, 0, 0])
    await Promise.all(Array.from({ length: 50 }, (_, i) => add(1, -i, 2 ** 40)))
    const expected = [50, -1225, 50 * 2 ** 40]
    expect(await store.read((view) => view.counters(at, 3))).toEqual(expected)
    await store.flush()
    store = await harness.reopen(store)
    expect(await store.read((view) => view.counters(at, 3))).toEqual(expected)
    await add(-51, 1225, -50 * 2 ** 40)
    expect(await store.read((view) => view.counters(at, 3))).toEqual([-1, 0, 0])
  })

  test('a transaction sees what it added itself, and a deleted row starts at 0', async () => {
    const store = await create()
    const committed = await store.transact(async (tx) => {
      tx.add(key('n'), [5, Number.MAX_SAFE_INTEGER])
      tx.add(key('n'), [1, -1])
      const first = await tx.counters(key('n'), 2)
      tx.delete(key('n'))
      tx.add(key('n'), [7, Number.MIN_SAFE_INTEGER])
      return [first, await tx.counters(key('n'), 2)]
    })
    const expected = [
      [6, Number.MAX_SAFE_INTEGER - 1],
      [7, Number.MIN_SAFE_INTEGER],
    ]
    expect(committed.value).toEqual(expected)
    expect(await store.read((view) => view.counters(key('n'), 2))).toEqual(expected[1])
  })
}
