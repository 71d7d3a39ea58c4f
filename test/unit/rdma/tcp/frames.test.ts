/** Frames: cut in any way they are the same; what is not one is refused; nothing is written where it does not belong. */
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NODE_BODY_BYTES_MAX } from '../../../../src/common/node-calls.ts'
import {
  BadFrame,
  encodeFrame,
  FRAME,
  FRAME_HEAD_BYTES_MAX,
  FrameReader,
  HEADER_BYTES,
} from '../../../../src/rdma/tcp/frames.ts'
import type { Frame, FrameSink } from '../../../../src/rdma/tcp/frames.ts'

/** Keeps what it is told, as text. */
class Sink implements FrameSink {
  readonly told: string[] = []
  fullAfter = Infinity
  #body: Buffer = Buffer.alloc(0)

  isFull(): boolean {
    return this.told.length >= this.fullAfter
  }

  frameBegan({ bodyBytes }: Frame): Uint8Array {
    this.#body = Buffer.alloc(bodyBytes)
    return this.#body
  }

  frameEnded({ kind, id, method, timeoutMs, head }: Frame): void {
    this.told.push(
      [kind, id, method, timeoutMs, Buffer.from(head).toString('hex'), this.#body.toString('hex')].join(' '),
    )
  }
}

const someBytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength })
const someFrame = fc.record({
  kind: fc.constantFrom(...Object.values(FRAME)),
  id: fc.nat({ max: 2 ** 32 - 1 }),
  method: fc.nat({ max: 65_535 }),
  timeoutMs: fc.nat({ max: 2 ** 32 - 1 }),
  head: someBytes(200),
  body: someBytes(300),
})

const encoded = ({ body, ...frame }: { body: Uint8Array } & Omit<Frame, 'bodyBytes'>): Buffer =>
  Buffer.concat([encodeFrame({ ...frame, bodyBytes: body.length }), body])
const GOOD = encoded({
  kind: FRAME.request,
  id: 1,
  method: 1,
  timeoutMs: 5,
  head: Buffer.from('head'),
  body: Buffer.from('body'),
})
const TOLD = '1 1 1 5 68656164 626f6479'

describe('frames', () => {
  it('are the same in whatever pieces they arrive, also where the sink is full in between', () => {
    fc.assert(
      fc.property(
        fc.array(someFrame, { maxLength: 6 }),
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1 }),
        (frames, cuts) => {
          const bytes = Buffer.concat(frames.map(encoded))
          const sink = new Sink()
          const reader = new FrameReader(sink)
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const chunk = bytes.subarray(at, at + (cuts[turn % cuts.length] ?? 1))
            sink.fullAfter = sink.told.length + 1
            const first = reader.take(chunk)
            sink.fullAfter = Infinity
            expect(reader.take(chunk, first)).toBe(chunk.length)
            at += chunk.length
          }
          const hex = (part: Uint8Array): string => Buffer.from(part).toString('hex')
          expect(sink.told).toEqual(
            frames.map(({ kind, id, method, timeoutMs, head, body }) =>
              [kind, id, method, timeoutMs, hex(head), hex(body)].join(' '),
            ),
          )
          expect(reader.isMidFrame).toBe(false)
        },
      ),
    )
  })

  it('are refused with any bit of header or head changed', () => {
    for (let bit = 0; bit < (HEADER_BYTES + 4) * 8; bit++) {
      const bytes = Buffer.from(GOOD)
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const sink = new Sink()
      const reader = new FrameReader(sink)
      // A head that is said to be longer than what came is waited for.
      const padded = Buffer.concat([bytes, Buffer.alloc(FRAME_HEAD_BYTES_MAX)])
      expect(() => reader.take(padded), `bit ${bit}`).toThrow(BadFrame)
      expect(sink.told).toEqual([])
    }
    const sink = new Sink()
    new FrameReader(sink).take(GOOD)
    expect(sink.told).toEqual([TOLD])
  })

  it('are refused over their limits before anything is set aside for them', () => {
    const header = (head: number, body: number): Buffer => {
      const bytes = Buffer.from(GOOD.subarray(0, HEADER_BYTES))
      bytes.writeUInt32BE(head, 16)
      bytes.writeUInt32BE(body, 20)
      return bytes
    }
    const take = (bytes: Buffer) => () => new FrameReader(new Sink()).take(bytes)
    expect(take(header(FRAME_HEAD_BYTES_MAX + 1, 0))).toThrow('a head of')
    expect(take(header(0xffff_ffff, 0))).toThrow('a head of')
    expect(take(header(4, NODE_BODY_BYTES_MAX + 1))).toThrow('a body over')
    expect(take(header(FRAME_HEAD_BYTES_MAX, NODE_BODY_BYTES_MAX))).not.toThrow()
  })

  it('are refused of a kind that is none, and of another version', () => {
    const unknown = encodeFrame({ kind: 7 as Frame['kind'], id: 1 })
    expect(() => new FrameReader(new Sink()).take(unknown)).toThrow('kind 7')
    const later = Buffer.from(GOOD)
    later[2] = 2
    expect(() => new FrameReader(new Sink()).take(later)).toThrow('version 2')
  })

  it('can have the rest of a body skipped: it is written nowhere', () => {
    const sink = new Sink()
    const reader = new FrameReader(sink)
    reader.take(GOOD.subarray(0, GOOD.length - 2))
    expect([reader.skip(2), reader.skip(1)]).toEqual([false, true])
    reader.take(GOOD.subarray(GOOD.length - 2))
    reader.take(GOOD)
    expect(sink.told).toEqual(['1 1 1 5 68656164 626f0000', TOLD])
  })

  it('are no frames at random', () => {
    fc.assert(
      fc.property(someBytes(2_000), (bytes) => {
        const sink = new Sink()
        try {
          new FrameReader(sink).take(bytes)
        } catch (error) {
          expect(error).toBeInstanceOf(BadFrame)
        }
        expect(sink.told).toEqual([])
      }),
    )
  })
})
