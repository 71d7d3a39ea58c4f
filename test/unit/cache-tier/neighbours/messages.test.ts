import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
  OUTCOMES,
} from '../../../../src/cache-tier/neighbours/messages.ts'
import type { SegmentId } from '../../../../src/common/ids.ts'

const word = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const segment = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex') as SegmentId)

test('questions and answers are read as they were written', () => {
  fc.assert(
    fc.property(fc.record({ segment, block: word, needed: word, from: word, mayFetch: fc.boolean() }), (question) => {
      const read = decodeQuestion(encodeQuestion(question))
      expect(read).toEqual(question.from === 0 || question.from < question.needed ? question : undefined)
    }),
  )
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 16 }), fc.nat({ max: 63 }), (crcs, short) => {
      const answer = {
        outcome: 'here',
        length: crcs.length * 64 - short,
        pageBytes: 64,
        pageCrcs: Uint32Array.from(crcs),
      } as const
      expect(decodeAnswer(encodeAnswer(answer))).toEqual(answer)
    }),
  )
  for (const outcome of OUTCOMES) {
    if (outcome !== 'here') expect(decodeAnswer(encodeAnswer({ outcome }))).toEqual({ outcome })
  }
})

test('whatever comes is read or refused, and never thrown at', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const answer = decodeAnswer(bytes)
      if (answer?.outcome === 'here') expect(Buffer.from(encodeAnswer(answer))).toEqual(Buffer.from(bytes))
      const question = decodeQuestion(bytes)
      if (question) expect(Buffer.from(encodeQuestion(question))).toEqual(Buffer.from(bytes))
    }),
    { numRuns: 2000 },
  )
  const here = encodeAnswer({ outcome: 'here', length: 100, pageBytes: 64, pageCrcs: Uint32Array.of(1, 2) })
  expect(decodeAnswer(here)?.outcome).toBe('here')
  expect(decodeAnswer(here.subarray(0, -1))).toBeUndefined()
  expect(decodeAnswer(here.subarray(0, 5))).toBeUndefined()
  expect(decodeAnswer(Buffer.concat([here, Buffer.of(0)]))).toBeUndefined()
  expect(decodeAnswer(Buffer.alloc(9))).toBeUndefined()
  expect(decodeAnswer(Buffer.alloc(13))).toBeUndefined()
})
