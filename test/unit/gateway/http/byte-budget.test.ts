import { EventEmitter } from 'node:events'
import type { ServerResponse } from 'node:http'
import { expect, it } from 'vitest'
import { ByteBudget } from '../../../../src/gateway/http/byte-budget.ts'

function fakeResponse(): ServerResponse & { closed: boolean } {
  return Object.assign(new EventEmitter(), { closed: false }) as unknown as ServerResponse & { closed: boolean }
}

it('bounds what exchanges hold together, and has all of it back when they end', () => {
  const budget = new ByteBudget(100)
  const [one, other] = [fakeResponse(), fakeResponse()]
  expect([budget.take(one, 60), budget.take(other, 50), budget.take(one, 40), budget.take(one, 1)]).toEqual([
    true,
    false,
    true,
    false,
  ])
  one.emit('close')
  expect([budget.leftBytes, budget.take(other, 100)]).toEqual([100, true])
  other.emit('close')
  expect(budget.leftBytes).toBe(100)
})

it('lends nothing to an answer that is over, which would never give it back', () => {
  const budget = new ByteBudget(100)
  const gone = fakeResponse()
  gone.closed = true
  expect([budget.take(gone, 1), budget.leftBytes]).toEqual([false, 100])
})
