import { expect, test } from 'vitest'
import type { ByteString } from '../../../../src/common/ids.ts'
import type { RowReader } from '../../../../src/meta/stage/ports.ts'
import { RecentRows } from '../../../../src/meta/stage/recent-rows.ts'
import { RowLayer } from '../../../../src/meta/stage/row-layer.ts'
import { VisibleRows } from '../../../../src/meta/stage/visible-rows.ts'

const A = 'a' as ByteString
const B = 'b' as ByteString

/** An engine that answers with a copy each time, as LMDB does. */
function engine(): { rows: Map<ByteString, Uint8Array>; asked: ByteString[]; reader: RowReader } {
  const rows = new Map<ByteString, Uint8Array>()
  const asked: ByteString[] = []
  const get = (key: ByteString): Uint8Array | undefined => {
    asked.push(key)
    const row = rows.get(key)
    return row && Uint8Array.from(row)
  }
  return { rows, asked, reader: { get, scan: () => [] } }
}

test('a row is asked for once, and again after it was written; absent and long ones each time', () => {
  const { rows, asked, reader } = engine()
  const recent = new RecentRows(reader)
  rows.set(A, Uint8Array.of(1)).set(B, new Uint8Array(600))
  const first = recent.get(A)
  expect(recent.get(A)).toBe(first)
  expect(asked).toEqual([A])
  rows.set(A, Uint8Array.of(2))
  recent.written(new Map([[A, Uint8Array.of(2)]]))
  expect(recent.get(A)).toEqual(Uint8Array.of(2))
  rows.delete(A)
  recent.written(new Map([[A, null]]))
  for (const key of [A, A, B, B]) recent.get(key)
  expect(asked).toEqual([A, A, A, A, B, B])
})

test('bounded by rows: the oldest goes first', () => {
  const { rows, asked, reader } = engine()
  const recent = new RecentRows(reader)
  const keys = Array.from({ length: 4097 }, (_, index) => `k${index}` as ByteString)
  for (const key of keys) rows.set(key, Uint8Array.of(1))
  for (const key of keys) recent.get(key)
  asked.length = 0
  recent.get(keys[4096]!)
  recent.get(keys[1]!)
  expect(asked).toEqual([])
  recent.get(keys[0]!)
  expect(asked).toEqual([keys[0]])
})

test('C1: a group is read from its own rows until it is committed, and then from the engine', () => {
  const { rows, reader } = engine()
  const visible = new VisibleRows(reader)
  const see = (): number | undefined => visible.get(A, { provisional: false })?.[0]
  const write = (value: number): void => {
    const layer = new RowLayer()
    layer.set(A, Uint8Array.of(value))
    visible.apply(layer)
  }
  rows.set(A, Uint8Array.of(1))
  expect(see()).toBe(1)
  write(2)
  visible.closeGroup()
  expect(see()).toBe(2)
  rows.set(A, Uint8Array.of(2))
  visible.groupCommitted()
  expect(see()).toBe(2)
  write(3)
  visible.closeGroup()
  visible.undoPending()
  expect(see()).toBe(2)
})
