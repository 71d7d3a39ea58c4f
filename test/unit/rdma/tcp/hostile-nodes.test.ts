/** A node that is called and does not keep to the protocol: calls of it settle in their time, nothing is written where it does not belong, and another node is called as before. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { NodeCallOptions, NodeReply } from '../../../../src/common/node-calls.ts'
import type { Refusal } from '../../../../src/rdma/ports.ts'
import { encodeFrame, FRAME } from '../../../../src/rdma/tcp/frames.ts'
import type { TcpTransport } from '../../../../src/rdma/tcp/tcp-transport.ts'
import { TcpNodes } from '../../../support/tcp-nodes.ts'
import { rawHello, RawListener, rawProof, type RawSocket } from './raw-node.ts'

const NOTHING = new Uint8Array(0)
const LIMITS = { handshakeMs: 1_000, pingMs: 300, silenceMs: 1_500, frameMs: 2_000 }
const SOON = { timeoutMs: 5_000 }

let nodes: TcpNodes
let one: TcpTransport
let listeners: RawListener[]

beforeEach(async () => {
  nodes = new TcpNodes()
  listeners = []
  one = nodes.make(1, { limits: LIMITS })
  await one.start()
  const friend = nodes.make(3)
  friend.serve('block', async () => ({ head: NOTHING }))
  await friend.start()
})

afterEach(async () => {
  await nodes.stop()
  await Promise.all(listeners.map((listener) => listener.stop()))
})

/** Node 2 is one that does this with each connection. */
async function nodeTwo(talk: (socket: RawSocket) => unknown): Promise<RawListener> {
  const listener = new RawListener(talk)
  listeners.push(listener)
  nodes.tell(2, await listener.start(), '00000000000000b2')
  return listener
}

function callTwo(options: NodeCallOptions = SOON, pieces: readonly Uint8Array[] = []): Promise<NodeReply> {
  return one.call(2, { method: 'block', head: NOTHING, pieces }, options)
}

async function failsWithin(call: Promise<unknown>, ms: number): Promise<Error> {
  const began = performance.now()
  const error: unknown = await call.then(
    () => new Error('it did not fail'),
    (failure: unknown) => failure,
  )
  expect(error).toMatchObject({ code: 'Unavailable', details: { node: 2 } })
  expect(performance.now() - began).toBeLessThan(ms)
  await one.call(3, { method: 'block', head: NOTHING }, SOON)
  return error as Error
}

/** Skips pings. */
async function nextRequest(socket: RawSocket): Promise<number> {
  for (;;) {
    const header = await socket.take(28)
    await socket.take(header.readUInt32BE(16) + header.readUInt32BE(20))
    if (header[3] === FRAME.request) return header.readUInt32BE(4)
    socket.write(encodeFrame({ kind: FRAME.pong, id: header.readUInt32BE(4) }))
  }
}

