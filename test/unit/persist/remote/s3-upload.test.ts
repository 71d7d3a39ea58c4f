import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { InlineFileSender, type FileSender } from '../../../../src/persist/remote/file-sender.ts'
import type { S3StoreOptions } from '../../../../src/persist/remote/s3-store.ts'
import { planParts } from '../../../../src/persist/remote/s3-upload.ts'
import { createThreadFileSender } from '../../../../src/persist/remote/thread-file-sender.ts'
import { answer, refuse, startScriptedS3, type Script, type ScriptedRequest, type ScriptedS3 } from './scripted-s3.ts'

const MIB = 2 ** 20
const TIB = 2 ** 40

const directory = mkdtempSync(join(tmpdir(), 'tidegate-upload-'))
const large = randomBytes(40 * MIB + 7)
const largePath = join(directory, 'large')
writeFileSync(largePath, large)
afterAll(() => rmSync(directory, { recursive: true }))

let server: ScriptedS3 | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

/** Both twins, held to the same. */
const SENDERS: [string, () => FileSender][] = [
  ['in the thread of the caller', () => new InlineFileSender()],
  ['by a thread of its own', createThreadFileSender],
]

const startWith =
  (createSender: () => FileSender) =>
  (script: Script, options: Partial<S3StoreOptions> = {}): Promise<ScriptedS3> =>
    startScriptedS3(script, { sender: createSender(), ...options })

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')

describe('parts', () => {
  it.each([0, 1, 16 * MIB, 16 * MIB + 1, 64 * MIB, 160_000 * MIB + 1, 5 * TIB - 1, 5 * TIB])(
    'of %i bytes cover all of it, and are as many and as large as S3 allows',
    (bytes) => {
      const parts = planParts(bytes)
      let offset = 0
      parts.forEach((part, index) => {
        expect(part.number).toBe(index + 1)
        expect(part.offset).toBe(offset)
        offset += part.bytes
      })
      expect(offset).toBe(bytes)
      expect(parts.length).toBeLessThanOrEqual(10_000)
      for (const part of parts.slice(0, -1)) expect(part.bytes).toBeGreaterThanOrEqual(16 * MIB)
      expect(Math.max(...parts.map((part) => part.bytes))).toBeLessThan(5 * 2 ** 30)
    },
  )
})

interface Uploaded {
  readonly parts: Map<number, Buffer>
  object: Buffer | undefined
  completed: number
  abandoned: number
}

/** Uploads in parts as they should be. `before` may answer first, and says so by returning true. */
function multipart(
  before: (request: ScriptedRequest, response: ServerResponse, attempt: number) => boolean = () => false,
): { script: Script; state: Uploaded } {
  const state: Uploaded = { parts: new Map(), object: undefined, completed: 0, abandoned: 0 }
  const script: Script = (request, response, attempt) => {
    const { line, headers, body } = request
    if (before(request, response, attempt)) return
    const part = Number(/partNumber=(\d+)/.exec(line)?.[1])
    if (line.startsWith('POST') && line.includes('?uploads')) {
      answer(response, '<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>')
    } else if (line.startsWith('PUT') && part > 0) {
      if (headers['content-md5'] !== createHash('md5').update(body).digest('base64')) refuse(response, 400, 'BadDigest')
      else {
        state.parts.set(part, body)
        response.writeHead(200, { etag: `"${md5(body)}"` }).end()
      }
    } else if (line.startsWith('POST')) {
      if (state.completed++ > 0) return refuse(response, 404, 'NoSuchUpload')
      state.object = Buffer.concat([...state.parts].sort(([a], [b]) => a - b).map(([, bytes]) => bytes))
      answer(response, `<CompleteMultipartUploadResult><ETag>${etagOf(state)}</ETag></CompleteMultipartUploadResult>`)
    } else if (line.startsWith('DELETE')) {
      state.abandoned++
      response.writeHead(204).end()
    } else if (state.object === undefined) response.writeHead(404).end()
    else response.writeHead(200, { 'content-length': state.object.length, etag: etagOf(state) }).end()
  }
  return { script, state }
}

function etagOf({ parts }: Uploaded): string {
  const digests = [...parts].sort(([a], [b]) => a - b).map(([, bytes]) => md5(bytes))
  return `"${md5(Buffer.from(digests.join(''), 'hex'))}-${parts.size}"`
}

const isCompletion = ({ line }: ScriptedRequest): boolean => line.startsWith('POST') && line.includes('uploadId=')

