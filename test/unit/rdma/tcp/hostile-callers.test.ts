/** Whoever connects and does not keep to the protocol: costs a bounded time, is counted, and disturbs nobody else. */
import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { NODE_BODY_BYTES_MAX } from '../../../../src/common/node-calls.ts'
import type { Refusal } from '../../../../src/rdma/ports.ts'
import { encodeFrame, FRAME } from '../../../../src/rdma/tcp/frames.ts'
import type { TcpTransport } from '../../../../src/rdma/tcp/tcp-transport.ts'
import { TcpNodes } from '../../../support/tcp-nodes.ts'
import { rawHello, rawProof, RawSocket } from './raw-node.ts'

const NOTHING = new Uint8Array(0)
const LIMITS = { handshakeMs: 500, handshakesMax: 8, pingMs: 100, silenceMs: 500, frameMs: 700 }

let nodes: TcpNodes
let one: TcpTransport
let friend: TcpTransport
let opened: RawSocket[]
let running: number
let go: PromiseWithResolvers<void>

beforeEach(async () => {
  nodes = new TcpNodes()
  opened = []
  running = 0
  go = Promise.withResolvers()
  one = nodes.make(1, { limits: LIMITS })
  friend = nodes.make(3)
  one.serve('block', async ({ head }) => {
    running++
    if (head[0] === 1) await go.promise
    running--
    return { head: Buffer.from('block'), pieces: [Buffer.alloc(head[0] === 2 ? NODE_BODY_BYTES_MAX : 0)] }
  })
  await one.start()
  await friend.start()
})

afterEach(async () => {
  for (const { socket } of opened) socket.destroy()
  go.resolve()
  await nodes.stop()
})

function open(): RawSocket {
  const socket = RawSocket.to(one.address)
  opened.push(socket)
  return socket
}

async function stillServes(): Promise<void> {
  const { head } = await friend.call(1, { method: 'block', head: NOTHING }, { timeoutMs: 2_000 })
  expect(Buffer.from(head).toString()).toBe('block')
}

const request = (id: number, head: Uint8Array = NOTHING, bodyBytes = 0): Buffer =>
  encodeFrame({ kind: FRAME.request, id, method: 1, timeoutMs: 10_000, head, bodyBytes })