describe('a node that cannot prove itself', () => {
  const hostile: readonly (readonly [string, Refusal, (socket: RawSocket) => unknown])[] = [
    ['says nothing', 'late', () => undefined],
    ['closes', 'broken', (socket) => socket.socket.end()],
    [
      'resets',
      'broken',
      async (socket) => {
        await socket.take(64)
        socket.socket.resetAndDestroy()
      },
    ],
    [
      'is something else',
      'magic',
      (socket) => socket.write(Buffer.from(`HTTP/1.1 400 Bad Request\r\n${'a'.repeat(100)}`)),
    ],
    ['speaks no version that is known', 'version', (socket) => socket.write(rawHello({ agreed: 0, min: 4, max: 5 }))],
    ['agrees on a version that nobody offered', 'version', (socket) => socket.write(rawHello({ agreed: 2 }))],
    ['is another node', 'node', (socket) => socket.write(rawHello({ agreed: 1, from: 4 }))],
    ['answers another node', 'node', (socket) => socket.write(rawHello({ agreed: 1, to: 4 }))],
    ['says back what it was told', 'version', async (socket) => socket.write(await socket.take(64))],
    [
      'does not know the secret',
      'secret',
      async (socket) => {
        const theirs = await socket.take(64)
        const ours = rawHello({ agreed: 1 })
        await socket.write(ours).take(32)
        socket.write(rawProof('is connected to', [theirs, ours], Buffer.alloc(32)))
      },
    ],
    [
      'says the proof back',
      'secret',
      async (socket) => {
        await socket.take(64)
        socket.write(rawHello({ agreed: 1 }))
        socket.write(await socket.take(32))
      },
    ],
    [
      'stops in its proof',
      'late',
      async (socket) => {
        await socket.take(64)
        await socket.write(rawHello({ agreed: 1 })).take(32)
        socket.write(Buffer.alloc(31))
      },
    ],
  ]

  it.each(hostile)('%s: is not called (%s)', async (_name, reason, talk) => {
    await nodeTwo(talk)
    await failsWithin(callTwo(), 4_000)
    expect(one.figures.refused[reason]).toBeGreaterThan(0)
    expect(one.figures.peers.find(({ node }) => node === 2)).toMatchObject({ connected: false, calls: 1, failures: 1 })
  })

  it('takes longer than a call has: that ends in its own time', async () => {
    await nodeTwo(() => undefined)
    await failsWithin(callTwo({ timeoutMs: 60 }), 900)
    const abort = new AbortController()
    const call = callTwo({ ...SOON, signal: abort.signal })
    abort.abort(new Error('enough'))
    await failsWithin(call, 900)
  })

  it('is not there: calls fail at once, attempts come at longer and longer intervals, and it is called when it is there', async () => {
    const listener = await nodeTwo(() => undefined)
    await listener.stop()
    const error = await failsWithin(callTwo(), 4_000)
    expect(error.message).toContain('ECONNREFUSED')
    const began = performance.now()
    for (let attempt = 0; attempt < 4; attempt++) await failsWithin(callTwo(), 4_000)
    expect(performance.now() - began).toBeGreaterThan(4 * 25)
    const two = nodes.make(2)
    two.serve('block', async () => ({ head: Buffer.from('here') }))
    await two.start()
    expect(Buffer.from((await callTwo()).head).toString()).toBe('here')
  })

  it('has an address that is none', async () => {
    for (const address of ['', 'nonsense', ':80', 'host:', 'host:0', 'host:70000', '127.0.0.1:1e3x']) {
      nodes.tell(2, address)
      await failsWithin(callTwo(), 4_000)
    }
  })
})

