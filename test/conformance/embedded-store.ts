/** What the stage of the embedded engines promises beyond the port: durability in groups, undoing, waiting, hooks. */
import { afterEach, describe, expect, test } from 'vitest'
import { AssertionFailed } from '../../src/common/assert.ts'
import { TidegateError } from '../../src/common/errors.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { SerialStage } from '../../src/meta/serial-stage.ts'
import type { KeyRange, Row } from '../../src/meta/ports.ts'
import type { StageOptions } from '../../src/meta/stage/options.ts'
import type { Backend, EmbeddedStore, RowChanges } from '../../src/meta/stage/ports.ts'
import { ALL, bytes, codeOf, key, put, rowTexts, text } from './ordered-store-rows.ts'
import { HandClock, turn } from './hand-clock.ts'

/** Passes everything on, holds commits back while closed, and fails them on demand. */
class GatedBackend implements Backend {
  readonly #inner: Backend
  readonly keyBytesMax: number
  #held: (() => void)[] | undefined
  failure: Error | undefined
  /** Rows of each commit that was begun since the store started. */
  readonly commits: number[] = []

  constructor(inner: Backend) {
    this.#inner = inner
    this.keyBytesMax = inner.keyBytesMax
  }

  open = (): Promise<void> => this.#inner.open()
  get = (k: ByteString): Uint8Array | undefined => this.#inner.get(k)
  scan = (range: KeyRange, limit: number, reverse: boolean): Row[] => this.#inner.scan(range, limit, reverse)
  keys = (range: KeyRange, limit: number): ByteString[] => this.#inner.keys(range, limit)
  close = (): Promise<void> => this.#inner.close()

