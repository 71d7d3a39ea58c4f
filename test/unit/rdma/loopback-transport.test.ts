/** What the transport within the process has beyond the others: faults under a test's hand, and time by its clock. */
import { describe, expect, it } from 'vitest'
import { LoopbackNetwork } from '../../../src/rdma/loopback/loopback-transport.ts'
import { HandClock, turn } from '../../conformance/hand-clock.ts'

const NOTHING = new Uint8Array(0)

describe('nodes that are cut off from each other within the process', () => {
  it.each(['refused', 'silent'] as const)('are %s, and answer again when that is mended', async (how) => {
    const clock = new HandClock()
    const network = new LoopbackNetwork(clock)
    const [one, two, three] = [network.join(1), network.join(2), network.join(3)]
    let asked = 0
    for (const node of [two, three]) {
      node.serve('block', async () => {
        asked++
        return { head: NOTHING }
      })
    }
    await Promise.all([one, two, three].map((node) => node.start()))
    const ask = (node: number): Promise<unknown> =>
      one.call(node, { method: 'block', head: NOTHING }, { timeoutMs: 1_000 })
    network.cut(2, 1, how)
    let failure: unknown
    ask(2).catch((error: unknown) => (failure = error))
    for (let turns = 0; turns < 5; turns++) await turn()
    expect(failure !== undefined).toBe(how === 'refused')
    await clock.advance(1_000)
    for (let turns = 0; turns < 5; turns++) await turn()
    expect(failure).toMatchObject({ code: 'Unavailable', details: { node: 2 } })
    expect(asked).toBe(0)
    await ask(3)
    network.mend(1, 2)
    await ask(2)
    expect(asked).toBe(2)
  })

  it('lose the answer of a handler that was running', async () => {
    const network = new LoopbackNetwork(new HandClock())
    const [one, two] = [network.join(1), network.join(2)]
    const go = Promise.withResolvers<void>()
    let sent = 0
    two.serve('block', async () => {
      await go.promise
      return { head: NOTHING, sent: () => sent++ }
    })
    await Promise.all([one.start(), two.start()])
    const call = one.call(2, { method: 'block', head: NOTHING }, { timeoutMs: 1_000 })
    call.catch(() => undefined)
    await turn()
    network.cut(1, 2, 'refused')
    go.resolve()
    await expect(call).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
    expect(sent).toBe(1)
  })
})
