import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterAll, afterEach, expect, it } from 'vitest'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import { crc32Text, InlineFileSender } from '../../../../src/persist/remote/file-sender.ts'
import { crc32OfPages } from '../../../../src/persist/remote/page-digest.ts'
import { createThreadFileSender } from '../../../../src/persist/remote/thread-file-sender.ts'
import { answer, refuse, startScriptedS3, type ScriptedS3 } from './scripted-s3.ts'

const PAGE_BYTES = 64 * 1024
const directory = mkdtempSync(join(tmpdir(), 'tidegate-digest-'))
afterAll(() => rmSync(directory, { recursive: true }))
let server: ScriptedS3 | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

/** Three pages, the last one short, and a footer behind them. */
const dataBytes = 2 * PAGE_BYTES + 1000
const contents = randomBytes(dataBytes + 333)
const pageCrcs = Uint32Array.from([0, 1, 2], (page) =>
  crc32(contents.subarray(page * PAGE_BYTES, Math.min(dataBytes, (page + 1) * PAGE_BYTES))),
)
const pages = { dataBytes, pageBytes: PAGE_BYTES, pageCrcs }
const path = join(directory, 'segment')
writeFileSync(path, contents)

it.each([
  ['pages and footer', 0, contents.length],
  ['whole pages only', 0, 2 * PAGE_BYTES],
  ['from a page on to the end', PAGE_BYTES, contents.length - PAGE_BYTES],
  ['nothing but footer', dataBytes + 3, 100],
])('joins the CRC of %s without reading the pages', async (_, offset, bytes) => {
  const file = await nodeFileSystem.open(path, 'read')
  const read: number[] = []
  const sender = new InlineFileSender()
  const told: InlineFileSender['digest'] = async (range, kind) => {
    read.push(range.offset)
    return await sender.digest(range, kind)
  }
  const watched = { digest: told, body: sender.body.bind(sender), stop: () => sender.stop() }
  const found = await crc32OfPages(watched, { file, path, offset, bytes, pages })
  expect(found).toBe(crc32Text(crc32(contents.subarray(offset, offset + bytes))))
  for (const from of read) expect(from).toBeGreaterThanOrEqual(dataBytes)
  await file.close()
})

it.each([
  ['that begins within a page', { offset: 10, bytes: PAGE_BYTES }],
  ['that ends within a page', { offset: 0, bytes: PAGE_BYTES + 10 }],
])('knows none of a range %s', async (_, range) => {
  const file = await nodeFileSystem.open(path, 'read')
  expect(await crc32OfPages(new InlineFileSender(), { file, path, ...range, pages })).toBeUndefined()
  await file.close()
})

/** Checks CRC32 as a store does; knows the conditions that connecting tries only as far as it must. */
async function storeThatChecks(): Promise<{ crcs: (string | undefined)[]; object: () => Buffer | undefined }> {
  const crcs: (string | undefined)[] = []
  let object: Buffer | undefined
  server = await startScriptedS3(
    ({ line, headers, body }, response) => {
      const isOurs = line.includes('/prefix/name')
      const crc = headers['x-amz-checksum-crc32'] as string | undefined
      if (line.startsWith('PUT')) {
        if (isOurs) crcs.push(crc)
        if (crc !== undefined && crc !== crc32Text(crc32(body))) return refuse(response, 400, 'BadDigest')
        if (isOurs) object = body
        return void response.writeHead(200, { etag: `"${createHash('md5').update(body).digest('hex')}"` }).end()
      }
      if (line.startsWith('HEAD') && object) {
        const etag = `"${createHash('md5').update(object).digest('hex')}"`
        return void response.writeHead(200, { 'content-length': object.length, etag }).end()
      }
      if (line.startsWith('GET')) return answer(response, '<ListBucketResult></ListBucketResult>')
      response.writeHead(204).end()
    },
    { sender: createThreadFileSender(), timeoutMs: 5_000 },
  )
  await server.store.connect()
  return { crcs, object: () => object }
}

it('C14: what is sent is what was checked when it came, by the CRCs from then', async () => {
  const { crcs, object } = await storeThatChecks()
  await server!.store.putFile('name', { path, bytes: contents.length, pages })
  expect(crcs).toEqual([crc32Text(crc32(contents))])
  expect(object()?.equals(contents)).toBe(true)
})

it('C14: a page that rotted on the disk is refused by the store, and then keeps nothing else back', async () => {
  const { crcs, object } = await storeThatChecks()
  const rotten = Buffer.from(contents)
  rotten.writeUInt8(rotten.readUInt8(70_000) ^ 1, 70_000)
  const rottenPath = join(directory, 'rotten')
  writeFileSync(rottenPath, rotten)
  await server!.store.putFile('name', { path: rottenPath, bytes: rotten.length, pages })
  expect(crcs[0]).toBe(crc32Text(crc32(contents)))
  expect(crcs.at(-1)).toBe(crc32Text(crc32(rotten)))
  expect(object()?.equals(rotten)).toBe(true)
})
