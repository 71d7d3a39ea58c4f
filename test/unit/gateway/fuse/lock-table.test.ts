import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { LockTable, type LockTarget } from '../../../../src/gateway/fuse/lock-table.ts'
import type { FileLock, LockType } from '../../../../src/gateway/fuse/protocol/requests.ts'

const posix = (owner: number, nodeId = 2): LockTarget => ({ nodeId, sort: 'posix', owner: BigInt(owner) })
const range = (type: LockType, start: number, end: number): FileLock => ({ type, start, end, pid: 1 })

it('agrees with a table of bytes, whatever is locked and unlocked', () => {
  const BYTES = 12
  const step = fc.record({
    owner: fc.nat(2),
    type: fc.constantFrom<LockType>('read', 'write', 'unlock'),
    at: fc.nat(BYTES - 1),
    length: fc.integer({ min: 1, max: BYTES }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const table = new LockTable()
      const model = [0, 1, 2].map(() => Array.from({ length: BYTES }, (): LockType => 'unlock'))
      for (const { owner, type, at, length } of steps) {
        const end = Math.min(at + length, BYTES) - 1
        const isFree = model.every((types, other) =>
          types
            .slice(at, end + 1)
            .every(
              (held) =>
                other === owner || held === 'unlock' || type === 'unlock' || (held === 'read' && type === 'read'),
            ),
        )
        expect(table.set(posix(owner), range(type, at, end))).toBe(isFree)
        if (isFree) model[owner]?.fill(type, at, end + 1)
        for (let byte = 0; byte < BYTES; byte++) {
          const held = model.slice(1).map((types) => types[byte])
          expect(table.conflict(posix(0), range('write', byte, byte)) !== undefined).toBe(
            held.some((each) => each !== 'unlock'),
          )
        }
      }
    }),
  )
})

it('grants what waits in the order of asking, readers together', async () => {
  const table = new LockTable()
  const granted: number[] = []
  table.set(posix(1), range('write', 0, 9))
  const waits = [
    [10, 2, 'read'],
    [11, 3, 'read'],
    [12, 4, 'write'],
  ] as const
  for (const [unique, owner, type] of waits)
    void table.wait(unique, posix(owner), range(type, 0, 9)).then(() => granted.push(unique))
  table.releaseOwner(posix(1))
  await new Promise(setImmediate)
  expect(granted).toEqual([10, 11])
  table.releaseOwner(posix(2))
  table.releaseOwner(posix(3))
  await new Promise(setImmediate)
  expect(granted).toEqual([10, 11, 12])
})

it('ends a wait that is interrupted, which then takes nothing', async () => {
  const table = new LockTable()
  table.set(posix(1), range('write', 0, 9))
  const waiting = table.wait(10, posix(2), range('write', 0, 9))
  table.interrupt(10)
  table.interrupt(99)
  expect(await waiting).toBe('interrupted')
  table.releaseOwner(posix(1))
  expect(table.conflict(posix(3), range('write', 0, 9))).toBeUndefined()
})

it('finds two that wait for one another (EDEADLK)', async () => {
  const table = new LockTable()
  table.set(posix(1), range('write', 0, 0))
  table.set(posix(2, 3), range('write', 0, 0))
  const waiting = table.wait(10, posix(1, 3), range('write', 0, 0))
  expect(() => table.wait(11, posix(2), range('write', 0, 0))).toThrow('EDEADLK')
  table.releaseOwner(posix(2, 3))
  expect(await waiting).toBe('granted')
})

it('keeps flock and POSIX locks apart', () => {
  const table = new LockTable()
  expect(table.set({ ...posix(1), sort: 'flock' }, range('write', 0, Number.MAX_SAFE_INTEGER))).toBe(true)
  expect(table.set(posix(2), range('write', 0, 5))).toBe(true)
  expect(table.set({ ...posix(3), sort: 'flock' }, range('read', 0, 5))).toBe(false)
})
