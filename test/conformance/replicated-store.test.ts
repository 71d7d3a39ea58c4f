/** What holds between nodes (src/meta/raft): each with a replica of its own, over one etcd in memory and in virtual time. */
import { afterEach, describe, expect, test } from 'vitest'
import { isTidegateError, type TidegateError } from '../../src/common/errors.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { MemoryBackend, MemoryDisk } from '../../src/meta/memory/memory-backend.ts'
import { createMemoryStore } from '../../src/meta/memory/memory-store.ts'
import type { Transaction } from '../../src/meta/ports.ts'
import { createEtcdStore } from '../../src/meta/raft/etcd-store.ts'
import type { EtcdStoreOptions } from '../../src/meta/raft/etcd-options.ts'
import type { EmbeddedStore } from '../../src/meta/stage/ports.ts'
import { Random, testSeed } from '../model/random.ts'
import { Scheduler } from '../sim/scheduler.ts'
import { FakeEtcd, type FakeEtcdClient } from '../support/fake-etcd.ts'
import { bytes, codeOf, key, rowTexts, text } from './ordered-store-rows.ts'
import { simulateNodes } from './replicated-store.ts'

const ROWS = { start: key(''), end: key('\xff') }
const CALL_MS = 200
/** REPLICATED_SEEDS=10000 is the long form. */
const SEEDS = Number(process.env['REPLICATED_SEEDS'] ?? 60)

interface Node {
  readonly client: FakeEtcdClient
  readonly store: EmbeddedStore
  readonly disk: MemoryDisk
}

let scheduler = new Scheduler()
let etcd = new FakeEtcd({ clock: scheduler.clock })
let stores: EmbeddedStore[] = []

const within = <T>(work: Promise<T>): Promise<T> => scheduler.until(work, 'the work')
const passes = (ms: number): Promise<void> => within(scheduler.delay(ms))

function newEtcd(operationsMax = 128): void {
  scheduler = new Scheduler()
  etcd = new FakeEtcd({ clock: scheduler.clock, callTimeoutMs: CALL_MS, limits: { operationsMax } })
}

async function startNode(node: number, options: Partial<EtcdStoreOptions> & { disk?: MemoryDisk } = {}): Promise<Node> {
  const { disk = new MemoryDisk(), ...more } = options
  const client = etcd.client()
  await client.start()
  const replica = new MemoryBackend({ disk })
  const { clock } = scheduler
  const store = createEtcdStore({ etcd: client, node, replica, clock, readMsMax: 1000, transactMsMax: 2000, ...more })
  stores.push(store)
  await within(store.start())
  return { client, store, disk }
}

async function twoNodes(options: Partial<EtcdStoreOptions> = {}): Promise<[Node, Node]> {
  newEtcd()
  return [await startNode(1, options), await startNode(2, options)]
}

const put = (node: Node, name: string, value: string): Promise<unknown> =>
  within(node.store.transact(async (tx) => tx.put(key(name), bytes(value))))
const get = async (node: Node, name: string): Promise<string | undefined> =>
  text(await within(node.store.read((view) => view.get(key(name)))))

async function failureOf(work: Promise<unknown>): Promise<TidegateError> {
  const error: unknown = await within(
    work.then(
      () => undefined,
      (reason: unknown) => reason,
    ),
  )
  if (!isTidegateError(error)) throw new Error(`no error of the table: ${String(error)}`)
  return error
}

afterEach(async () => {
  for (const store of stores) await within(store.stop())
  stores = []
})