  async commit(parts: readonly RowChanges[]): Promise<void> {
    this.commits.push(parts[0]!.size)
    if (this.#held !== undefined) await new Promise<void>((resolve) => this.#held!.push(resolve))
    if (this.failure !== undefined) throw this.failure
    await this.#inner.commit(parts)
  }

  hold(): void {
    this.#held = []
  }

  release(): void {
    const held = this.#held ?? []
    this.#held = undefined
    for (const resolve of held) resolve()
  }
}

export interface BackendHarness {
  create(): Promise<Backend>
  dispose(): Promise<void>
}

interface Setup {
  readonly store: EmbeddedStore
  readonly backend: GatedBackend
}

export function testEmbeddedStore(name: string, harness: BackendHarness): void {
  describe(name, () => {
    const stores: EmbeddedStore[] = []
    const setUp = async (options: StageOptions = {}): Promise<Setup> => {
      const backend = new GatedBackend(await harness.create())
      const store = new SerialStage(backend, options)
      await store.start()
      backend.commits.length = 0
      stores.push(store)
      return { store, backend }
    }
    afterEach(async () => {
      for (const store of stores.splice(0)) await store.stop()
      await harness.dispose()
    })
    testGroups(setUp)
    testDurableReads(setUp)
    testUndoing(setUp)
    testHooks(setUp)
    testWaiting(setUp)
  })
}

function testGroups(setUp: (options?: StageOptions) => Promise<Setup>): void {
  test('what waits while a group is synced shares the next sync, and is visible before', async () => {
    const { store, backend } = await setUp()
    backend.hold()
    const first = await store.transact(async (tx) => tx.put(key('a'), bytes('1')))
    await turn()
    for (let i = 0; i < 100; i++) await put(store, { [`k${i}`]: 'v', a: String(i) })
    const seen = await store.transact(async (tx) => [text(await tx.get(key('a'))), (await tx.scan(ALL, 1000)).length])
    expect(seen.value).toEqual(['99', 101])
    expect(store.durableRevision()).toBe(0)
    backend.release()
    await first.durable
    await store.flush()
    expect(backend.commits).toEqual([1, 101])
    expect(store.durableRevision()).toBe(store.revision())
  })

  test('transactions submitted at once share one sync', async () => {
    const { store, backend } = await setUp()
    await Promise.all(Array.from({ length: 64 }, (_, i) => put(store, { [`k${i}`]: 'v' })))
    await store.flush()
    expect(backend.commits).toEqual([64])
  })

  test('a transaction that wrote nothing is durable when what it read is', async () => {
    const { store, backend } = await setUp()
    backend.hold()
    await put(store, { a: '1' })
    const reader = await store.transact((tx) => tx.get(key('a')))
    let durable = false
    void reader.durable.then(() => (durable = true))
    await turn()
    expect(durable).toBe(false)
    backend.release()
    await reader.durable
  })

  test('a transaction that wrote nothing does not wait for a sync that what it read has nothing to do with', async () => {
    const { store, backend } = await setUp()
    await put(store, { a: '1' })
    await store.flush()
    backend.hold()
    await put(store, { b: '1' })
    const reader = await store.transact((tx) => tx.get(key('a')))
    await reader.durable
    expect(store.durableRevision()).toBeLessThan(store.revision())
    backend.release()
  })

  test('C3: a transaction reads at the revision before its own, also after others were undone', async () => {
    const { store, backend } = await setUp()
    backend.failure = new TidegateError('Unavailable', 'failed')
    const undone = await store.transact(async (tx) => tx.put(key('a'), bytes('1')))
    await expect(undone.durable).rejects.toMatchObject({ code: 'Unavailable' })
    backend.failure = undefined
    const next = await store.transact(async (tx) => {
      tx.put(key('a'), bytes('2'))
      return tx.revision
    })
    expect(next.revision).toBeGreaterThan(undone.revision)
    expect(next.value + 1).toBe(next.revision)
  })

  test('C15: a group is committed only after beforeCommit, begun once the group is closed', async () => {
    const order: string[] = []
    let release = (): void => {}
    const beforeCommit = (): Promise<void> => {
      order.push(`sync journal, ${backend.commits.length} commits begun`)
      return new Promise((resolve) => (release = resolve))
    }
    const { store, backend } = await setUp({ beforeCommit })
    await put(store, { a: '1' })
    await turn()
    const late = await store.transact(async (tx) => tx.put(key('late'), bytes('1')))
    expect(backend.commits).toEqual([])
    release()
    await turn()
    while (order.length < 2) await turn()
    expect(order).toEqual(['sync journal, 0 commits begun', 'sync journal, 1 commits begun'])
    release()
    await late.durable
    expect(backend.commits).toEqual([1, 1])
  })
}

/** Whether a promise settles within a few turns of the event loop. */
async function settlesSoon(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const settle = (): void => void (settled = true)
  promise.then(settle, settle)
  for (let i = 0; i < 10; i++) await turn()
  return settled
}

function testDurableReads(setUp: (options?: StageOptions) => Promise<Setup>): void {
  const range = (start: string, end: string): KeyRange => ({ start: key(start), end: key(end) })

  test('a read tells what it found when that is durable, and waits for nothing else', async () => {
    const { store, backend } = await setUp()
    await put(store, { a: '1', b: '1', z: '1' })
    await store.flush()
    backend.hold()
    await store.transact(async (tx) => {
      tx.put(key('a'), bytes('2'))
      tx.delete(key('b'))
    })
    const told: Promise<unknown>[] = [
      store.read((view) => view.get(key('a'))),
      store.read((view) => view.getMany([key('z'), key('b')])),
      store.read((view) => view.scan(range('b', 'c'), 10)),
      store.read((view) => view.scanMany([range('x', 'y'), range('a', 'b')], 10)),
      store.read(async (view) => {
        if ((await view.get(key('b'))) === undefined) throw new TidegateError('NoSuchKey', 'b is gone')
      }),
    ]
    for (const read of told) expect(await settlesSoon(read)).toBe(false)
    expect(text(await store.read((view) => view.get(key('z'))))).toBe('1')
    expect(await store.read((view) => view.get(key('never')))).toBeUndefined()
    expect(await store.read((view) => view.scan(range('c', 'zz'), 10))).toHaveLength(1)
    backend.release()
    expect(text((await told[0]) as Uint8Array)).toBe('2')
    expect(await told[1]).toEqual([bytes('1'), undefined])
    expect(await told[2]).toEqual([])
    expect(await told[3]).toHaveLength(2)
    expect(await codeOf(told[4]!)).toBe('NoSuchKey')
  })

  test('who asks for what is visible is told at once, of reads and of what a transaction throws', async () => {
    const { store, backend } = await setUp()
    backend.hold()
    await put(store, { a: '1' })
    const visible = { tell: 'visible' } as const
    expect(text(await store.read((view) => view.get(key('a')), visible))).toBe('1')
    const refused = store.transact(async (tx) => {
      if ((await tx.get(key('a'))) !== undefined) throw new TidegateError('FileExists', 'a exists')
    }, visible)
    expect(await codeOf(refused)).toBe('FileExists')
    expect(store.durableRevision()).toBeLessThan(store.revision())
    backend.release()
  })

  test('a read of what is undone is run again, and so is a transaction that threw because of it', async () => {
    const { store, backend } = await setUp()
    await put(store, { a: 'old' })
    await store.flush()
    backend.hold()
    await put(store, { a: 'new' })
    await turn()
    const read = store.read(async (view) => text(await view.get(key('a'))))
    const refused = store.transact(async (tx) => {
      if (text(await tx.get(key('a'))) !== 'old') throw new TidegateError('PreconditionFailed', 'a has changed')
      tx.put(key('b'), bytes('because a is old'))
    })
    expect(await settlesSoon(read)).toBe(false)
    expect(await settlesSoon(refused)).toBe(false)
    backend.failure = new Error('the disk is gone')
    backend.release()
    expect(await read).toBe('old')
    backend.failure = undefined
    await (
      await refused
    ).durable
    expect(text(await store.read((view) => view.get(key('b'))))).toBe('because a is old')
  })

  test('a read that waits for a sync is told its result though the store stops meanwhile', async () => {
    const { store, backend } = await setUp()
    backend.hold()
    await put(store, { a: '1' })
    const read = store.read((view) => view.get(key('a')))
    expect(await settlesSoon(read)).toBe(false)
    const stopping = store.stop()
    backend.release()
    await stopping
    expect(text(await read)).toBe('1')
  })
}

function testUndoing(setUp: (options?: StageOptions) => Promise<Setup>): void {
  test('a commit that fails undoes all that is not durable, and the store goes on', async () => {
    const { store, backend } = await setUp()
    await put(store, { kept: 'old', gone: 'here' })
    await store.flush()
    const durable = store.durableRevision()
    backend.hold()
    const failing = await store.transact(async (tx) => {
      tx.put(key('kept'), bytes('new'))
      tx.delete(key('gone'))
    })
    await turn()
    const later = await store.transact(async (tx) => tx.put(key('later'), (await tx.get(key('kept')))!))
    expect(rowTexts((await store.transact((tx) => tx.scan(ALL, 10))).value)).toEqual(['kept=new', 'later=new'])
    backend.failure = Object.assign(new Error('no space'), { code: 'ENOSPC' })
    backend.release()
    expect(await codeOf(failing.durable)).toBe('StorageFull')
    expect(await codeOf(later.durable)).toBe('StorageFull')
    expect(rowTexts(await store.read((view) => view.scan(ALL, 10)))).toEqual(['gone=here', 'kept=old'])
    expect([store.revision(), store.durableRevision()]).toEqual([durable, durable])

    backend.failure = undefined
    const again = await store.transact(async (tx) => tx.put(key('again'), bytes('1')))
    await again.durable
    expect(again.revision).toBeGreaterThan(later.revision)
    expect(rowTexts(await store.read((view) => view.scan(ALL, 10)))).toEqual(['again=1', 'gone=here', 'kept=old'])
  })

  test.each([
    ['StorageFull', new TidegateError('StorageFull', 'full')],
    ['Unavailable', new Error('input/output error')],
  ])('a failure is told as %s, from beforeCommit too', async (code, failure) => {
    let failing = true
    const { store, backend } = await setUp({
      beforeCommit: () => (failing ? Promise.reject(failure) : Promise.resolve()),
    })
    const committed = await store.transact(async (tx) => tx.put(key('a'), bytes('1')))
    expect(await codeOf(committed.durable)).toBe(code)
    expect(backend.commits).toEqual([])
    failing = false
    backend.failure = failure
    await put(store, { a: '2' })
    expect(await codeOf(store.flush())).toBe(code)
    expect(await store.read((view) => view.get(key('a')))).toBeUndefined()
  })

  test('a function that ran while what it read was undone is run again', async () => {
    const { store, backend } = await setUp()
    backend.hold()
    await put(store, { a: 'undone' })
    await turn()
    const reads: (string | undefined)[] = []
    const running = store.transact(async (tx) => {
      reads.push(text(await tx.get(key('a'))))
      // Breaks the rule to await only reads, so that the failure falls into the run.
      if (reads.length === 1) await turn().then(turn).then(turn)
      tx.put(key('copy'), bytes(String(text(await tx.get(key('a'))))))
    })
    backend.failure = new Error('input/output error')
    backend.release()
    await turn()
    backend.failure = undefined
    await (
      await running
    ).durable
    expect(reads).toEqual(['undone', undefined])
    expect(rowTexts(await store.read((view) => view.scan(ALL, 10)))).toEqual(['copy=undefined'])
  })

  test('a watcher is never told of what is undone', async () => {
    const { store, backend } = await setUp()
    const abort = new AbortController()
    const changes: string[] = []
    const watching = (async (): Promise<void> => {
      for await (const change of store.watch(key(''), 0, abort.signal)) changes.push(change.rows[0]!.key.slice(1))
    })()
    await put(store, { first: '1' })
    await store.flush()
    backend.failure = new Error('input/output error')
    await put(store, { undone: '1' })
    await store.flush().catch(() => {})
    backend.failure = undefined
    await put(store, { last: '1' })
    await store.flush()
    await turn()
    abort.abort()
    await watching
    expect(changes).toEqual(['first', 'last'])
  })
}

function testHooks(setUp: (options?: StageOptions) => Promise<Setup>): void {
  test('onCommit names the written keys when they become visible, onRollback says that they were undone', async () => {
    const { store, backend } = await setUp()
    const events: unknown[] = []
    const stopListening = store.onCommit((keys, rewritten) => {
      events.push(keys.toSorted())
      if (rewritten.size > 0) events.push({ rewritten: [...rewritten] })
    })
    store.onRollback(() => events.push('undone'))
    const submitted = store.transact(async (tx) => {
      tx.put(key('b'), bytes('1'))
      tx.delete(key('a'))
      tx.add(key('c'), [1])
    })
    const queued = store.read(async () => events.push('read'))
    await Promise.all([submitted, queued])
    expect(events).toEqual([['a', 'b', 'c'].map(key), 'read'])
    await store.read((view) => view.get(key('a')))
    await store.flush()
    backend.failure = new Error('input/output error')
    await put(store, { d: '1' })
    await store.flush().catch(() => {})
    expect(events.slice(2)).toEqual([[key('d')], 'undone'])
    stopListening()
    backend.failure = undefined
    await put(store, { e: '1' })
    expect(events).toHaveLength(4)
  })

  test('onCommit tells which rows were only rewritten: not those that were put or deleted as well', async () => {
    const { store } = await setUp()
    await put(store, { a: '1', b: '1', c: '1' })
    const told: unknown[] = []
    store.onCommit((keys, rewritten) => told.push(keys.toSorted(), [...rewritten]))
    await store.transact(async (tx) => {
      tx.rewrite(key('a'), bytes('2'))
      tx.put(key('b'), bytes('2'))
      tx.rewrite(key('b'), bytes('3'))
      tx.rewrite(key('c'), bytes('2'))
      tx.delete(key('c'))
    })
    expect(told).toEqual([['a', 'b', 'c'].map(key), [key('a')]])
    expect(rowTexts(await store.read((view) => view.scan(ALL, 10)))).toEqual(['a=2', 'b=3'])
  })
}

function testWaiting(setUp: (options?: StageOptions) => Promise<Setup>): void {
  test('above the backlog transactions wait, reads do not, and the wait has a deadline', async () => {
    const clock = new HandClock()
    const { store, backend } = await setUp({ clock, backlogRowsMax: 10, groupRowsMax: 5, admissionWaitMsMax: 1000 })
    backend.hold()
    for (let i = 0; i < 10; i++) await put(store, { [`k${i}`]: 'v' })
    const refused = put(store, { refused: 'v' })
    refused.catch(() => {})
    expect(await store.read((view) => view.get(key('other')))).toBeUndefined()
    await clock.advance(600)
    const admitted = put(store, { admitted: 'v' })
    await clock.advance(400)
    expect(await codeOf(refused)).toBe('SlowDown')
    backend.release()
    await admitted
    expect(await store.read((view) => view.scan(ALL, 100))).toHaveLength(11)
  })

  test('a group that nobody waits for gathers more, until somebody does or its time is up', async () => {
    const clock = new HandClock()
    const { store } = await setUp({ clock, unwantedGroupMsMax: 10, stallMsMax: 1e6 })
    const putVisible = (name: string): Promise<unknown> =>
      store.transact(async (tx) => tx.put(key(name), bytes('1')), { tell: 'visible' })
    const isDurable = async (withinMs = 5000): Promise<boolean> => {
      const endMs = Date.now() + withinMs
      while (store.durableRevision() < store.revision() && Date.now() < endMs) await turn()
      return store.durableRevision() === store.revision()
    }
    await putVisible('a')
    await clock.advance(9)
    await putVisible('b')
    expect(await isDurable(50)).toBe(false)
    await clock.advance(1)
    expect(await isDurable()).toBe(true)
    // A commit that is waited for takes the others along.
    await putVisible('c')
    await (
      await store.transact(async (tx) => tx.put(key('d'), bytes('1')))
    ).durable
    expect(await isDurable()).toBe(true)
    // So do a flush, and a reader who is told only what is durable.
    await putVisible('e')
    await store.flush()
    expect(await isDurable()).toBe(true)
    await putVisible('f')
    expect(text(await store.read((view) => view.get(key('f'))))).toBe('1')
    expect(await isDurable()).toBe(true)
    await putVisible('g')
    await store.stop()
  })

  test('more than the queue holds is refused', async () => {
    const { store, backend } = await setUp({ backlogRowsMax: 1, groupRowsMax: 1, queueLengthMax: 3 })
    backend.hold()
    await put(store, { a: '1' })
    const waiting = Array.from({ length: 3 }, (_, i) => put(store, { [`w${i}`]: '1' }))
    expect(await codeOf(put(store, { more: '1' }))).toBe('SlowDown')
    backend.release()
    await Promise.all(waiting)
  })

  test('a function that awaits something else fails with an assertion, and the others go on', async () => {
    const clock = new HandClock()
    const { store } = await setUp({ clock, stallMsMax: 10_000 })
    let useView = async (): Promise<unknown> => undefined
    const stalled = store.transact(async (tx) => {
      tx.put(key('stalled'), bytes('1'))
      useView = () => tx.get(key('a'))
      await new Promise(() => {})
    })
    stalled.catch(() => {})
    const behind = put(store, { behind: '1' })
    await clock.advance(9999)
    expect(store.revision()).toBe(0)
    await clock.advance(1)
    await expect(stalled).rejects.toBeInstanceOf(AssertionFailed)
    await behind
    expect(rowTexts(await store.read((view) => view.scan(ALL, 10)))).toEqual(['behind=1'])
    expect(useView).toThrow(AssertionFailed)
  })

  test('stopped, what waits and what runs fails, and what was visible is durable', async () => {
    const { store, backend } = await setUp()
    await put(store, { a: '1' })
    const running = store.transact(() => new Promise(() => {}))
    const waiting = store.read((view) => view.get(key('a')))
    const outcomes = Promise.all([codeOf(running), codeOf(waiting)])
    await store.stop()
    expect(await outcomes).toEqual(['Unavailable', 'Unavailable'])
    expect(backend.commits).toEqual([1])
  })
}
