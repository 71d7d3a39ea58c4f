import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createPageReaderThreads } from '../../../../src/cache-tier/disk/page-reader.ts'
import type { PageReader } from '../../../../src/cache-tier/ports.ts'
import { systemClock } from '../../../../src/common/clock.ts'

const PAGE_BYTES = 64 * 1024
const BYTES = 2 ** 20 - 1000

const directory = mkdtempSync(join(tmpdir(), 'tidegate-page-reader-'))
const path = join(directory, 'pages')
const slab = new SharedArrayBuffer(8 * 2 ** 20)
const content = Buffer.from(
  Uint32Array.from({ length: Math.ceil(BYTES / 4) }, (_, at) => Math.imul(at, 2654435761)).buffer,
  0,
  BYTES,
)
const pageCrcs = Uint32Array.from({ length: Math.ceil(BYTES / PAGE_BYTES) }, (_, page) =>
  crc32(content.subarray(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)),
)
let reader: PageReader
let handle: number

beforeAll(async () => {
  reader = createPageReaderThreads({ slab, clock: systemClock, threads: 2 })
  await reader.start()
  writeFileSync(path, content)
  handle = await reader.open(path)
})
beforeEach(() => {
  writeFileSync(path, content)
  new Uint8Array(slab).fill(0)
})
afterAll(async () => {
  await reader.close(handle)
  await reader.stop()
  rmSync(directory, { recursive: true })
})

function read(slabOffset = 0): ReturnType<PageReader['read']> {
  return reader.read({ handle, position: 0, slabOffset, length: BYTES, pageBytes: PAGE_BYTES, pageCrcs })
}

test('long reads come whole, one alone and more at once than the threads take', async () => {
  expect(await read()).toBe('good')
  expect(Buffer.from(slab, 0, BYTES).equals(content)).toBe(true)
  const many = await Promise.all(Array.from({ length: 8 }, (_, slot) => read(slot * 2 ** 20)))
  expect(new Set(many)).toEqual(new Set(['good']))
  for (let slot = 0; slot < 8; slot++) expect(Buffer.from(slab, slot * 2 ** 20, BYTES).equals(content)).toBe(true)
})

test('a page that changed after it was read well is found at the next read (C14)', async () => {
  expect(await read()).toBe('good')
  for (const at of [0, 700_000, BYTES - 1]) {
    const damaged = readFileSync(path)
    damaged[at] = (damaged[at] ?? 0) ^ 1
    writeFileSync(path, damaged)
    expect(await read()).toBe('bad')
    writeFileSync(path, content)
  }
  expect(await read()).toBe('good')
})

test('a file that ends too early is bad, one that cannot be read a failure', async () => {
  writeFileSync(path, content.subarray(0, BYTES - 1))
  expect(await read()).toBe('bad')
  const folder = await reader.open(directory)
  const want = { position: 0, slabOffset: 0, length: BYTES, pageBytes: PAGE_BYTES, pageCrcs }
  expect(await reader.read({ ...want, handle: folder })).toBe('failed')
  await reader.close(folder)
})