describe('between nodes', () => {
  test('C5: a read that begins after another node’s commit was told sees it', async () => {
    const [one, two] = await twoNodes()
    for (let i = 0; i < 20; i++) {
      const [writer, reader] = i % 2 === 0 ? [one, two] : [two, one]
      await put(writer, 'a', String(i))
      expect(await get(reader, 'a')).toBe(String(i))
      const idle = await within(reader.store.transact(async (tx) => text(await tx.get(key('a')))))
      expect(idle.value).toBe(String(i))
    }
  })

  test('C5: so it does when its watch is late: it waits, and is refused in words when that takes too long', async () => {
    const [one, two] = await twoNodes()
    two.client.hold()
    await put(one, 'a', '1')
    const waiting = get(two, 'a')
    const late = scheduler.delay(300).then(() => two.client.release())
    expect(await waiting).toBe('1')
    await within(late)
    two.client.hold()
    await put(one, 'a', '2')
    const refused = await failureOf(two.store.read((view) => view.get(key('a'))))
    expect([refused.code, refused.message]).toEqual(['Unavailable', expect.stringContaining('did not arrive in time')])
  })

  test('C5: a read does not join a barrier call that was sent before it came', async () => {
    const [one, two] = await twoNodes()
    await put(one, 'a', '1')
    expect(await get(two, 'a')).toBe('1')
    // Every step of the scheduler takes the next event, so there must be enough of them for time to pass slowly.
    for (let ms = 0; ms < 500; ms++) void scheduler.delay(ms)
    two.client.hold()
    etcd.next('range', { afterMs: 50 })
    const early = two.store.read((view) => view.get(key('a')))
    await passes(10)
    await put(one, 'a', '2')
    const late = two.store.read((view) => view.get(key('a')))
    expect(text(await within(early))).toBe('1')
    await passes(100)
    two.client.release()
    expect(text(await within(late))).toBe('2')
  })

  test('C4: of two that each delete the other’s witness, one does: on one node, and on two', async () => {
    const deleteIf =
      (name: string, witness: string) =>
      async (tx: Transaction): Promise<void> => {
        if ((await tx.get(key(witness))) !== undefined) tx.delete(key(name))
      }
    const [one, two] = await twoNodes()
    for (const other of [one, two]) {
      await put(one, 'x', '1')
      await put(one, 'y', '1')
      const first = one.store.transact(deleteIf('x', 'y'))
      const second = other.store.transact(deleteIf('y', 'x'))
      await within(Promise.all([first, second]))
      expect(await within(one.store.read((view) => view.scan(ROWS, 10)))).toHaveLength(1)
    }
  })

  test('C1: no write skew and no phantoms, and increments of both count', async () => {
    const [one, two] = await twoNodes()
    const both = (fn: (tx: Transaction, i: number) => Promise<void>): Promise<unknown> =>
      within(Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? one : two).store.transact((tx) => fn(tx, i)))))
    await both(async (tx) => {
      tx.put(key('n'), bytes(String(1 + Number(text(await tx.get(key('n'))) ?? 0))))
    })
    expect(await get(one, 'n')).toBe('20')
    await both(async (tx, i) => {
      if ((await tx.scan({ start: key('r'), end: key('s') }, 1, i % 3 === 0)).length === 0)
        tx.put(key(`r${i}`), bytes(''))
    })
    expect(await within(two.store.read((view) => view.scan({ start: key('r'), end: key('s') }, 50)))).toHaveLength(1)
  })

  test('C1: what runs again while revisions are applied that came together sees all of them, not some', async () => {
    const [one, two] = await twoNodes()
    const putBoth = (value: string): Promise<unknown> =>
      within(
        two.store.transact(async (tx) => {
          for (const name of ['a', 'b']) tx.put(key(name), bytes(value))
        }),
      )
    await put(one, 'junk', '')
    await putBoth('0')
    expect(await get(one, 'b')).toBe('0')
    one.client.hold()
    etcd.next('transact', { fails: 'no space' })
    // By which it is found out what became of it.
    etcd.next('transact', { beforeMs: 50 })
    const written = one.store.transact(async (tx) => {
      const seen = [text(await tx.get(key('a'))), text(await tx.get(key('b')))]
      tx.put(key('seen'), bytes(seen.join()))
      // So it makes room, and is not refused.
      tx.delete(key('junk'))
    })
    await passes(10)
    // What it has read changes, then it is known that it was not committed, then it changes again: of all that one is told at once.
    await putBoth('1')
    await passes(150)
    await putBoth('2')
    one.client.release()
    await within(written)
    expect(await get(two, 'seen')).toBe('2,2')
  })

  test('C8: counters of both add up without a conflict', async () => {
    const [one, two] = await twoNodes()
    let runs = 0
    const add = ({ store }: Node): Promise<unknown> =>
      store.transact(async (tx) => {
        runs++
        tx.add(key('usage'), [1, -2])
      })
    await within(Promise.all(Array.from({ length: 40 }, (_, i) => add(i % 2 ? one : two))))
    expect(runs).toBe(40)
    expect(await within(one.store.read((view) => view.counters(key('usage'), 2)))).toEqual([40, -80])
    await within(two.store.transact(async (tx) => tx.delete(key('usage'))))
    expect(await within(one.store.read((view) => view.counters(key('usage'), 2)))).toEqual([0, 0])
    await within(one.store.flush())
    expect(one.store.readDurable((rows) => rows.get(key('usage')))).toBeUndefined()
  })

  test('listeners and watchers are told of other nodes’ changes, and which were only rewritten', async () => {
    const [one, two] = await twoNodes()
    const told: unknown[] = []
    two.store.onCommit((keys, rewritten) => told.push([...keys].toSorted(), [...rewritten]))
    const { revision } = await within(
      one.store.transact(async (tx) => {
        tx.put(key('a'), bytes('1'))
        tx.rewrite(key('b'), bytes('1'))
        tx.rewriteUntold(key('c'), bytes('1'))
        tx.add(key('n'), [1])
      }),
    )
    await passes(50)
    expect(told).toEqual([['a', 'b', 'c', 'n'].map(key), [key('b'), key('c')]])
    await within(two.store.flush())
    const shown: string[] = []
    const { signal } = new AbortController()
    for await (const change of two.store.watch(key(''), revision, signal, { through: revision }))
      shown.push(...change.rows.map((row) => row.key.slice(1)).toSorted())
    expect(shown).toEqual(['a', 'b'])
  })

  test('C2: one that reads more than etcd compares is committed all the same, also while another node writes', async () => {
    newEtcd(32)
    const [one, two] = [await startNode(1), await startNode(2)]
    const abort = new AbortController()
    const busy = (async (): Promise<void> => {
      for (let i = 0; !abort.signal.aborted; i++)
        await two.store.transact(async (tx) => tx.put(key('other'), bytes(String(i))))
    })()
    etcd.planner = () => ({ beforeMs: 1, afterMs: 1 })
    const names = Array.from({ length: 100 }, (_, i) => key(`many${i}`))
    const wide = one.store.transact(async (tx) => {
      expect(await tx.getMany(names)).toHaveLength(100)
      for (const name of names) tx.put(name, bytes('1'))
    })
    await within(wide)
    abort.abort()
    await within(busy)
    expect(await within(two.store.read((view) => view.scan(ROWS, 1000)))).toHaveLength(101)
  })
})

