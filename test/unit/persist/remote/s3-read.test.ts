import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { inspect } from 'node:util'
import { refuse, SECRET, startScriptedS3, type Script, type ScriptedS3 } from './scripted-s3.ts'

const CONTENT = Buffer.from('0123456789abcdefghij')

let server: ScriptedS3 | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

/** Answers any range of CONTENT as it should be. */
function serve(response: ServerResponse, range: string | undefined): void {
  const [first = 0, last = 0] = (range ?? '').match(/\d+/g)?.map(Number) ?? []
  const bytes = CONTENT.subarray(first, last + 1)
  response.writeHead(206, {
    'content-length': bytes.length,
    'content-range': `bytes ${first}-${first + bytes.length - 1}/${CONTENT.length}`,
  })
  response.end(bytes)
}

async function readWith(script: Script): Promise<{ read: Promise<number>; buffer: Buffer; server: ScriptedS3 }> {
  server = await startScriptedS3(script)
  const buffer = Buffer.alloc(8, 0xee)
  return { read: server.store.read('name', 5, [buffer.subarray(0, 3), buffer.subarray(3)]), buffer, server }
}

/** Wrong on the first attempt, right on the second. */
const once =
  (wrong: (response: ServerResponse) => void): Script =>
  ({ headers }, response, attempt) =>
    attempt === 1 ? wrong(response) : serve(response, headers.range)

const head = (response: ServerResponse, range: string, length: number): ServerResponse =>
  response.writeHead(206, { 'content-range': range, 'content-length': length })

it.each([
  ['says how long it is', (response: ServerResponse) => void head(response, 'bytes 5-12/20', 8)],
  ['does not', (response: ServerResponse) => void response.writeHead(206, { 'content-range': 'bytes 5-12/20' })],
])('a further attempt goes on behind what was told of, when the store %s', async (_name, begin) => {
  server = await startScriptedS3(({ headers }, response, attempt) => {
    // A store that does not say how long its answers are has one more try: it is read by other means then.
    if (attempt > 2) return serve(response, headers.range)
    begin(response)
    response.write('56789')
    setTimeout(() => response.destroy(), 20)
  })
  const buffer = Buffer.alloc(8, 0xee)
  const filled: number[] = []
  const into = [buffer.subarray(0, 3), buffer.subarray(3, 5), buffer.subarray(5)]
  const onFilled = (index: number): void => {
    filled.push(index)
    // Whoever was told of it may do with it what he likes.
    if (index === 0) buffer.fill('!', 0, 3)
  }
  expect(await server.store.read('name', 5, into, { onFilled })).toBe(8)
  expect(buffer.toString()).toBe('!!!89abc')
  expect(filled).toEqual([0, 1, 2])
  expect(server.requests.at(-1)?.headers.range).toBe('bytes=10-12')
})

it('an attempt that fails after the last byte was told of has all there is', async () => {
  server = await startScriptedS3((_request, response) => {
    head(response, 'bytes 5-12/20', 8).write('56789abc')
    setTimeout(() => response.destroy(), 20)
  })
  const into = [Buffer.alloc(3), Buffer.alloc(5)]
  expect(await server.store.read('name', 5, into)).toBe(8)
  expect(Buffer.concat(into).toString()).toBe('56789abc')
  expect(server.requests).toHaveLength(1)
})

