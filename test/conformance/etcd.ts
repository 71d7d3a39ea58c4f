/**
 * What the port `Etcd` promises (src/meta/raft/ports.ts), and what etcd does that the store over it rests on. Run over every twin. Each test has keys of
 * its own, so that they can share a cluster.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ByteString, Revision } from '../../src/common/ids.ts'
import type { KeyRange } from '../../src/meta/ports.ts'
import type {
  Compare,
  Etcd,
  EtcdOperation,
  EtcdTransaction,
  OperationResult,
  TransactionResult,
  WatchedChange,
} from '../../src/meta/raft/ports.ts'

export interface EtcdHarness {
  /** Resolves when the cluster serves. */
  start(): Promise<void>
  /** Not started yet. */
  client(): Etcd
  compact(revision: Revision): Promise<void>
  stop(): Promise<void>
}

export const OPERATIONS_MAX = 128
const KIB = 1024
const MIB = 1024 * KIB
const LARGE_BYTES = 1_468_006
const TOO_LARGE_BYTES = 1_600_000

export const bytes = (text: string): ByteString => text as ByteString
const value = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'latin1'))
const text = (held: Uint8Array | undefined): string | undefined =>
  held === undefined ? undefined : Buffer.from(held).toString('latin1')
const only = (key: ByteString): KeyRange => ({ start: key, end: bytes(`${key}\0`) })
export const put = (key: ByteString, held: string | Uint8Array): EtcdOperation => ({
  kind: 'put',
  key,
  value: typeof held === 'string' ? value(held) : held,
})
const remove = (key: ByteString): EtcdOperation => ({ kind: 'delete', range: only(key) })
const read = (range: KeyRange, limit = 0): EtcdOperation => ({ kind: 'range', range, limit })
const nested = (transaction: Partial<EtcdTransaction>): EtcdOperation => ({
  kind: 'transaction',
  transaction: { compares: [], success: [], failure: [], ...transaction },
})
const unchanged = (key: ByteString, modRevision: Revision): Compare => ({ kind: 'unchanged', key, modRevision })
const noneYounger = (range: KeyRange, revision: Revision): Compare => ({ kind: 'none younger', range, revision })
const innerOf = (result: OperationResult | undefined): TransactionResult => {
  if (result?.kind !== 'transaction') throw new Error(`not a transaction's result: ${result?.kind}`)
  return result.result
}

