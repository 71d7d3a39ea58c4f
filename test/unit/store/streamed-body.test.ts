import { createHash } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import type { SegmentId } from '../../../src/common/ids.ts'
import { Slab } from '../../../src/cache-tier/slab.ts'
import type { HashStream, Journaling, Memory } from '../../../src/store/byte-ports.ts'
import { StreamedBody } from '../../../src/store/streamed-body.ts'
import { TINY_LIMITS } from '../../sim/life.ts'

const SEGMENT = 'a'.repeat(32) as SegmentId
let slab: Slab
let calls: string[]
let waiting: { resolve: (slot: number) => void }[]
let hashed: Promise<void>

beforeEach(() => {
  slab = new Slab({ bytes: 16 * 256, slotBytes: 256, poison: true })
  calls = []
  waiting = []
  hashed = Promise.resolve()
})

function newBody(expectedLength?: number): StreamedBody {
  const md5 = createHash('md5')
  const hash: HashStream = {
    update: async ({ slabOffset, length }) => {
      await hashed
      md5.update(slab.view(slabOffset, length))
    },
    finish: () => Promise.resolve({ md5: md5.digest('hex'), checksums: { CRC32: 'AAAAAA==' } }),
    abandon: () => calls.push('abandon'),
  }
  const memory = {
    acquire: () => {
      const slot = slab.take()
      return slot === undefined ? new Promise<number>((resolve) => waiting.push({ resolve })) : Promise.resolve(slot)
    },
    release: (slot: number) => slab.give(slot),
    publish: (_: SegmentId, block: number, slot: number) => {
      calls.push(`publish ${block}`)
      slab.give(slot)
    },
    settle: () => undefined,
    view: (offset: number, length: number) => slab.view(offset, length),
  } as unknown as Memory
  const journal = {
    append: ({ pieces }: { pieces: Uint8Array[] }) => {
      calls.push(`append ${pieces.map((piece) => piece.length).join('+')}`)
      return Promise.resolve({ run: {}, sync: () => Promise.resolve(), settled: () => undefined })
    },
    stream: () => ({
      segment: SEGMENT,
      write: (_: number, length: number) => {
        calls.push(`write ${length}`)
        return Promise.resolve()
      },
      finish: () => Promise.resolve({ segment: SEGMENT }),
    }),
    discardStream: () => {
      calls.push('discard stream')
      return Promise.resolve()
    },
  } as unknown as Journaling
  return new StreamedBody({ memory, journal, limits: TINY_LIMITS, hash, content: 1, bucket: 'b', expectedLength })
}

function turns(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5))
}

test.each([0, 1, 255, 256, 257, 1023, 1024])(
  'a body of %i bytes gathers in memory and goes into a shared segment',
  async (length) => {
    const bytes = Buffer.from(Array.from({ length }, (_, at) => at % 251))
    const body = newBody()
    for (let at = 0; at < length; at += 100) await body.append(bytes.subarray(at, at + 100))
    expect((await body.finish()).md5).toBe(createHash('md5').update(bytes).digest('hex'))
    await body.store('{}')
    const pieces = Array.from({ length: Math.ceil(length / 256) }, (_, index) => Math.min(256, length - index * 256))
    expect(calls).toEqual([`append ${pieces.join('+')}`])
    expect(slab.freeSlots).toBe(slab.slots)
  },
)

test('a body that outgrows a shared segment streams, and so does one that says so at once', async () => {
  for (const expectedLength of [undefined, 1100]) {
    calls = []
    const body = newBody(expectedLength)
    const bytes = Buffer.alloc(1100, 3)
    await body.append(bytes)
    expect((await body.finish()).md5).toBe(createHash('md5').update(bytes).digest('hex'))
    await body.store('{}')
    expect(calls.filter((call) => call.startsWith('write'))).toEqual([
      ...Array<string>(4).fill('write 256'),
      'write 76',
    ])
    expect(slab.freeSlots).toBe(slab.slots)
  }
})

test('a block does not pass to the cache before it is hashed, gathered or not', async () => {
  let release = (): void => undefined
  hashed = new Promise((resolve) => (release = resolve))
  const body = newBody()
  const appended = body.append(Buffer.alloc(1100, 3))
  await turns()
  expect(calls.filter((call) => call.startsWith('publish'))).toEqual([])
  release()
  await appended
  expect((await body.finish()).md5).toBe(createHash('md5').update(Buffer.alloc(1100, 3)).digest('hex'))
})

test('discarding gives every slot back, also one that was still waited for', async () => {
  const others = Array.from({ length: slab.slots - 2 }, () => slab.take() as number)
  const body = newBody()
  const appending = body.append(Buffer.alloc(700))
  await turns()
  expect(waiting.length).toBe(1)
  await body.discard()
  const failed = expect(appending).rejects.toMatchObject({ code: 'RequestTimeout' })
  waiting[0]?.resolve(slab.take() as number)
  await failed
  for (const slot of others) slab.give(slot)
  expect(slab.freeSlots).toBe(slab.slots)
})

test('discarding a streaming body removes what it wrote', async () => {
  const body = newBody(5000)
  await body.append(Buffer.alloc(600))
  await body.discard()
  expect(calls).toContain('discard stream')
  expect(slab.freeSlots).toBe(slab.slots)
})