describe('a range that is answered wrongly', () => {
  const wrongs: Record<string, (response: ServerResponse) => void> = {
    'with too few bytes': (response) => {
      head(response, 'bytes 5-12/20', 8).write('56')
      setTimeout(() => response.destroy(), 20)
    },
    'with fewer bytes than asked for, though the object goes on': (response) => {
      head(response, 'bytes 5-6/20', 2).end('56')
    },
    'with more bytes than it says': (response) => {
      response.writeHead(206, { 'content-range': 'bytes 5-12/20' })
      response.end('56789abcdefgh')
    },
    'with fewer bytes than it says': (response) => {
      response.writeHead(206, { 'content-range': 'bytes 5-12/20' })
      response.end('567')
    },
    'from elsewhere': (response) => void head(response, 'bytes 0-7/20', 8).end('01234567'),
    'with more than was asked for': (response) => void head(response, 'bytes 5-13/20', 9).end('56789abcd'),
    'of another unit': (response) => void head(response, 'pages 5-12/20', 8).end('56789abc'),
    'with the whole object': (response) => void response.writeHead(200, { 'content-length': 20 }).end(CONTENT),
    'with a broken connection': (response) => void response.destroy(),
    'with 500': (response) => refuse(response, 500, 'InternalError'),
    'with 503 SlowDown': (response) => refuse(response, 503, 'SlowDown'),
    'with a page of a proxy': (response) =>
      void response.writeHead(502, { 'content-type': 'text/html' }).end('<html><b>Bad gateway<p>'),
    'with nothing at all': () => undefined,
    'with nothing after a while': (response) => void head(response, 'bytes 5-12/20', 8).write('567'),
  }

  it.each(Object.entries(wrongs))('%s is asked for again', async (_name, wrong) => {
    const { read, buffer, server } = await readWith(once(wrong))
    expect(await read).toBe(8)
    expect(buffer.toString()).toBe('56789abc')
    expect(server.lines()).toEqual(['GET /bucket/prefix/name', 'GET /bucket/prefix/name'])
  })

  it.each(Object.entries(wrongs))('%s every time is an error within the attempts', async (name, wrong) => {
    const { read, server } = await readWith((_request, response) => wrong(response))
    const code = name.includes('SlowDown') ? 'SlowDown' : 'Unavailable'
    const error = await read.catch((error: unknown) => error)
    expect(error).toMatchObject({ code, message: expect.stringContaining('read name') })
    expect(server.requests).toHaveLength(3)
    expect(inspect(error, { depth: 20, showHidden: true })).not.toMatch(new RegExp(`${SECRET}|AWS4-HMAC|AKIDEXAMPLE`))
  })

  it('leaves the buffers alone once it has settled', async () => {
    const { read, buffer } = await readWith((_request, response) => {
      head(response, 'bytes 5-12/20', 8).write('5')
      setTimeout(() => response.end('6789abc'), 500)
    })
    await expect(read).rejects.toMatchObject({ code: 'Unavailable' })
    buffer.fill(0xee)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(buffer.every((byte) => byte === 0xee)).toBe(true)
  })
})

it('is given up in the middle by the signal, and the connection with it', async () => {
  let closed: (() => void) | undefined
  const isClosed = new Promise<void>((resolve) => (closed = resolve))
  server = await startScriptedS3(
    (_request, response) => {
      response.on('close', () => closed?.())
      head(response, 'bytes 5-12/20', 8).write('5')
    },
    { timeoutMs: 30_000 },
  )
  const controller = new AbortController()
  const read = server.store.read('name', 5, [Buffer.alloc(8)], { signal: controller.signal })
  setTimeout(() => controller.abort(new Error('not needed any more')), 50)
  await expect(read).rejects.toThrow('not needed any more')
  await isClosed
  expect(server.requests).toHaveLength(1)
})

it.each([
  [404, 'NoSuchKey', 'NoSuchKey'],
  [404, 'NoSuchBucket', 'NoSuchBucket'],
  [403, 'AccessDenied', 'AccessDenied'],
  [403, 'InvalidAccessKeyId', 'AccessDenied'],
  [401, 'Unauthorized', 'AccessDenied'],
  [400, 'InvalidArgument', 'Unavailable'],
  [301, 'PermanentRedirect', 'Unavailable'],
])('answers %i %s with %s, at once and with what the store said', async (status, remoteCode, code) => {
  const { read, server } = await readWith((_request, response) => refuse(response, status, remoteCode))
  await expect(read).rejects.toMatchObject({ code, details: { status, remoteCode } })
  expect(server.requests).toHaveLength(1)
})

it('waits as long as the store asks for (Retry-After)', async () => {
  const { read } = await readWith(once((response) => refuse(response, 429, 'TooManyRequests', { 'retry-after': '1' })))
  const begunMs = performance.now()
  expect(await read).toBe(8)
  expect(performance.now() - begunMs).toBeGreaterThan(950)
})