export function testEtcd(kind: string, harness: EtcdHarness): void {
  describe(`etcd: ${kind}`, { timeout: 60_000 }, () => {
    let etcd: Etcd
    const watching = new Set<AbortController>()

    beforeAll(async () => {
      await harness.start()
      etcd = harness.client()
      await etcd.start()
    }, 120_000)
    afterEach(() => {
      for (const controller of watching) controller.abort()
      watching.clear()
    })
    afterAll(async () => {
      await etcd?.drain()
      await etcd?.stop()
      await harness.stop()
    })

    const place = (): ((name: string) => ByteString) => {
      const prefix = randomBytes(6).toString('hex')
      return (name) => bytes(`${prefix}/${name}`)
    }
    const all = (key: (name: string) => ByteString): KeyRange => ({
      start: key(''),
      end: bytes(`${key('')}\u00FF\u00FF`),
    })
    const transact = (transaction: Partial<EtcdTransaction>): Promise<TransactionResult> =>
      etcd.transact({ compares: [], success: [], failure: [], ...transaction })
    const rowsOf = async (range: KeyRange, revision?: Revision): Promise<(string | undefined)[][]> => {
      const { rows } = await etcd.range({ range, limit: 0, revision })
      return rows.map((row) => [row.key, text(row.value)])
    }
    /** Batches until so many changes have come. */
    const watched = async (range: KeyRange, from: Revision, count: number): Promise<WatchedChange[][]> => {
      const controller = new AbortController()
      watching.add(controller)
      const batches: WatchedChange[][] = []
      for await (const batch of etcd.watch(range, from, controller.signal)) {
        batches.push([...batch])
        if (batches.flat().length >= count) break
      }
      return batches
    }

    describe('ranges', () => {
      it('are ascending by byte, whatever bytes the keys and values hold', async () => {
        const key = place()
        const names = Array.from({ length: 256 }, (_, byte) => key(String.fromCharCode(byte)))
        const odd = Uint8Array.from({ length: 256 }, (_, byte) => byte)
        for (const part of [names.slice(0, 100), names.slice(100, 200), names.slice(200)])
          await transact({ success: part.map((name) => put(name, odd)) })
        const { rows, more } = await etcd.range({ range: all(key), limit: 0 })
        expect(rows.map((row) => row.key)).toEqual(names)
        expect(more).toBe(false)
        expect(rows.every((row) => Buffer.from(row.value).equals(odd))).toBe(true)
        expect(await rowsOf({ start: key('\u0080'), end: key('\u0082') })).toEqual([
          [key('\u0080'), text(odd)],
          [key('\u0081'), text(odd)],
        ])
      })

      it('say whether the limit cut them', async () => {
        const key = place()
        await transact({ success: [put(key('a'), '1'), put(key('b'), '2')] })
        expect(await etcd.range({ range: all(key), limit: 1 })).toMatchObject({ rows: [{ key: key('a') }], more: true })
        expect(await etcd.range({ range: all(key), limit: 2 })).toMatchObject({ more: false })
        expect(await etcd.range({ range: only(key('none')), limit: 2 })).toMatchObject({ rows: [], more: false })
      })

      it('read an older revision', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('a'), 'old'), put(key('b'), 'old')] })
        await transact({ success: [put(key('a'), 'new'), remove(key('b')), put(key('c'), 'new')] })
        expect(await rowsOf(all(key), revision)).toEqual([
          [key('a'), 'old'],
          [key('b'), 'old'],
        ])
        expect(await rowsOf(all(key))).toEqual([
          [key('a'), 'new'],
          [key('c'), 'new'],
        ])
      })

      it('are served from what a member knows when they ask for that', async () => {
        const key = place()
        await transact({ success: [put(key('a'), '1')] })
        await expect
          .poll(async () => (await etcd.range({ range: all(key), limit: 0, serializable: true })).rows.length)
          .toBe(1)
      })

      it('hold empty values and give memory that is the caller’s', async () => {
        const key = place()
        const held = value('mine')
        await transact({ success: [put(key('a'), held), put(key('b'), '')] })
        held.fill(0)
        const first = await etcd.range({ range: all(key), limit: 0 })
        first.rows[0]?.value.fill(0)
        expect(await rowsOf(all(key))).toEqual([
          [key('a'), 'mine'],
          [key('b'), ''],
        ])
      })
    })

    describe('revisions', () => {
      it('grow by one with each transaction that changes something, however much', async () => {
        const key = place()
        const first = await transact({ success: [put(key('a'), '1'), put(key('b'), '1')] })
        const second = await transact({ success: [nested({ success: [put(key('a'), '2')] }), remove(key('b'))] })
        expect(second.revision).toBe(first.revision + 1)
        const { rows } = await etcd.range({ range: all(key), limit: 0 })
        expect(rows.map((row) => row.modRevision)).toEqual([second.revision])
        expect(innerOf(second.results[0]).revision).toBe(second.revision)
      })

      it('stand still when nothing is changed: a failed compare, a range, a delete of what is not there', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('a'), '1')] })
        const failed = await transact({ compares: [unchanged(key('a'), 0)], success: [put(key('a'), '2')] })
        expect(failed).toEqual({ succeeded: false, results: [], revision })
        const nothing = await transact({ success: [remove(key('none')), read(all(key))] })
        expect(nothing).toMatchObject({
          succeeded: true,
          revision,
          results: [{ deleted: 0 }, { found: { more: false } }],
        })
        expect((await etcd.range({ range: all(key), limit: 0 })).revision).toBe(revision)
      })

      it('move on a row that is put with the value it has', async () => {
        const key = place()
        const first = await transact({ success: [put(key('a'), '1')] })
        const second = await transact({ success: [put(key('a'), '1')] })
        expect(second.revision).toBe(first.revision + 1)
        expect((await etcd.range({ range: all(key), limit: 0 })).rows[0]?.modRevision).toBe(second.revision)
      })
    })

    describe('compares', () => {
      it('hold a row against its last revision, 0 when it is not there', async () => {
        const key = place()
        const absent = await transact({ compares: [unchanged(key('a'), 0)], success: [put(key('a'), '1')] })
        expect(absent.succeeded).toBe(true)
        const same = await transact({ compares: [unchanged(key('a'), absent.revision)], success: [put(key('a'), '2')] })
        expect(same.succeeded).toBe(true)
        const stale = await transact({
          compares: [unchanged(key('a'), absent.revision)],
          failure: [read(only(key('a')))],
        })
        expect(stale).toMatchObject({
          succeeded: false,
          results: [{ found: { rows: [{ modRevision: same.revision }] } }],
        })
        await transact({ success: [remove(key('a'))] })
        expect(await transact({ compares: [unchanged(key('a'), 0)] })).toMatchObject({ succeeded: true })
      })

      it('hold a range against a revision, and do not see what was deleted from it (C4)', async () => {
        const key = place()
        expect(await transact({ compares: [noneYounger(all(key), 0)] })).toMatchObject({ succeeded: true })
        const { revision } = await transact({ success: [put(key('a'), '1'), put(key('b'), '1')] })
        expect(await transact({ compares: [noneYounger(all(key), revision)] })).toMatchObject({ succeeded: true })
        expect(await transact({ compares: [noneYounger(all(key), revision - 1)] })).toMatchObject({ succeeded: false })
        await transact({ success: [remove(key('b'))] })
        expect(await transact({ compares: [noneYounger(all(key), revision)] })).toMatchObject({ succeeded: true })
        await transact({ success: [put(key('b'), '2')] })
        expect(await transact({ compares: [noneYounger(all(key), revision)] })).toMatchObject({ succeeded: false })
      })

      it('of all levels are evaluated before anything is applied: two that delete each other’s witness both succeed (C4)', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('x'), '1'), put(key('y'), '1')] })
        const deleteIf = (victim: string, witness: string): EtcdOperation =>
          nested({ compares: [unchanged(key(witness), revision)], success: [remove(key(victim))] })
        const both = await transact({ success: [deleteIf('x', 'y'), deleteIf('y', 'x')] })
        expect(both.results.map((result) => innerOf(result).succeeded)).toEqual([true, true])
        expect(await rowsOf(all(key))).toEqual([])
      })

      it('of nested transactions each choose their own branch, with results in order', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('a'), '1')] })
        const result = await transact({
          compares: [unchanged(key('none'), 0)],
          success: [
            nested({ compares: [unchanged(key('a'), revision)], success: [put(key('b'), '1')] }),
            nested({
              compares: [unchanged(key('a'), 0)],
              success: [put(key('c'), '1')],
              failure: [read(only(key('a')))],
            }),
            remove(key('a')),
            read(all(key)),
          ],
        })
        expect(result.results.map((part) => part.kind)).toEqual(['transaction', 'transaction', 'delete', 'range'])
        expect(innerOf(result.results[0])).toMatchObject({ succeeded: true, results: [{ kind: 'put' }] })
        expect(innerOf(result.results[1])).toMatchObject({
          succeeded: false,
          results: [{ found: { rows: [{ key: key('a'), modRevision: revision }] } }],
        })
        expect(result.results[3]).toMatchObject({ found: { rows: [{ key: key('b') }], revision: revision + 1 } })
      })
    })

    describe('limits', () => {
      const puts = (key: (name: string) => ByteString, count: number): EtcdOperation[] =>
        Array.from({ length: count }, (_, index) => put(key(`${index}`), ''))

      it(`are ${OPERATIONS_MAX} compares, or operations of a branch (C2)`, async () => {
        const key = place()
        const compares = Array.from({ length: OPERATIONS_MAX }, (_, index) => unchanged(key(`${index}`), 0))
        const success = puts(key, OPERATIONS_MAX)
        expect(await transact({ compares, success, failure: success })).toMatchObject({ succeeded: true })
        const tooLarge = { kind: 'too large', sent: false }
        await expect(transact({ success: puts(key, OPERATIONS_MAX + 1) })).rejects.toMatchObject(tooLarge)
        await expect(transact({ failure: puts(key, OPERATIONS_MAX + 1) })).rejects.toMatchObject(tooLarge)
        const oneMore = [...compares, unchanged(key('one more'), 0)]
        await expect(transact({ compares: oneMore })).rejects.toMatchObject(tooLarge)
      })

      it('leave to each nested transaction what its own outer ones have left, whatever its siblings take', async () => {
        const key = place()
        const inner = (name: string, count: number): EtcdOperation =>
          nested({ success: puts((each) => key(`${name}/${each}`), count) })
        const two = await transact({ success: [inner('a', OPERATIONS_MAX - 2), inner('b', OPERATIONS_MAX - 2)] })
        expect(two.succeeded).toBe(true)
        const over = [inner('a', OPERATIONS_MAX - 1), inner('b', 1)]
        await expect(transact({ success: over })).rejects.toMatchObject({ kind: 'too large', sent: false })
      })

      it('let a value of 1.4 MiB pass, and not one of 1.6', async () => {
        const key = place()
        const held = randomBytes(LARGE_BYTES)
        await transact({ success: [put(key('a'), held)] })
        const { rows } = await etcd.range({ range: all(key), limit: 1 })
        expect(Buffer.from(rows[0]?.value ?? []).equals(held)).toBe(true)
        for (const size of [TOO_LARGE_BYTES, 2 * TOO_LARGE_BYTES])
          await expect(transact({ success: [put(key('b'), Buffer.alloc(size))] })).rejects.toMatchObject({
            kind: 'too large',
            sent: false,
          })
      })

      it('do not hold for the answer: many such values come in one range, and in one watch', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('0'), '')] })
        for (let index = 1; index <= 6; index++)
          await transact({ success: [put(key(`${index}`), Buffer.alloc(LARGE_BYTES, index))] })
        const { rows } = await etcd.range({ range: all(key), limit: 0 })
        expect(rows.map((row) => row.value.length)).toEqual([0, ...Array.from({ length: 6 }, () => LARGE_BYTES)])
        const changes = (await watched(all(key), revision, 7)).flat()
        expect(changes.map((change) => change.value?.at(-1))).toEqual([undefined, 1, 2, 3, 4, 5, 6])
      })

      it('forbid to put a key twice, or to put and delete it, on any level', async () => {
        const key = place()
        const [once, again] = [put(key('a'), '1'), put(key('a'), '2')]
        const refused: EtcdOperation[][] = [
          [once, again],
          [once, remove(key('a'))],
          [once, { kind: 'delete', range: all(key) }],
          [once, nested({ success: [again] })],
          [nested({ success: [once] }), nested({ failure: [again] })],
          [remove(key('a')), nested({ success: [again] })],
          [nested({ success: [remove(key('a'))] }), nested({ success: [again] })],
        ]
        for (const success of refused)
          await expect(transact({ success })).rejects.toMatchObject({ kind: 'malformed', sent: false })
        // The two branches of one transaction may; so may two deletes; and a delete nested after a nested put is not noticed.
        await transact({ success: [nested({ success: [once], failure: [again] })] })
        expect(await transact({ success: [remove(key('a')), remove(key('a'))] })).toMatchObject({
          results: [{ deleted: 1 }, { deleted: 0 }],
        })
        await transact({ success: [nested({ success: [once] }), nested({ success: [remove(key('a'))] })] })
        expect(await rowsOf(all(key))).toEqual([])
      })
    })

    describe('watches', () => {
      it('tell every change from a revision on, in order, then live, in whole revisions (C3)', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('a'), '1')] })
        await transact({ success: [put(key('a'), '2'), put(key('b'), '2'), nested({ success: [put(key('c'), '2')] })] })
        const told = watched(all(key), revision, 6)
        await new Promise((resolve) => setTimeout(resolve, 50))
        await transact({ success: [put(bytes(`other/${key('a')}`), '3')] })
        await transact({ success: [remove(key('a')), put(key('b'), '4')] })
        const batches = await told
        const changes = batches.flat().map((change) => [change.key, text(change.value), change.modRevision - revision])
        expect(changes).toEqual([
          [key('a'), '1', 0],
          [key('a'), '2', 1],
          [key('b'), '2', 1],
          [key('c'), '2', 1],
          [key('a'), undefined, 3],
          [key('b'), '4', 3],
        ])
        const ends = batches
          .slice(1)
          .map((batch, index) => [batches[index]?.at(-1)?.modRevision, batch[0]?.modRevision])
        expect(ends.every(([before = 0, after = 0]) => before < after)).toBe(true)
      })

      it('keep transactions of many large rows whole', async () => {
        const key = place()
        const rows = (round: number): EtcdOperation[] =>
          Array.from({ length: 100 }, (_, index) => put(key(`${index}`), Buffer.alloc(12 * KIB, round)))
        const { revision } = await transact({ success: rows(0) })
        for (let round = 1; round < 5; round++) await transact({ success: rows(round) })
        const batches = await watched(all(key), revision, 500)
        const revisions = batches.map((batch) => new Set(batch.map((change) => change.modRevision)))
        for (const at of new Set(batches.flat().map((change) => change.modRevision)))
          expect(revisions.filter((inBatch) => inBatch.has(at)).length).toBe(1)
        expect(batches.flat().length).toBe(500)
      })

      it('start at a revision that is to come', async () => {
        const key = place()
        const { revision } = await transact({ success: [put(key('a'), '1')] })
        const told = watched(all(key), revision + 2, 1)
        await new Promise((resolve) => setTimeout(resolve, 50))
        await transact({ success: [put(key('a'), '2')] })
        await transact({ success: [put(key('a'), '3')] })
        expect((await told).flat().map((change) => text(change.value))).toEqual(['3'])
      })

      it('end when the signal aborts, and outlast silence', async () => {
        const key = place()
        const { revision } = await etcd.range({ range: all(key), limit: 1 })
        const controller = new AbortController()
        const seen: string[] = []
        const ended = (async () => {
          for await (const batch of etcd.watch(all(key), revision + 1, controller.signal))
            seen.push(...batch.map((change) => change.key))
        })()
        await new Promise((resolve) => setTimeout(resolve, 4_000))
        await transact({ success: [put(key('late'), '')] })
        await expect.poll(() => seen).toEqual([key('late')])
        controller.abort()
        await ended
      })

      it('go on where a slow consumer has left off', async () => {
        const key = place()
        const { revision } = await etcd.range({ range: all(key), limit: 1 })
        const controller = new AbortController()
        watching.add(controller)
        const watch = etcd.watch(all(key), revision + 1, controller.signal)[Symbol.asyncIterator]()
        await transact({ success: [put(key('0'), Buffer.alloc(MIB))] })
        let seen = (await watch.next()).value?.length ?? 0
        for (let index = 1; index < 40; index++) await transact({ success: [put(key(`${index}`), Buffer.alloc(MIB))] })
        await new Promise((resolve) => setTimeout(resolve, 2_500))
        while (seen < 40) seen += (await watch.next()).value?.length ?? 0
        expect(seen).toBe(40)
      })
    })

    describe('compaction', () => {
      it('ends ranges and watches of what is not kept, and no others', async () => {
        const key = place()
        await transact({ success: [put(key('a'), '1'), put(key('b'), '1')] })
        const { revision } = await transact({ success: [put(key('a'), '2'), remove(key('b'))] })
        await transact({ success: [put(key('a'), '3')] })
        await harness.compact(revision)
        await expect(etcd.range({ range: all(key), limit: 0, revision: revision - 1 })).rejects.toMatchObject({
          kind: 'compacted',
        })
        expect(await rowsOf(all(key), revision)).toEqual([[key('a'), '2']])
        // The deletion of `b` is forgotten with the revision of the compaction: from there on is not all there is to tell.
        await expect(watched(all(key), revision, 1)).rejects.toMatchObject({ kind: 'compacted', sent: false })
        const later = await watched(all(key), revision + 1, 1)
        expect(later.flat().map((change) => text(change.value))).toEqual(['3'])
      })
    })

    describe('leases', () => {
      it('take their rows with them when they run out, or are revoked', async () => {
        const key = place()
        const [short, long] = [await etcd.grantLease(2), await etcd.grantLease(60)]
        const leased = (name: string, lease: string): EtcdOperation =>
          ({ ...put(key(name), '1'), lease }) as EtcdOperation
        const { revision } = await transact({ success: [leased('a', short), leased('b', long), put(key('c'), '1')] })
        expect(await etcd.keepLease(long)).toBe(60)
        expect((await watched(all(key), revision + 1, 1)).flat()).toMatchObject([{ key: key('a'), value: undefined }])
        expect(await etcd.keepLease(short)).toBe(0)
        await etcd.revokeLease(long)
        await etcd.revokeLease(long)
        expect(await rowsOf(all(key))).toEqual([[key('c'), '1']])
      })

      it('that are gone let no row be put', async () => {
        const key = place()
        const lease = await etcd.grantLease(60)
        await etcd.revokeLease(lease)
        const success: EtcdOperation[] = [put(key('b'), '1'), { kind: 'put', key: key('a'), value: value('1'), lease }]
        await expect(transact({ success })).rejects.toMatchObject({ kind: 'lease gone', sent: false })
        await expect(transact({ success: [nested({ success })] })).rejects.toMatchObject({ kind: 'lease gone' })
        expect(await rowsOf(all(key))).toEqual([])
      })
    })
  })
}