describe('who has not proved who it is', () => {
  const hostile: readonly (readonly [string, Refusal, (socket: RawSocket) => unknown])[] = [
    ['says nothing', 'late', () => undefined],
    ['stops in its hello', 'late', (socket) => socket.write(rawHello().subarray(0, 20))],
    ['leaves', 'broken', (socket) => socket.socket.end(rawHello().subarray(0, 20))],
    ['resets', 'broken', (socket) => socket.socket.once('connect', () => socket.socket.resetAndDestroy())],
    [
      'speaks HTTP',
      'magic',
      (socket) => socket.write(Buffer.from(`GET / HTTP/1.1\r\nHost: ${'a'.repeat(80)}\r\n\r\n`)),
    ],
    ['talks at random', 'magic', (socket) => socket.write(randomBytes(4_096))],
    ['talks without end', 'magic', (socket) => socket.write(Buffer.alloc(1024 * 1024))],
    ['means another node', 'node', (socket) => socket.write(rawHello({ to: 5 }))],
    ['says that it is the node itself', 'node', (socket) => socket.write(rawHello({ from: 1 }))],
    ['says that it is nobody', 'node', (socket) => socket.write(rawHello({ from: 0 }))],
    [
      'does not know the secret',
      'secret',
      async (socket) => {
        const ours = rawHello()
        const theirs = await socket.write(ours).take(64)
        socket.write(rawProof('connects', [ours, theirs], Buffer.alloc(32)))
      },
    ],
    [
      'proves in the other role',
      'secret',
      async (socket) => {
        const ours = rawHello()
        const theirs = await socket.write(ours).take(64)
        socket.write(rawProof('is connected to', [ours, theirs]))
      },
    ],
    [
      'proves for a connection before',
      'secret',
      async (socket) => {
        const ours = rawHello()
        const before = open()
        const then = await before.write(ours).take(64)
        before.socket.destroy()
        await socket.write(ours).take(64)
        socket.write(rawProof('connects', [ours, then]))
      },
    ],
    [
      'proves as another node',
      'secret',
      async (socket) => {
        const ours = rawHello({ from: 2 })
        const theirs = await socket.write(rawHello({ from: 4 })).take(64)
        socket.write(rawProof('connects', [ours, theirs]))
      },
    ],
    [
      'asks before it was answered',
      'broken',
      async (socket) => {
        const ours = rawHello()
        const theirs = await socket.write(ours).take(64)
        socket.write(Buffer.concat([rawProof('connects', [ours, theirs]), request(1)]))
      },
    ],
  ]

  it.each(hostile)('%s: is refused (%s)', async (_name, reason, talk) => {
    const before = one.figures.refused[reason]
    const socket = open()
    await talk(socket)
    await socket.closed
    await expect.poll(() => one.figures.refused[reason]).toBeGreaterThan(before)
    expect(one.figures.peers.find(({ node }) => node === 2)).toBeUndefined()
    expect(socket.held.length).toBeLessThanOrEqual(64)
    await stillServes()
  })

  it('speaks other versions only: is told which are spoken, and proved nothing', async () => {
    const socket = open()
    const answer = await socket.write(rawHello({ min: 2, max: 9 })).take(64)
    expect([answer.readUInt16BE(8), answer.readUInt16BE(10), answer.readUInt16BE(12)]).toEqual([1, 1, 0])
    await socket.closed
    expect(one.figures.refused.version).toBe(1)
    const newer = await open()
      .write(rawHello({ min: 1, max: 9 }))
      .take(64)
    expect(newer.readUInt16BE(12)).toBe(1)
    await stillServes()
  })

  it('is one of few: those beyond are closed at once, and there is room again in time', async () => {
    await stillServes()
    const silent = Array.from({ length: 20 }, open)
    await expect.poll(() => one.figures.refused.crowded).toBe(12)
    await stillServes()
    await Promise.all(silent.map((socket) => socket.closed))
    expect(one.figures.refused.late).toBe(8)
    await (await open().proveConnecting()).write(request(1)).take(28)
  })
})

