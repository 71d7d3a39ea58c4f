import { expect, it } from 'vitest'
import { NOTIFICATIONS_MAX, NotificationQueue } from '../../../../../src/gateway/fuse/channel/notification-queue.ts'

/** A queue whose writes end when the test says so. */
function gatedQueue(): { queue: NotificationQueue; written: number[][]; gates: PromiseWithResolvers<void>[] } {
  const written: number[][] = []
  const gates: PromiseWithResolvers<void>[] = []
  const queue = new NotificationQueue((messages) => {
    written.push([...messages])
    const gate = Promise.withResolvers<void>()
    gates.push(gate)
    return gate.promise
  })
  return { queue, written, gates }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

it('sends what comes in one turn together, and the rest in order behind it', async () => {
  const { queue, written, gates } = gatedQueue()
  const message = Uint8Array.of(1)
  const first = [queue.send(message), queue.send(Uint8Array.of(2))]
  message[0] = 99
  await turn()
  const second = queue.send(Uint8Array.of(3))
  await turn()
  expect(written).toEqual([[1, 2]])
  gates[0]?.resolve()
  await Promise.all(first)
  await turn()
  expect(written).toEqual([[1, 2], [3]])
  gates[1]?.resolve()
  await second
})

it('fails the group that was refused, and goes on', async () => {
  const { queue, gates } = gatedQueue()
  const refused = expect(queue.send(Uint8Array.of(1))).rejects.toThrow('refused')
  await turn()
  const next = queue.send(Uint8Array.of(2))
  gates[0]?.reject(new Error('refused'))
  await refused
  await turn()
  gates[1]?.resolve()
  await next
})

it('is bounded', async () => {
  const { queue, gates } = gatedQueue()
  const underWay = queue.send(Uint8Array.of(0))
  await turn()
  const waiting = Array.from({ length: NOTIFICATIONS_MAX }, () => queue.send(Uint8Array.of(1)))
  await expect(queue.send(Uint8Array.of(2))).rejects.toMatchObject({ code: 'SlowDown' })
  gates[0]?.resolve()
  await underWay
  await turn()
  gates[1]?.resolve()
  await Promise.all(waiting)
})