describe('outcomes', () => {
  test.each(['applied', 'never applied'] as const)('C6: an answer that was lost, the commit %s', async (lost) => {
    const [one, two] = await twoNodes()
    etcd.next('transact', { lost })
    let runs = 0
    const { revision } = await within(
      one.store.transact(async (tx) => {
        runs++
        tx.put(key('n'), bytes(String(1 + Number(text(await tx.get(key('n'))) ?? 0))))
      }),
    )
    expect([await get(two, 'n'), runs]).toEqual(['1', 1])
    expect(two.store.revision()).toBe(revision)
  })

  test('C6: one that is applied long after its failure was told counts once', async () => {
    const [one] = await twoNodes()
    etcd.next('transact', { beforeMs: 2 * CALL_MS })
    await within(
      one.store.transact(async (tx) => tx.put(key('n'), bytes(String(1 + Number(text(await tx.get(key('n'))) ?? 0))))),
    )
    await passes(1000)
    expect(await get(one, 'n')).toBe('1')
  })

  test('without a majority, reads and writes fail in words and in time, and go on afterwards', async () => {
    const [one] = await twoNodes()
    await put(one, 'a', '1')
    etcd.majority = false
    const startMs = scheduler.nowMs
    const read = one.store.read((view) => view.get(key('a')))
    const written = one.store.transact(async (tx) => tx.put(key('a'), bytes('2')))
    const [refusedRead, refusedWrite] = await Promise.all([failureOf(read), failureOf(written)])
    expect(scheduler.nowMs - startMs).toBeLessThanOrEqual(2000)
    expect([refusedRead.code, refusedWrite.code]).toEqual(['Unavailable', 'Unavailable'])
    expect(refusedRead.message).toContain('no majority')
    expect(refusedWrite.details['outcome']).toBe('unknown')
    etcd.majority = true
    await passes(1000)
    // Nobody waits for what was refused, and it was never applied: it is not tried again.
    expect(await get(one, 'a')).toBe('1')
    await put(one, 'a', '3')
    expect(await get(one, 'a')).toBe('3')
  })

  test('C23: a process that starts takes its node over; the older one can neither read nor write, and is told so', async () => {
    newEtcd()
    let fenced = 0
    const old = await startNode(1, { onFenced: () => fenced++ })
    await put(old, 'a', 'old')
    old.client.hold()
    const late = old.store.transact(async (tx) => tx.put(key('late'), bytes('1')))
    const other = await startNode(1)
    old.client.release()
    await codeOf(within(late))
    await passes(1000)
    expect(fenced).toBe(1)
    expect((await failureOf(old.store.transact(async (tx) => tx.put(key('a'), bytes('2'))))).message).toContain(
      'taken over',
    )
    expect((await failureOf(old.store.read((view) => view.get(key('a'))))).code).toBe('Unavailable')
    expect(await get(other, 'a')).toBe('old')
  })

  test('C15: a group is sent only after its bytes are safe; when they cannot be, it is undone with who read it', async () => {
    let isFailing = true
    const beforeCommit = (): Promise<void> => (isFailing ? Promise.reject(new Error('no disk')) : Promise.resolve())
    const [one, two] = await twoNodes({ beforeCommit })
    const refused = failureOf(one.store.transact(async (tx) => tx.put(key('a'), bytes('1'))))
    expect((await refused).code).toBe('Unavailable')
    isFailing = false
    expect(await get(two, 'a')).toBeUndefined()
    await put(one, 'b', '1')
    expect(await get(two, 'b')).toBe('1')
  })

  test('C19: over its quota writes are StorageFull in words, and what makes room passes', async () => {
    const [one] = await twoNodes()
    await put(one, 'a', '1')
    etcd.noSpaceAlarm = true
    const refused = await failureOf(one.store.transact(async (tx) => tx.put(key('b'), bytes('1'))))
    expect([refused.code, refused.message]).toEqual(['StorageFull', expect.stringContaining('quota')])
    await within(one.store.transact(async (tx) => tx.delete(key('a'))))
    expect(await get(one, 'a')).toBeUndefined()
    etcd.noSpaceAlarm = false
    await passes(6000)
    await put(one, 'b', '1')
  })
})