it('goes on reading while bytes move, however slowly', async () => {
  const { read, buffer } = await readWith((_request, response) => {
    head(response, 'bytes 5-12/20', 8)
    const left = '56789abc'.split('')
    const timer = setInterval(() => {
      response.write(left.shift() ?? '')
      if (left.length > 0) return
      clearInterval(timer)
      response.end()
    }, 100)
  })
  expect(await read).toBe(8)
  expect(buffer.toString()).toBe('56789abc')
})

it('stops what is under way, long before its time-out', async () => {
  const { requests, store } = (server = await startScriptedS3(() => undefined, { timeoutMs: 30_000 }))
  const failed = expect(store.read('name', 5, [Buffer.alloc(8)])).rejects.toMatchObject({ code: 'Unavailable' })
  await expect.poll(() => requests.length).toBe(1)
  const begunMs = performance.now()
  await store.stop()
  expect(performance.now() - begunMs).toBeLessThan(15_000)
  await failed
})

it('is asked for again within the time of somebody who waits, when a connection hangs', async () => {
  server = await startScriptedS3(
    ({ headers }, response, attempt) => (attempt === 1 ? undefined : serve(response, headers.range)),
    { timeoutMs: 30_000 },
  )
  const begunMs = performance.now()
  expect(await server.store.read('name', 5, [Buffer.alloc(8)])).toBe(8)
  expect(performance.now() - begunMs).toBeLessThan(8_000)
})

it('is given up by the signal while it is looked at, too', async () => {
  const giveUp = new AbortController()
  server = await startScriptedS3(() => giveUp.abort(), { timeoutMs: 30_000 })
  await expect(server.store.stat('name', { signal: giveUp.signal })).rejects.toThrow()
  expect(server.requests).toHaveLength(1)
})

describe('a rate', () => {
  it("makes reads wait for as long as it says, and that is nobody's time-out", async () => {
    const content = Buffer.alloc(40_000, 7)
    const rated: Script = (_request, response) =>
      void response
        .writeHead(206, { 'content-range': `bytes 0-39999/40000`, 'content-length': content.length })
        .end(content)
    server = await startScriptedS3(rated, { bytesPerSecond: 25_000, timeoutMs: 1_000 })
    const { store } = server
    let heldMs = 0
    const hold = async <T>(wait: Promise<T>): Promise<T> => {
      const begunMs = performance.now()
      return await wait.finally(() => (heldMs += performance.now() - begunMs))
    }
    const begunMs = performance.now()
    const reads = [1, 2, 3].map(() => store.read('name', 0, [Buffer.alloc(40_000)], { hold }))
    expect(await Promise.all(reads)).toEqual([40_000, 40_000, 40_000])
    expect(server.requests).toHaveLength(3)
    // 120 kB at 25 kB/s, but for the first second's worth and what the last one still owes.
    expect(performance.now() - begunMs).toBeGreaterThan(2_000)
    expect(heldMs).toBeGreaterThan(2_000)
  })

  it('makes an upload wait behind reads, and it is sent once', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'tidegate-rate-')), 'file')
    writeFileSync(path, Buffer.alloc(1_000))
    const content = Buffer.alloc(90_000, 7)
    server = await startScriptedS3(
      ({ line }, response) => {
        if (line.startsWith('PUT')) return void response.writeHead(200, { etag: '"etag"' }).end()
        if (line.startsWith('HEAD')) return void response.writeHead(200, { 'content-length': 1_000 }).end()
        response.writeHead(206, { 'content-range': 'bytes 0-89999/90000', 'content-length': content.length })
        response.end(content)
      },
      { bytesPerSecond: 30_000, timeoutMs: 1_000 },
    )
    const { store } = server
    const reading = store.read('name', 0, [Buffer.alloc(90_000)])
    await new Promise((resolve) => setTimeout(resolve, 100))
    await store.putFile('file', { path, bytes: 1_000 })
    await reading
    expect(server.lines().filter((line) => line.startsWith('PUT'))).toHaveLength(1)
    rmSync(path)
  })
})