describe('who has proved who it is', () => {
  const hostile: readonly (readonly [string, () => Uint8Array])[] = [
    ['talks at random', () => randomBytes(10_000)],
    ['says a frame of another version', () => request(1).fill(2, 2, 3)],
    ['says a checksum that does not fit', () => request(1).fill(0xee, 24, 28)],
    ['answers what was not asked', () => encodeFrame({ kind: FRAME.reply, id: 1 })],
    ['says an error', () => encodeFrame({ kind: FRAME.error, id: 1 })],
    ['says a pong', () => encodeFrame({ kind: FRAME.pong, id: 1 })],
    ['sends a ping with a body', () => encodeFrame({ kind: FRAME.ping, id: 1, bodyBytes: 1 })],
    ['uses an id twice', () => Buffer.concat([request(7, Buffer.of(1)), request(7, Buffer.of(1))])],
    ['announces a body over the limit', () => request(1, NOTHING, NODE_BODY_BYTES_MAX + 1)],
  ]

  it.each(hostile)('%s: the connection ends', async (_name, bytes) => {
    const socket = await open().proveConnecting()
    socket.write(bytes())
    await socket.closed
    expect(one.figures.badFrames).toBe(1)
    go.resolve()
    await expect.poll(() => running).toBe(0)
    await stillServes()
  })

  it('stops in the middle of a frame, or says nothing more: the connection ends in time', async () => {
    const half = await open().proveConnecting()
    half.write(request(1, NOTHING, 100)).write(Buffer.alloc(10))
    const silent = await open().proveConnecting()
    await Promise.all([half.closed, silent.closed])
    expect(one.figures.badFrames).toBe(0)
    await stillServes()
  })

  it('gives signs of life and never ends its frame: the connection ends in time', async () => {
    const slow = await open().proveConnecting()
    slow.write(request(1, NOTHING, 100_000))
    const drip = setInterval(() => slow.write(Buffer.alloc(1)), 20)
    await slow.closed
    clearInterval(drip)
    await stillServes()
  })

  it('asks for much and takes nothing: no more is read of it, and the connection ends in time', async () => {
    const socket = await open().proveConnecting()
    socket.socket.pause()
    for (let id = 1; id <= 100; id++) socket.write(request(id, Buffer.of(2)))
    // It pings, so it does not count as silent.
    const pings = setInterval(() => socket.write(encodeFrame({ kind: FRAME.ping, id: 1_000 })), 40)
    await stillServes()
    await expect.poll(() => one.figures.peers.find(({ node }) => node === 2)?.bytesOut ?? 0).toBeGreaterThan(0)
    await expect.poll(() => socket.socket.destroyed || socket.socket.errored !== null, { timeout: 3_000 }).toBe(true)
    clearInterval(pings)
    await stillServes()
  })

  it('asks more at once than is run: the rest waits, and the signs of life go on meanwhile', async () => {
    const socket = await open().proveConnecting()
    socket.write(Buffer.concat(Array.from({ length: 300 }, (_, index) => request(index + 1, Buffer.of(1)))))
    await expect.poll(() => running).toBe(256)
    const pong = await socket.take(28)
    expect([pong[3], pong.readUInt32BE(4)]).toEqual([FRAME.pong, 0])
    expect(running).toBe(256)
    await stillServes()
    go.resolve()
    const answers = new Set<number>()
    while (answers.size < 300) {
      const header = await socket.take(28)
      await socket.take(header.readUInt32BE(16))
      if (header[3] === FRAME.reply) answers.add(header.readUInt32BE(4))
    }
    expect(running).toBe(0)
  })

  it('leaves a request half sent, again and again: what it had reserved is free again', async () => {
    for (let round = 0; round < 10; round++) {
      const socket = await open().proveConnecting()
      socket.write(request(1, NOTHING, NODE_BODY_BYTES_MAX)).write(Buffer.alloc(1_000))
      await new Promise((resolve) => setTimeout(resolve, 5))
      socket.socket.destroy()
      await socket.closed
    }
    const socket = await open().proveConnecting()
    expect((await socket.write(request(1)).take(28))[3]).toBe(FRAME.reply)
  })

  it('is of a later version, and asks what is not known here: is told so', async () => {
    const socket = await open().proveConnecting()
    const header = await socket.write(encodeFrame({ kind: FRAME.request, id: 4, method: 999 })).take(28)
    expect([header[3], header.readUInt32BE(4)]).toEqual([FRAME.error, 4])
    expect((await socket.take(header.readUInt32BE(16))).toString()).toContain('NotImplemented')
    expect(one.figures.badFrames).toBe(0)
  })

  it('is another process now: what the one before has under way is told so', async () => {
    const before = await open().proveConnecting()
    before.write(request(1, Buffer.of(1)))
    await expect.poll(() => running).toBe(1)
    await open().proveConnecting({ incarnation: '00000000000000b3' })
    await before.closed
    await stillServes()
  })

  it('says what is nearly right, in any way: the node lives, and holds nothing back', async () => {
    const frame = fc.oneof(
      fc.nat({ max: 5 }).map((id) => request(id, Buffer.of(0))),
      fc.nat({ max: 5 }).map((id) => encodeFrame({ kind: FRAME.cancel, id })),
      fc.nat({ max: 5 }).map((id) => encodeFrame({ kind: FRAME.ping, id })),
      fc.uint8Array({ maxLength: 100 }).map((body) => Buffer.concat([request(9, NOTHING, body.length), body])),
    )
    const damage = fc.record({ at: fc.nat({ max: 600 }), bit: fc.nat({ max: 7 }), cut: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { minLength: 1, maxLength: 12 }), fc.option(damage), async (frames, damaged) => {
        const socket = await open().proveConnecting()
        const bytes = Buffer.concat(frames)
        const at = damaged === null ? -1 : damaged.at % bytes.length
        if (damaged !== null) bytes[at] = (bytes[at] ?? 0) ^ (1 << damaged.bit)
        socket.socket.end(damaged?.cut === true ? bytes.subarray(0, at) : bytes)
        await socket.closed
      }),
      { numRuns: 60 },
    )
    await expect.poll(() => running).toBe(0)
    await stillServes()
  })

  it('makes connection upon connection: the oldest end', async () => {
    const first = await open().proveConnecting()
    for (let count = 0; count < 8; count++) await open().proveConnecting()
    await first.closed
    await stillServes()
  })
})
