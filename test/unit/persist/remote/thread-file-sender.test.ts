import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, it } from 'vitest'
import { nodeFileSystem } from '../../../../src/persist/node-file-system.ts'
import type { FileBody, FileRange, FileSender } from '../../../../src/persist/remote/file-sender.ts'
import { createThreadFileSender, sendFromThread } from '../../../../src/persist/remote/thread-file-sender.ts'

/** More than the system takes for a server that does not read. */
const BYTES = 2 ** 25
const directory = mkdtempSync(join(tmpdir(), 'tidegate-sender-'))
const path = join(directory, 'file')
const contents = randomBytes(BYTES)
writeFileSync(path, contents)
afterAll(() => rmSync(directory, { recursive: true }))

let server: Server | undefined
let sender: FileSender | undefined
afterEach(async () => {
  await sender?.stop()
  server?.closeAllConnections()
  server?.close()
})

interface Seen {
  begun: boolean
  bytes: number
  closed: boolean
}

interface Serving {
  readonly send: (body: FileBody) => ReturnType<typeof sendFromThread>
  readonly seen: Seen
  /** Lets a server read that did not. */
  readonly resume: () => void
}

/** Reads, and answers once everything has come. */
async function serve(isReading = true): Promise<Serving> {
  const seen: Seen = { begun: false, bytes: 0, closed: false }
  const { promise: reading, resolve: resume } = Promise.withResolvers<void>()
  if (isReading) resume()
  server = createServer((request, response) => {
    seen.begun = true
    request.on('error', () => undefined)
    request.on('close', () => (seen.closed = true))
    request.on('end', () => response.writeHead(200, { etag: '"e"' }).end('answer'))
    void reading.then(() => request.on('data', (chunk: Buffer) => (seen.bytes += chunk.length)))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const headers = { 'content-length': String(BYTES) }
  const head = { protocol: 'http:', hostname: '127.0.0.1', port, method: 'PUT', path: '/x', headers }
  return { send: (body) => sendFromThread({ ...head, body }), seen, resume }
}

async function range(): Promise<FileRange> {
  return { file: await nodeFileSystem.open(path, 'read'), path, offset: 0, bytes: BYTES }
}

it('leaves to the SDK what is none of its bodies', async () => {
  const request = { protocol: 'http:', hostname: '127.0.0.1', method: 'PUT', path: '/', headers: {} }
  expect(await sendFromThread({ ...request, body: Buffer.from('bytes') })).toBeUndefined()
})

it('gives back the answer', async () => {
  const { send, seen } = await serve()
  sender = createThreadFileSender()
  const place = await range()
  const answer = await send(sender.body(place, { pace: undefined, progress: () => undefined }))
  expect(answer).toMatchObject({ statusCode: 200, headers: { etag: '"e"' } })
  expect(Buffer.concat(await answer!.body.toArray()).toString()).toBe('answer')
  expect(seen.bytes).toBe(BYTES)
  await place.file.close()
})

it('asks before each chunk where there is a rate', async () => {
  const { send, seen } = await serve()
  sender = createThreadFileSender()
  const place = await range()
  let allowed = 0
  const pace = async (bytes: number): Promise<void> => {
    expect(seen.bytes).toBeLessThanOrEqual(allowed)
    allowed += bytes
    await sleep(1)
  }
  await send(sender.body(place, { pace, progress: () => undefined }))
  expect(allowed).toBe(BYTES)
  await place.file.close()
})

it('has nothing under way any more once a body has ended, though the store takes nothing', async () => {
  const { send, seen, resume } = await serve(false)
  sender = createThreadFileSender()
  const place = await range()
  const body = sender.body(place, { pace: undefined, progress: () => undefined })
  const sending = send(body)
  await expect.poll(() => seen.begun, { timeout: 10_000 }).toBe(true)
  expect(seen.closed).toBe(false)
  await Promise.all([body.ended(), expect(sending).rejects.toThrow('given up')])
  resume()
  await expect.poll(() => seen.closed, { timeout: 10_000 }).toBe(true)
  expect(seen.bytes).toBeLessThan(BYTES)
  await place.file.close()
})

it('fails what is under way when it is stopped, and what comes later', async () => {
  const { send } = await serve(false)
  sender = createThreadFileSender()
  const place = await range()
  const control = { pace: undefined, progress: () => undefined }
  const sending = send(sender.body(place, control))
  await Promise.all([sender.stop(), expect(sending).rejects.toThrow('stopped')])
  await expect(send(sender.body(place, control))).rejects.toThrow('stopped')
  await expect(sender.digest(place, 'md5')).rejects.toThrow('stopped')
  await place.file.close()
})

it('says that the file cannot be read, which no other attempt mends', async () => {
  const { send } = await serve()
  sender = createThreadFileSender()
  const place = { ...(await range()), path: join(directory, 'none') }
  const body = sender.body(place, { pace: undefined, progress: () => undefined })
  await expect(send(body)).rejects.toThrow('no such file')
  expect(body.failure?.message).toContain('no such file')
  await expect(sender.digest(place, 'crc32')).rejects.toThrow('no such file')
  await place.file.close()
})

it('does not begin what was given up while the SDK prepared it', async () => {
  const { send, seen } = await serve()
  sender = createThreadFileSender()
  const place = await range()
  const body = sender.body(place, { pace: undefined, progress: () => undefined })
  await body.ended()
  await expect(send(body)).rejects.toThrow('given up')
  expect(seen.bytes).toBe(0)
  await place.file.close()
})
