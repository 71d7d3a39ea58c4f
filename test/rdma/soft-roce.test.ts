// needs: cc libfabric qemu-system-x86_64 rdma
/**
 * The fabric's tests by `verbs`, over Soft-RoCE in a guest, in their short form; `npm run rdma-test` is the long one. Each that ran there is a test here, so that it is counted.
 */
import { describe, expect, it } from 'vitest'
import { runGuestTests, SHORT_FILES } from './guest/guest-tests.ts'
import { withGuest } from './guest/guest.ts'

/** Ten times what it takes. */
const DEADLINE_MS = 1_200_000
/** No guest is up as soon as this. */
const HUNG_MS = 1_500

const { guest, tests, failure } = await runGuestTests({ files: SHORT_FILES, deadlineMs: DEADLINE_MS })

describe('by verbs over Soft-RoCE', () => {
  it(`a guest comes up (${(guest.bootMs / 1_000).toFixed(1)} s), runs ${tests.length} tests and ends`, () => {
    expect(failure).toBe(undefined)
    expect(tests.length).toBeGreaterThan(20)
    for (const file of SHORT_FILES) expect(tests.filter(({ name }) => name.startsWith(`${file}: `))).not.toEqual([])
  })

  for (const { name, isPassed, messages } of tests) {
    it(name, () => {
      if (!isPassed) throw new Error(messages.join('\n'))
    })
  }
})

describe('a guest', () => {
  it('that hangs is ended, and its console says how far it came', async () => {
    const result = await withGuest({ script: 'sleep 1000', deadlineMs: HUNG_MS }, (ended) => ended)
    expect(result).toMatchObject({ code: undefined })
    expect(result.failure).toContain(`it was ended after ${HUNG_MS / 1_000} s`)
  })
})
