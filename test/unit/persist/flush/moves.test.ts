import { expect, test } from 'vitest'
import { Moves } from '../../../../src/persist/flush/moves.ts'
import { turns } from './flusher-fixture.ts'

test('a hold waits for what is being moved, and nothing is moved before all holds are released', async () => {
  const moves = new Moves()
  const moved = Promise.withResolvers<boolean>()
  const moving = moves.run(() => moved.promise)
  const holds: (() => void)[] = []
  const holding = [moves.hold(), moves.hold()].map((hold) => hold.then((release) => holds.push(release)))
  await turns()
  expect([holds.length, moves.areHeld, await moves.run(() => Promise.resolve(true))]).toEqual([0, true, false])
  moved.resolve(true)
  await Promise.all(holding)
  expect(await moving).toBe(true)
  holds.pop()?.()
  expect(await moves.run(() => Promise.resolve(true))).toBe(false)
  holds.pop()?.()
  expect(await moves.run(() => Promise.resolve(true))).toBe(true)
})

test('a move that fails is no longer waited for', async () => {
  const moves = new Moves()
  await expect(moves.run(() => Promise.reject(new Error('torn')))).rejects.toThrow('torn')
  await moves.hold()
})
