// needs: cc libfabric
/** The life of the fabric's addon in its short form; `npm run rdma-lifetime` is the long one. */
import { rmSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeWatchedCheckout, PLAIN, runKind, type Checkout } from '../../../rdma/lifetime/lifetime.ts'

const KINDS = [
  ['channels', 50],
  ['regions', 40],
  ['devices', 8],
  ['collected', 6],
  ['workers', 6],
  ['exit', 3],
  ['exit', 11],
  ['throw', 5],
] as const

async function expectWell(checkout: Checkout, kind: string, rounds: number): Promise<void> {
  const { code, output } = await runKind(checkout, kind, rounds)
  expect(code, output).toBe(0)
}

describe("the life of the fabric's addon", () => {
  it.each(KINDS)('%s, %i times', (kind, rounds) => expectWell(PLAIN, kind, rounds))

  it('a process with everything open and nothing under way ends by itself', async () => {
    const { code, output } = await runKind(PLAIN, 'idle', 1)
    expect([code, output.trim()]).toEqual([0, 'nothing under way'])
  })

  it('one of those who are told throws', async () => {
    const { code, output } = await runKind(PLAIN, 'thrown', 1)
    expect([code, output.trim()]).toEqual([0, 'all are told'])
  })

  it('a process with something under way does not, until that has ended', async () => {
    const { code, output } = await runKind(PLAIN, 'busy', 1)
    expect([code, output.trim()]).toEqual([0, 'ended, with nothing else to wait for'])
  })
})

describe("the life of the fabric's addon, with AddressSanitizer", () => {
  let watched: Checkout

  beforeAll(async () => {
    watched = await makeWatchedCheckout()
  })
  afterAll(() => rmSync(watched.root, { recursive: true }))

  it.each([
    ['channels', 15],
    ['regions', 4],
    ['exit', 7],
  ])('%s, %i times', (kind, rounds) => expectWell(watched, kind, rounds))

  it('is there', async () => {
    // Asked for help it says what it is, which Node alone would not.
    const { output } = await runKind({ ...watched, env: { ...watched.env, ASAN_OPTIONS: 'help=1' } }, 'idle', 1)
    expect(output).toContain('Available flags for AddressSanitizer')
  })
})