describe.each(SENDERS)('an upload in parts, %s', (_, createSender) => {
  const start = startWith(createSender)
  const file = { path: largePath, bytes: large.length }

  it('arrives whole, each part with its digest', async () => {
    const { script, state } = multipart()
    server = await start(script, { timeoutMs: 10_000 })
    await server.store.putFile('name', file)
    expect(state.object?.equals(large)).toBe(true)
    expect([...state.parts.values()].map((part) => part.length).sort((a, b) => b - a)).toEqual([
      16 * MIB,
      16 * MIB,
      8 * MIB + 7,
    ])
    expect(server.lines().at(-1)).toBe('HEAD /bucket/prefix/name')
    expect(state.abandoned).toBe(0)
  })

  it('repeats a part that was torn, and only that one', async () => {
    const { script, state } = multipart(({ line }, response, attempt) => {
      if (!line.includes('partNumber=2') || attempt > 2) return false
      response.destroy()
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await server.store.putFile('name', file)
    expect(state.object?.equals(large)).toBe(true)
    expect(server.lines().filter((line) => line.includes('partNumber=2'))).toHaveLength(3)
    expect(server.lines().filter((line) => line.includes('partNumber='))).toHaveLength(5)
  })

  it('that fails is abandoned, after its parts have ended', async () => {
    const { script, state } = multipart(({ line }, response) => {
      if (!line.includes('partNumber=3')) return false
      refuse(response, 403, 'AccessDenied')
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await expect(server.store.putFile('name', file)).rejects.toMatchObject({ code: 'AccessDenied' })
    expect(state).toMatchObject({ object: undefined, completed: 0, abandoned: 1 })
    expect(server.lines().at(-1)).toMatch(/^DELETE .*uploadId=id/)
  })

  it('whose completion was answered by a broken connection is believed when the object is what was sent', async () => {
    const { script, state } = multipart((request, response, attempt) => {
      if (!isCompletion(request) || attempt > 1) return false
      state.completed = 1
      state.object = large
      response.destroy()
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await server.store.putFile('name', file)
    expect(state.abandoned).toBe(0)
  })

  it('whose completion was answered by a broken connection is not believed when something else is there', async () => {
    const { script, state } = multipart((request, response, attempt) => {
      if (!isCompletion(request) || attempt > 1) return false
      state.completed = 1
      state.object = Buffer.from('what was there before')
      response.destroy()
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await expect(server.store.putFile('name', file)).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is not completed when the id of the upload is unknown to begin with', async () => {
    const { script } = multipart((request, response) => {
      if (!isCompletion(request)) return false
      refuse(response, 404, 'NoSuchUpload')
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await expect(server.store.putFile('name', file)).rejects.toMatchObject({
      code: 'Unavailable',
      details: { remoteCode: 'NoSuchUpload' },
    })
  })

  it('is given up by the signal, and abandoned', async () => {
    const controller = new AbortController()
    const { script, state } = multipart(({ line }) => {
      if (!line.includes('partNumber=')) return false
      controller.abort(new Error('not needed any more'))
      return true
    })
    server = await start(script, { timeoutMs: 10_000 })
    await expect(server.store.putFile('name', file, controller.signal)).rejects.toThrow('not needed any more')
    expect(state).toMatchObject({ completed: 0, abandoned: 1 })
  })

  it('reports a file that became shorter meanwhile, and does not repeat that', async () => {
    const path = join(directory, 'shrinking')
    writeFileSync(path, large)
    const { script, state } = multipart(({ line }) => {
      if (line.includes('?uploads')) truncateSync(path, 20 * MIB)
      return false
    })
    server = await start(script, { timeoutMs: 10_000 })
    await expect(server.store.putFile('name', { path, bytes: large.length })).rejects.toThrow(/cannot read .*shrinking/)
    expect(state).toMatchObject({ completed: 0, abandoned: 1 })
  })
})

describe.each(SENDERS)('an upload in one request, %s', (_, createSender) => {
  const start = startWith(createSender)
  const small = { path: join(directory, 'small'), bytes: 100_000 }
  writeFileSync(small.path, large.subarray(0, small.bytes))
  const head =
    (bytes: number, etag: string): Script =>
    ({ line }, response) =>
      void response.writeHead(200, { etag, ...(line.startsWith('HEAD') ? { 'content-length': bytes } : {}) }).end()

  it('is looked at when it is done', async () => {
    server = await start(head(small.bytes, '"etag"'))
    await server.store.putFile('name', small)
    expect(server.lines()).toEqual(['PUT /bucket/prefix/name', 'HEAD /bucket/prefix/name'])
    const [put] = server.requests
    expect(put?.body.equals(large.subarray(0, small.bytes))).toBe(true)
    expect(put?.headers).toMatchObject({
      'content-length': '100000',
      'content-md5': createHash('md5').update(large.subarray(0, small.bytes)).digest('base64'),
    })
    expect(put?.headers).not.toHaveProperty('transfer-encoding')
    expect(put?.headers).not.toHaveProperty('expect')
  })

  it('is not believed when the store has another length', async () => {
    server = await start(head(small.bytes - 1, '"etag"'))
    await expect(server.store.putFile('name', small)).rejects.toThrow('100000 bytes were uploaded, the store has 99999')
  })

  it('is not believed when the store has another ETag', async () => {
    server = await start(({ line }, response) =>
      line.startsWith('HEAD')
        ? response.writeHead(200, { 'content-length': small.bytes, etag: '"other"' }).end()
        : response.writeHead(200, { etag: '"etag"' }).end(),
    )
    await expect(server.store.putFile('name', small)).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is not believed when it is gone', async () => {
    server = await start(({ line }, response) =>
      response.writeHead(line.startsWith('HEAD') ? 404 : 200, { etag: '"etag"' }).end(),
    )
    await expect(server.store.putFile('name', small)).rejects.toThrow()
  })

  it('is not faster than the rate, and is not given up for that', async () => {
    server = await start(head(16 * MIB, '"etag"'), { bytesPerSecond: 10 * MIB, timeoutMs: 1_000 })
    const path = join(directory, 'rated')
    writeFileSync(path, large.subarray(0, 16 * MIB))
    const begunMs = performance.now()
    await server.store.putFile('name', { path, bytes: 16 * MIB })
    const tookMs = performance.now() - begunMs
    expect(tookMs).toBeGreaterThan(500)
    expect(tookMs).toBeLessThan(10_000)
  })
})
