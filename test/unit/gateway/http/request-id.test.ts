import { expect, it } from 'vitest'
import { requestIdSource } from '../../../../src/gateway/http/request-id.ts'

it('makes ids of 16 upper-case hex digits that do not repeat', () => {
  const next = requestIdSource(0x00ab_cdef)
  const ids = new Set(Array.from({ length: 100_000 }, next))
  expect(ids.size).toBe(100_000)
  for (const id of ids) if (!/^00ABCDEF[0-9A-F]{8}$/.test(id)) expect.fail(id)
})

it('gives each source a range of its own', () => {
  expect(requestIdSource()().slice(0, 8)).not.toBe(requestIdSource()().slice(0, 8))
})
