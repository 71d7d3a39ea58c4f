/** What every transport between nodes does (src/common/node-calls.ts, src/rdma/ports.ts), whatever carries it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { TidegateError } from '../../src/common/errors.ts'
import { NODE_BODY_BYTES_MAX, NODE_CALLS_AT_ONCE_MAX, NODE_HEAD_BYTES_MAX } from '../../src/common/node-calls.ts'
import type { NodeRequest } from '../../src/common/node-calls.ts'
import type { Transport } from '../../src/rdma/ports.ts'

export interface TransportHarness {
  /** Nodes 1 and 2, which know each other; handlers are set before `start`. */
  create(onBug: (error: unknown) => void): Promise<readonly [Transport, Transport]>
  /** Both are started: whatever they need to reach each other's memory is there. */
  ready?(): Promise<void>
  /** Memory of a node's that its transport knows; by default any. */
  memory?(node: 1 | 2, bytes: number): Uint8Array
  stop(): Promise<void>
}

const MIB = 1024 * 1024
const NOTHING = new Uint8Array(0)
const SOON = { timeoutMs: 5_000 }

export function testTransport(name: string, harness: TransportHarness): void {
  describe(`calls between nodes: ${name}`, () => {
    let one: Transport
    let two: Transport
    let bugs: unknown[]

    beforeEach(async () => {
      bugs = []
      ;[one, two] = await harness.create((error) => bugs.push(error))
    })

    afterEach(async () => {
      await Promise.all([one.stop(), two.stop()])
      await harness.stop()
    })

    const started = async (): Promise<void> => {
      await Promise.all([one.start(), two.start()])
      await harness.ready?.()
    }
    const room = (node: 1 | 2, bytes: number): Uint8Array => harness.memory?.(node, bytes) ?? new Uint8Array(bytes)
    /** Bytes as node 2 has them. */
    const placed = (bytes: Uint8Array): Uint8Array => {
      const place = room(2, bytes.length)
      place.set(bytes)
      return place
    }
    const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')

    it('carry a head and a body there and back, both ways', async () => {
      let asked: NodeRequest | undefined
      two.serve('block', async (request) => {
        asked = request
        return { head: Buffer.from('answer'), pieces: [placed(Buffer.from('body ')), placed(Buffer.from('of two'))] }
      })
      one.serve('copies', async ({ from }) => ({ head: Buffer.from(`asked by ${from}`) }))
      await started()
      const into = room(1, 100)
      const call = {
        method: 'block',
        head: Buffer.from('question'),
        pieces: [Buffer.from('a'), Buffer.from('bc')],
      } as const
      const { head, body } = await one.call(2, call, { ...SOON, into })
      expect([text(head), text(body)]).toEqual(['answer', 'body of two'])
      expect(body.buffer).toBe(into.buffer)
      expect(asked).toMatchObject({ from: 1 })
      expect([asked?.head, asked?.body].map((bytes) => text(bytes ?? NOTHING))).toEqual(['question', 'abc'])
      const back = await two.call(1, { method: 'copies', head: NOTHING }, SOON)
      expect([text(back.head), back.body.length]).toEqual(['asked by 2', 0])
      expect(one.figures.peers).toMatchObject([{ node: 2, connected: true, calls: 1, failures: 0 }])
    })

    it('carry what is as large as it may be, byte by byte, and many at once in any order', async () => {
      const large = Buffer.alloc(NODE_BODY_BYTES_MAX)
      for (let at = 0; at < large.length; at += 4) large.writeUInt32LE(Math.imul(at + 1, 2654435761) >>> 0, at)
      two.serve('block', async ({ head, body }) => ({
        head,
        pieces: [placed(body.subarray(0, MIB)), placed(body.subarray(MIB))],
      }))
      two.serve('copies', async ({ head }) => {
        await new Promise((resolve) => setTimeout(resolve, (head[0] ?? 0) % 7))
        return { head, pieces: [placed(Buffer.alloc(head[0] ?? 0, head[0]))] }
      })
      await started()
      const head = Buffer.alloc(NODE_HEAD_BYTES_MAX, 9)
      const whole = one.call(
        2,
        { method: 'block', head, pieces: [large] },
        { timeoutMs: 20_000, into: room(1, large.length) },
      )
      const small = Array.from({ length: 200 }, async (_, index) => {
        const reply = await one.call(2, { method: 'copies', head: Buffer.of(index) }, { ...SOON, into: room(1, 256) })
        expect([reply.head[0], reply.body.length]).toEqual([index, index])
        expect(reply.body.every((byte) => byte === index)).toBe(true)
      })
      await Promise.all(small)
      const reply = await whole
      expect(Buffer.from(reply.body).equals(large)).toBe(true)
      expect(head.equals(reply.head)).toBe(true)
    })

    it("bring a handler's error with its code and message; a defect says nothing of itself", async () => {
      two.serve('block', async () => Promise.reject(new TidegateError('DataLost', 'a page is broken')))
      two.serve('copy-drop', async () => Promise.reject(new Error('a path, a secret')))
      await started()
      const failure = one.call(2, { method: 'block', head: NOTHING }, SOON)
      await expect(failure).rejects.toMatchObject({
        code: 'DataLost',
        message: 'a page is broken',
        details: { node: 2 },
      })
      await expect(failure).rejects.toBeInstanceOf(TidegateError)
      const defect: unknown = await one
        .call(2, { method: 'copy-drop', head: NOTHING }, SOON)
        .catch((error: unknown) => error)
      expect(defect).toMatchObject({ code: 'Internal', details: { node: 2 } })
      expect((defect as Error).message).not.toContain('secret')
      expect(bugs).toMatchObject([{ message: 'a path, a secret' }])
      const unserved = one.call(2, { method: 'copies', head: NOTHING }, SOON)
      await expect(unserved).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      expect(one.figures.peers).toMatchObject([{ calls: 3, failures: 3 }])
    })

    it('fail where a body is larger than there is room, and go on', async () => {
      two.serve('block', async ({ head }) => ({ head: NOTHING, pieces: [placed(Buffer.alloc(head[0] ?? 0, 1))] }))
      await started()
      const into = room(1, 10)
      const larger = one.call(2, { method: 'block', head: Buffer.of(11) }, { ...SOON, into })
      await expect(larger).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      expect(into.every((byte) => byte === 0)).toBe(true)
      const nowhere = one.call(2, { method: 'block', head: Buffer.of(1) }, SOON)
      await expect(nowhere).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      expect((await one.call(2, { method: 'block', head: Buffer.of(10) }, { ...SOON, into })).body.length).toBe(10)
    })

    it('settle in time; the handler learns of it; what comes late is written nowhere', async () => {
      const signals: AbortSignal[] = []
      const late = Promise.withResolvers<void>()
      two.serve('block', async ({ signal }) => {
        signals.push(signal)
        await late.promise
        return { head: NOTHING, pieces: [placed(Buffer.alloc(8, 7))] }
      })
      two.serve('copies', async () => ({ head: NOTHING }))
      await started()
      await one.call(2, { method: 'copies', head: NOTHING }, SOON)
      const into = room(1, 8)
      const began = performance.now()
      const call = one.call(2, { method: 'block', head: NOTHING }, { timeoutMs: 300, into })
      await expect(call).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      expect(performance.now() - began).toBeLessThan(4_000)
      await expect.poll(() => signals[0]?.aborted).toBe(true)
      late.resolve()
      // Answered behind it, on the same connection.
      await one.call(2, { method: 'copies', head: NOTHING }, SOON)
      await one.call(2, { method: 'copies', head: NOTHING }, SOON)
      expect([...into]).toEqual(Array.from({ length: 8 }, () => 0))
    })

    it('can be given up, before and while the handler runs', async () => {
      const running = Promise.withResolvers<AbortSignal>()
      two.serve('block', async ({ signal }) => {
        running.resolve(signal)
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
        return { head: NOTHING }
      })
      await started()
      const before = one.call(
        2,
        { method: 'block', head: NOTHING },
        { ...SOON, signal: AbortSignal.abort(new Error('no')) },
      )
      await expect(before).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      const abort = new AbortController()
      const call = one.call(2, { method: 'block', head: NOTHING }, { ...SOON, signal: abort.signal })
      const signal = await running.promise
      expect(signal.aborted).toBe(false)
      abort.abort(new Error('enough'))
      await expect(call).rejects.toMatchObject({ code: 'Unavailable', details: { node: 2 } })
      await expect.poll(() => signal.aborted).toBe(true)
    })

    it('say once that pieces were sent, answered or not, and hand back those of a request', async () => {
      let sent = 0
      const pieces = [placed(Buffer.alloc(300_000, 3)), placed(Buffer.alloc(300_000, 4))]
      const go = Promise.withResolvers<void>()
      const waiting = Promise.withResolvers<void>()
      two.serve('block', async ({ body, head }) => {
        if (head[0] === 1) waiting.resolve()
        if (head[0] === 1) await go.promise
        return { head: Buffer.of(body.every((byte) => byte === 5) ? 1 : 0), pieces, sent: () => sent++ }
      })
      await started()
      const mine = Buffer.alloc(700_000, 5)
      const reply = await one.call(
        2,
        { method: 'block', head: Buffer.of(0), pieces: [mine] },
        { ...SOON, into: room(1, 600_000) },
      )
      mine.fill(0)
      expect([reply.head[0], reply.body[0], reply.body[599_999]]).toEqual([1, 3, 4])
      await expect.poll(() => sent).toBe(1)
      const lost = one.call(2, { method: 'block', head: Buffer.of(1) }, { ...SOON, into: room(1, 600_000) })
      lost.catch(() => undefined)
      await waiting.promise
      await one.stop()
      await expect(lost).rejects.toMatchObject({ code: 'Unavailable' })
      go.resolve()
      await expect.poll(() => sent).toBe(2)
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(sent).toBe(2)
    })

    it('run so many handlers of one node at once, and not more', async () => {
      let running = 0
      let most = 0
      const go = Promise.withResolvers<void>()
      two.serve('block', async () => {
        most = Math.max(most, ++running)
        await go.promise
        running--
        return { head: NOTHING }
      })
      await started()
      const calls = Array.from({ length: NODE_CALLS_AT_ONCE_MAX + 50 }, () =>
        one.call(2, { method: 'block', head: NOTHING }, SOON),
      )
      await expect.poll(() => running).toBe(NODE_CALLS_AT_ONCE_MAX)
      await new Promise((resolve) => setTimeout(resolve, 20))
      go.resolve()
      await Promise.all(calls)
      expect(most).toBe(NODE_CALLS_AT_ONCE_MAX)
    })

    it('are refused at once for a node that is not there, and where one is asked that ended', async () => {
      two.serve('block', async () => ({ head: NOTHING }))
      await started()
      await one.call(2, { method: 'block', head: NOTHING }, SOON)
      const began = performance.now()
      await expect(one.call(3, { method: 'block', head: NOTHING }, SOON)).rejects.toMatchObject({
        code: 'Unavailable',
        details: { node: 3 },
      })
      await two.stop()
      await expect(one.call(2, { method: 'block', head: NOTHING }, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
      expect(performance.now() - began).toBeLessThan(2_000)
    })

    it('drain: what is under way ends, nothing new begins', async () => {
      const go = Promise.withResolvers<void>()
      let began = 0
      two.serve('block', async () => {
        began++
        await go.promise
        return { head: Buffer.from('done') }
      })
      one.serve('copies', async () => ({ head: NOTHING }))
      await started()
      const call = one.call(2, { method: 'block', head: NOTHING }, SOON)
      await expect.poll(() => began).toBe(1)
      let isDrained = false
      const drained = two.drain().then(() => (isDrained = true))
      await expect(one.call(2, { method: 'block', head: NOTHING }, SOON)).rejects.toMatchObject({ code: 'Unavailable' })
      await expect(two.call(1, { method: 'copies', head: NOTHING }, SOON)).rejects.toMatchObject({
        code: 'Unavailable',
      })
      expect([began, isDrained]).toEqual([1, false])
      go.resolve()
      expect(text((await call).head)).toBe('done')
      await drained
    })

    it('stop: calls under way reject, handlers are told', async () => {
      const running = Promise.withResolvers<AbortSignal>()
      two.serve('block', async ({ signal }) => {
        running.resolve(signal)
        return await new Promise(() => undefined)
      })
      await started()
      const call = one.call(2, { method: 'block', head: NOTHING }, SOON)
      call.catch(() => undefined)
      const signal = await running.promise
      await one.stop()
      await expect(call).rejects.toMatchObject({ code: 'Unavailable' })
      await expect.poll(() => signal.aborted).toBe(true)
    })

    it('take calling oneself, and a second handler, for what they are', async () => {
      one.serve('block', async () => ({ head: NOTHING }))
      expect(() => one.serve('block', async () => ({ head: NOTHING }))).toThrow('one handler')
      await started()
      await expect(one.call(1, { method: 'block', head: NOTHING }, SOON)).rejects.toThrow('call itself')
    })
  })
}