describe('the replica', () => {
  test('C7: a node that was away while etcd forgot loads everything anew, and says what has changed', async () => {
    const [one, two] = await twoNodes()
    for (const name of ['a', 'b', 'c']) await put(one, name, '1')
    expect(await get(two, 'a')).toBe('1')
    const before = two.store.revision()
    two.client.hold()
    await put(one, 'a', '2')
    await within(one.store.transact(async (tx) => tx.delete(key('b'))))
    await put(one, 'd', '1')
    etcd.compact()
    const told: ByteString[] = []
    let rollbacks = 0
    two.store.onCommit((keys) => told.push(...keys))
    two.store.onRollback(() => rollbacks++)
    two.client.failWatches('compacted')
    two.client.release()
    expect(rowTexts(await within(two.store.read((view) => view.scan(ROWS, 10))))).toEqual(['a=2', 'c=1', 'd=1'])
    expect([told.toSorted(), rollbacks]).toEqual([['a', 'b', 'd'].map(key), 1])
    const watching = (async (): Promise<void> => {
      for await (const _ of two.store.watch(key(''), before, new AbortController().signal)) return
    })()
    expect(await failureOf(watching)).toMatchObject({
      code: 'RevisionGone',
      details: { oldest: two.store.revision() + 1 },
    })
    await put(two, 'e', '1')
    expect(await get(one, 'e')).toBe('1')
  })

  test('a replica goes on from where it stands, and is loaded anew when it is of other metadata', async () => {
    const [one, two] = await twoNodes()
    await put(one, 'a', '1')
    await get(two, 'a')
    await within(two.store.stop())
    await put(one, 'b', '1')
    const again = await startNode(2, { disk: two.disk })
    expect(await get(again, 'b')).toBe('1')
    await within(again.store.stop())
    const elsewhere = await startNode(2, { disk: two.disk, prefix: '/elsewhere/' })
    expect(await within(elsewhere.store.read((view) => view.scan(ROWS, 10)))).toEqual([])
  })

  describe('an etcd that was restored from a backup is noticed, and all is loaded anew:', () => {
    const rows = async (node: Node): Promise<readonly string[]> =>
      (await within(node.store.read((view) => view.scan(ROWS, 10)))).map(
        ({ key: name, value }) => `${name}=${text(value)}`,
      )

    test('at once, while it is behind what is known here; a read meanwhile waits', async () => {
      const [one, two] = await twoNodes()
      await put(one, 'a', '1')
      const backup = etcd.backup()
      await put(one, 'a', '2')
      await put(two, 'b', '1')
      expect(await get(one, 'b')).toBe('1')
      let rolledBack = 0
      one.store.onRollback(() => rolledBack++)
      etcd.restore(backup)
      expect(await rows(one)).toEqual([`${key('a')}=1`])
      expect(await rows(two)).toEqual([`${key('a')}=1`])
      expect(rolledBack).toBe(1)
      await put(two, 'a', '3')
      await put(one, 'c', '1')
      for (const node of [one, two]) expect(await rows(node)).toEqual([`${key('a')}=3`, `${key('c')}=1`])
    })

    test('when it has been overtaken since', async () => {
      const [one, two] = await twoNodes()
      await put(one, 'a', '1')
      expect(await get(two, 'a')).toBe('1')
      const backup = etcd.backup()
      await put(one, 'x', 'lost')
      expect(await get(two, 'x')).toBe('lost')
      await within(one.store.stop())
      two.client.reachable = false
      etcd.restore(backup)
      const again = await startNode(3)
      for (const name of ['b', 'c', 'd']) await put(again, name, 'new')
      two.client.reachable = true
      const restarted = await startNode(1, { disk: one.disk })
      const expected = ['a=1', 'b=new', 'c=new', 'd=new'].map((row) => key(row))
      for (const node of [two, restarted, again]) expect(await rows(node)).toEqual(expected)
      for (const [index, node] of [two, restarted].entries()) await put(node, `e${index}`, '1')
      expect(await rows(again)).toHaveLength(6)
    })

    test('to before this node was there, and with a commit on its way', async () => {
      newEtcd()
      const one = await startNode(1)
      const backup = etcd.backup()
      const two = await startNode(2)
      await put(two, 'a', '1')
      etcd.next('transact', { lost: 'never applied' })
      const written = two.store.transact(async (tx) => tx.put(key('b'), bytes('1')))
      await passes(10)
      etcd.restore(backup)
      await within(written)
      for (const node of [one, two]) expect(await rows(node)).toEqual([`${key('b')}=1`])
    })

    test('and who took the node over meanwhile keeps it (C23)', async () => {
      newEtcd()
      let fenced = 0
      const old = await startNode(1, { onFenced: () => fenced++ })
      const backup = etcd.backup()
      await put(old, 'a', '1')
      old.client.reachable = false
      etcd.restore(backup)
      const other = await startNode(1)
      await put(other, 'b', '1')
      old.client.reachable = true
      await passes(1000)
      expect(fenced).toBe(1)
      expect(await rows(other)).toEqual([`${key('b')}=1`])
    })
  })

  test('neither kind of store takes the other’s directory for its own', async () => {
    newEtcd()
    const { store, disk } = await startNode(1)
    await within(store.transact(async (tx) => tx.put(key('a'), bytes('1'))))
    await within(store.stop())
    expect(await codeOf(createMemoryStore({ backend: new MemoryBackend({ disk }) }).start())).toBe('Unavailable')
    const own = new MemoryDisk()
    const embedded = createMemoryStore({ backend: new MemoryBackend({ disk: own }) })
    await embedded.start()
    await embedded.transact(async (tx) => tx.put(key('a'), bytes('1')))
    await embedded.stop()
    await expect(startNode(3, { disk: own })).rejects.toMatchObject({ code: 'Unavailable' })
    stores.pop()
  })
})

const seed = testSeed()

test(
  `C1, C3, C5, C6, C23: random nodes with faults, ${SEEDS} seeds from ${seed}`,
  { timeout: SEEDS * 2_000 },
  async () => {
    const totals = { committed: 0, unknown: 0, restarts: 0, fenced: 0 }
    for (let i = 0; i < SEEDS; i++) {
      const random = new Random(seed + i)
      const result = await simulateNodes(random, { nodes: 2 + (i % 2) }).catch((error: unknown) => {
        throw new Error(`seed ${seed + i}`, { cause: error })
      })
      for (const name of ['committed', 'unknown', 'restarts', 'fenced'] as const) totals[name] += result[name]
    }
    for (const [name, total] of Object.entries(totals)) expect(total, name).toBeGreaterThan(0)
  },
)