describe('a node that has proved itself', () => {
  const hostile: readonly (readonly [string, (id: number) => Uint8Array])[] = [
    ['answers what was not asked', (id) => encodeFrame({ kind: FRAME.reply, id: id + 100 })],
    ['talks at random', () => Buffer.alloc(5_000, 0xa7)],
    ['asks on the connection that asked it', () => encodeFrame({ kind: FRAME.request, id: 1, method: 1 })],
    ['pings', () => encodeFrame({ kind: FRAME.ping, id: 1 })],
  ]

  it.each(hostile)('%s: the connection ends, and its calls', async (_name, answer) => {
    const listener = await nodeTwo(async (socket) => {
      await socket.proveConnected()
      socket.write(answer(await nextRequest(socket)))
    })
    await failsWithin(callTwo(), 4_000)
    await listener.sockets[0]?.closed
    expect(one.figures.badFrames).toBe(1)
  })

  it('answers twice: the connection ends', async () => {
    const listener = await nodeTwo(async (socket) => {
      await socket.proveConnected()
      const id = await nextRequest(socket)
      socket.write(encodeFrame({ kind: FRAME.reply, id })).write(encodeFrame({ kind: FRAME.reply, id }))
    })
    await callTwo()
    await listener.sockets[0]?.closed
    expect(one.figures.badFrames).toBe(1)
  })

  it('answers with an error that cannot be read, or of a code that nobody knows', async () => {
    const heads = [
      Buffer.from('{'),
      Buffer.from('{"code":"__proto__","message":"x"}'),
      Buffer.from('{"code":"DataLost"}'),
      NOTHING,
    ]
    await nodeTwo(async (socket) => {
      await socket.proveConnected()
      for (const head of heads) socket.write(encodeFrame({ kind: FRAME.error, id: await nextRequest(socket), head }))
    })
    for (const _ of heads) await failsWithin(callTwo(), 4_000)
    expect(one.figures.badFrames).toBe(0)
  })

  it('says nothing more: calls end in their time, and the connection too, where there are none', async () => {
    const listener = await nodeTwo((socket) => socket.proveConnected())
    await failsWithin(callTwo({ timeoutMs: 100 }), 1_400)
    await listener.sockets[0]?.closed
    await failsWithin(callTwo(), 4_000)
  })

  it('stops in the middle of an answer: the call ends in its time, and nothing is written any more', async () => {
    const answered = Promise.withResolvers<void>()
    await nodeTwo(async (socket) => {
      await socket.proveConnected()
      const id = await nextRequest(socket)
      socket.write(encodeFrame({ kind: FRAME.reply, id, bodyBytes: 1_000 })).write(Buffer.alloc(500, 7))
      await answered.promise
      socket.write(Buffer.alloc(500, 8))
      socket.write(encodeFrame({ kind: FRAME.reply, id: await nextRequest(socket) }))
    })
    const into = new Uint8Array(1_000)
    await failsWithin(callTwo({ timeoutMs: 700, into }), 3_000)
    expect(into[0]).toBe(7)
    into.fill(0)
    answered.resolve()
    // Answered behind it, on the same connection.
    await callTwo()
    expect(into.every((byte) => byte === 0)).toBe(true)
  })

  it('takes nothing: a request that is half written ends with its connection, so that the bytes are the caller’s again', async () => {
    const listener = await nodeTwo(async (socket) => {
      await socket.proveConnected()
      socket.socket.pause()
    })
    const pieces = [new Uint8Array(16 * 1024 * 1024)]
    await failsWithin(callTwo({ timeoutMs: 700 }, pieces), 3_000)
    await expect.poll(() => listener.sockets.length).toBeGreaterThan(0)
    listener.sockets[0]?.socket.resume()
    await listener.sockets[0]?.closed
  })

  it('resets in the middle: calls under way end at once, and the next one has another connection', async () => {
    let connections = 0
    await nodeTwo(async (socket) => {
      await socket.proveConnected()
      const id = await nextRequest(socket)
      if (++connections === 1) socket.socket.resetAndDestroy()
      else socket.write(encodeFrame({ kind: FRAME.reply, id, head: Buffer.of(9) }))
    })
    await failsWithin(callTwo(), 4_000)
    expect((await callTwo()).head[0]).toBe(9)
  })

  it('owes answers that nobody waits for any more: they come, and harm nobody', async () => {
    await nodeTwo(async (socket) => {
      await socket.proveConnected()
      const first = await nextRequest(socket)
      const second = await nextRequest(socket)
      socket.write(encodeFrame({ kind: FRAME.reply, id: first, bodyBytes: 4 })).write(Buffer.alloc(4, 1))
      socket.write(encodeFrame({ kind: FRAME.reply, id: second, bodyBytes: 4 })).write(Buffer.alloc(4, 2))
    })
    const into = new Uint8Array(4)
    await failsWithin(callTwo({ timeoutMs: 500, into }), 3_000)
    const other = new Uint8Array(4)
    expect([...(await callTwo({ ...SOON, into: other })).body]).toEqual([2, 2, 2, 2])
    expect([...into]).toEqual([0, 0, 0, 0])
  })
})
