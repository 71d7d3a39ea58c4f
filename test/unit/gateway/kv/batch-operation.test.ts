/** A get of a batch looks first how long the value is, and opens it then: it may be another one, or a longer one, by then. */
import { expect, test } from 'vitest'
import type { ObjectVersion } from '../../../../src/common/model.ts'
import { doOperation, type BatchContext } from '../../../../src/gateway/kv/batch-operation.ts'

const ROOM_BYTES = 1000

function version(inode: number, size: number): ObjectVersion {
  return { key: 'k', inode, size, body: { kind: 'content', content: size } } as ObjectVersion
}

function contextOf(found: ObjectVersion, opened: ObjectVersion, closed: number[]): BatchContext {
  const objects = { head: () => Promise.resolve(found), open: () => Promise.resolve({ reader: 5, version: opened }) }
  const store = { objects, reading: { close: (reader: number) => void closed.push(reader) } }
  const hasRoomFor = (bytes: number): boolean => bytes <= ROOM_BYTES
  return { store, access: { demand: () => undefined }, bucket: 'b', ack: undefined, hasRoomFor } as never
}

test.each([
  ['as it was', version(1, 10), true],
  ['the same file, written through the mount and longer, with room for it', version(1, ROOM_BYTES), true],
  ['the same file, written through the mount and too long', version(1, ROOM_BYTES + 1), false],
  ['another object that is too long', version(2, ROOM_BYTES + 1), false],
])('what is opened is what is counted: %s', async (_, opened, isGiven) => {
  const closed: number[] = []
  const outcome = await doOperation(contextOf(version(1, 10), opened, closed), { op: 'get', key: 'k' })
  if (isGiven) expect([outcome, closed]).toEqual([{ op: 'get', version: opened, reader: 5 }, []])
  else expect([outcome, closed]).toMatchObject([{ op: 'failed', status: 413, code: 'EntityTooLarge' }, [5]])
})
