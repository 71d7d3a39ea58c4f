import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { answer, refuse, startScriptedS3 as start, type Script, type ScriptedS3 } from './scripted-s3.ts'

/** No test here is about time-outs, and the machine may be busy. */
const startScriptedS3: typeof start = (script, options) => start(script, { timeoutMs: 10_000, ...options })

let server: ScriptedS3 | undefined
afterEach(async () => {
  await server?.stop()
  server = undefined
})

interface Habits {
  readonly decidesConditions?: 'both' | 'ifAbsent only' | 'no' | 'refuses'
  readonly checksCrc?: 'yes' | 'no' | 'refuses'
}

/** One bucket in memory, of a store with habits of its own. */
function sloppyStore(objects: Map<string, Buffer>, habits: Habits): Script {
  const etag = (bytes: Buffer): string => `"${createHash('md5').update(bytes).digest('hex')}"`
  const { decidesConditions = 'both', checksCrc = 'yes' } = habits
  return ({ line, headers, body }, response) => {
    const [method, path = ''] = line.split(' ')
    const found = objects.get(path)
    const { 'if-none-match': ifAbsent, 'if-match': ifMatch, 'x-amz-checksum-crc32': crc } = headers
    const isConditional = ifAbsent !== undefined || ifMatch !== undefined
    if (method === 'GET' && path.startsWith('/bucket/?'))
      return answer(response, '<ListBucketResult></ListBucketResult>')
    if (method === 'DELETE') {
      objects.delete(path)
      return void response.writeHead(204).end()
    }
    if (method !== 'PUT') {
      if (!found) return refuse(response, 404, 'NoSuchKey')
      return void response.writeHead(200, { 'content-length': found.length, etag: etag(found) }).end(found)
    }
    if (isConditional && decidesConditions === 'refuses') return refuse(response, 501, 'NotImplemented')
    if (decidesConditions !== 'no' && ifAbsent !== undefined && found)
      return refuse(response, 412, 'PreconditionFailed')
    if (decidesConditions === 'both' && ifMatch !== undefined && (!found || etag(found) !== ifMatch)) {
      return refuse(response, 412, 'PreconditionFailed')
    }
    if (crc !== undefined && checksCrc === 'refuses') return refuse(response, 400, 'InvalidRequest')
    if (crc !== undefined && checksCrc === 'yes' && Buffer.from(String(crc), 'base64').readUInt32BE() !== crc32(body)) {
      return refuse(response, 400, 'BadDigest')
    }
    objects.set(path, body)
    response.writeHead(200, { etag: etag(body) }).end()
  }
}

describe('what a store can do is found out by trying it', () => {
  it.each([
    ['both', true],
    ['ifAbsent only', false],
    ['no', false],
    ['refuses', false],
  ] as const)('a store that decides conditions: %s', async (decidesConditions, conditionalPut) => {
    const objects = new Map<string, Buffer>()
    server = await startScriptedS3(sloppyStore(objects, { decidesConditions }))
    await server.store.connect()
    expect(server.store.capabilities).toEqual({ conditionalPut, takesFiles: false })
    expect([...objects.keys()]).toEqual([])
  })

  it.each([
    ['yes', 'x-amz-checksum-crc32'],
    ['no', 'content-md5'],
    ['refuses', 'content-md5'],
  ] as const)('a store that checks CRC32: %s', async (checksCrc, header) => {
    server = await startScriptedS3(sloppyStore(new Map(), { checksCrc }))
    await server.store.connect()
    await server.store.put('name', Buffer.from('bytes'))
    const last = server.requests.at(-1)
    expect(last?.line).toBe('PUT /bucket/prefix/name')
    expect(Object.keys(last?.headers ?? {}).filter((name) => /md5|crc/.test(name))).toEqual([header])
  })

  it.each([
    [403, 'AccessDenied', 'AccessDenied'],
    [404, 'NoSuchBucket', 'NoSuchBucket'],
    [500, 'InternalError', 'Unavailable'],
  ])('a store that answers %i %s cannot be connected to', async (status, remoteCode, code) => {
    server = await startScriptedS3((_request, response) => refuse(response, status, remoteCode))
    await expect(server.store.connect()).rejects.toMatchObject({ code })
    expect(server.store.capabilities.conditionalPut).toBe(false)
  })

  it('a store that may be read and not written to cannot be connected to', async () => {
    const sloppy = sloppyStore(new Map(), {})
    server = await startScriptedS3((request, response, attempt) =>
      request.line.startsWith('PUT') ? refuse(response, 403, 'AccessDenied') : sloppy(request, response, attempt),
    )
    await expect(server.store.connect()).rejects.toMatchObject({ code: 'AccessDenied' })
  })
})

describe('a conditional put whose answer was lost', () => {
  const withLoss = async (after: (objects: Map<string, Buffer>) => void): Promise<ScriptedS3> => {
    const objects = new Map<string, Buffer>()
    const sloppy = sloppyStore(objects, {})
    server = await startScriptedS3((request, response, attempt) => {
      if (request.line !== 'PUT /bucket/prefix/name' || attempt > 1) return sloppy(request, response, attempt)
      after(objects)
      response.destroy()
    })
    await server.store.connect()
    return server
  }

  it('has succeeded when its own bytes are there', async () => {
    const { store } = await withLoss((objects) => objects.set('/bucket/prefix/name', Buffer.from('mine')))
    const { etag } = await store.put('name', Buffer.from('mine'), { ifAbsent: true })
    expect((await store.get('name', 10))?.etag).toBe(etag)
  })

  it('has failed when somebody else was faster', async () => {
    const { store } = await withLoss((objects) => objects.set('/bucket/prefix/name', Buffer.from('theirs, and longer')))
    await expect(store.put('name', Buffer.from('mine'), { ifAbsent: true })).rejects.toMatchObject({
      code: 'PreconditionFailed',
    })
    await expect(store.put('name', Buffer.from('theirs, and longer'), { ifAbsent: true })).rejects.toMatchObject({
      code: 'PreconditionFailed',
    })
  })
})

describe('removing', () => {
  it('sends batches with the digest that every store knows', async () => {
    server = await startScriptedS3((_request, response) => answer(response, '<DeleteResult></DeleteResult>'))
    await server.store.remove(['a', 'b'])
    const [request] = server.requests
    expect(server.lines()).toEqual(['POST /bucket/?delete='])
    expect(request?.headers['content-md5']).toBe(createHash('md5').update(request!.body).digest('base64'))
    expect(Object.keys(request!.headers).filter((name) => name.startsWith('x-amz-checksum'))).toEqual([])
  })

  it('falls back to single requests, and remembers that', async () => {
    server = await startScriptedS3(({ line }, response) =>
      line.startsWith('POST') ? refuse(response, 501, 'NotImplemented') : void response.writeHead(204).end(),
    )
    await server.store.remove(['a', 'b', 'c'])
    await server.store.remove(['d', 'e'])
    expect(server.lines().filter((line) => line.startsWith('POST'))).toHaveLength(1)
    expect(
      server
        .lines()
        .filter((line) => line.startsWith('DELETE'))
        .sort(),
    ).toEqual(['a', 'b', 'c', 'd', 'e'].map((name) => `DELETE /bucket/prefix/${name}`))
  })

  it('reports what could not be removed, and repeats what may pass', async () => {
    const result = (code: string): string =>
      `<DeleteResult><Error><Key>prefix/b</Key><Code>${code}</Code></Error></DeleteResult>`
    server = await startScriptedS3((_request, response, attempt) =>
      answer(response, attempt === 1 ? result('InternalError') : result('AccessDenied')),
    )
    await expect(server.store.remove(['a', 'b'])).rejects.toMatchObject({ code: 'AccessDenied' })
    expect(server.requests).toHaveLength(2)
  })
})

describe('a page of names', () => {
  const entry = (key: string): string =>
    `<Contents><Key>${key}</Key><Size>3</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`
  const page = (keys: string[], token?: string): string =>
    `<ListBucketResult><IsTruncated>${token !== undefined}</IsTruncated>` +
    (token === undefined ? '' : `<NextContinuationToken>${token}</NextContinuationToken>`) +
    `${keys.map(entry).join('')}</ListBucketResult>`

  it('is put together from as many as the store makes of it, without what is not ours', async () => {
    const pages = [page(['prefix/a', 'prefix/b/'], 't1'), page([], 't2'), page(['prefix/c', 'prefix/d e', 'prefix/f'])]
    server = await startScriptedS3(({ line }, response) =>
      answer(response, pages[Number(/continuation-token=t(\d)/.exec(line)?.[1] ?? 0)] ?? ''),
    )
    expect((await server.store.list('', 'A', 10)).map(({ name }) => name)).toEqual(['a', 'c', 'f'])
    expect(server.lines()[0]).toContain('start-after=prefix%2FA')
  })

  it.each([
    ['goes back', page(['prefix/b', 'prefix/a'])],
    ['ignores where to begin', page(['prefix/A'])],
    ['ignores the prefix', page(['elsewhere/b'])],
    ['has more and does not say where', '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>'],
    ['has no sizes', '<ListBucketResult><Contents><Key>prefix/b</Key></Contents></ListBucketResult>'],
    ['is a page of something else', '<html><body>welcome</p>'],
  ])('that %s is not believed', async (_name, xml) => {
    server = await startScriptedS3((_request, response) => answer(response, xml))
    await expect(server.store.list('', 'A', 10)).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

it('abandons uploads that were begun before, and no other', async () => {
  const upload = (key: string, id: string, begun: string): string =>
    `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${begun}</Initiated></Upload>`
  server = await startScriptedS3(({ line }, response) => {
    if (line.includes('uploadId=gone')) return refuse(response, 404, 'NoSuchUpload')
    if (line.startsWith('DELETE')) return void response.writeHead(204).end()
    const isSecond = line.includes('key-marker=')
    const uploads = isSecond
      ? upload('prefix/b', 'gone', '2026-01-01T00:00:00.000Z') + upload('prefix/c', 'old2', '2026-01-01T00:00:00.000Z')
      : upload('prefix/a', 'old1', '2026-01-01T00:00:00.000Z') + upload('prefix/a', 'new', '2026-03-01T00:00:00.000Z')
    const more = isSecond ? '' : '<NextKeyMarker>prefix/a</NextKeyMarker><NextUploadIdMarker>new</NextUploadIdMarker>'
    const xml = `<IsTruncated>${!isSecond}</IsTruncated>${more}${uploads}`
    answer(response, `<ListMultipartUploadsResult>${xml}</ListMultipartUploadsResult>`)
  })
  expect(await server.store.abandonUploads(Date.parse('2026-02-01'))).toBe(2)
  expect(
    server
      .lines()
      .filter((line) => line.startsWith('DELETE'))
      .map((line) => /uploadId=(\w+)/.exec(line)?.[1]),
  ).toEqual(['old1', 'gone', 'old2'])
})

it('makes no more requests at once, and no more a second, than it may', async () => {
  let atOnce = 0
  let atOnceMost = 0
  const slow: Script = (_request, response) => {
    atOnceMost = Math.max(atOnceMost, ++atOnce)
    setTimeout(() => {
      atOnce--
      refuse(response, 404, 'NoSuchKey')
    }, 10)
  }
  server = await startScriptedS3(slow, { concurrency: 4, requestsPerSecond: 50 })
  const names = Array.from({ length: 75 }, (_, index) => `n${index}`)
  const { store } = server
  const begunMs = performance.now()
  await Promise.all(names.map((name) => store.stat(name)))
  expect(atOnceMost).toBeLessThanOrEqual(4)
  expect(performance.now() - begunMs).toBeGreaterThan(400)
})

describe('a 404 that is not in the words of S3', () => {
  const pages: [string, Record<string, string>, string][] = [
    ['with nothing in it', {}, ''],
    ['of a proxy, in HTML', { 'content-type': 'text/html' }, '<html><body>not found</body></html>'],
    ['of a proxy, in text', { 'content-type': 'text/plain' }, '404 page not found'],
  ]
  const answering = async ([, headers, body]: (typeof pages)[number], until: number): Promise<ScriptedS3> => {
    server = await startScriptedS3(({ line }, response, attempt) => {
      if (attempt > until) return refuse(response, 404, 'NoSuchKey')
      response.writeHead(404, headers).end(line.startsWith('HEAD') ? '' : body)
    })
    return server
  }

  it.each(pages)('%s is not believed: nothing is missing, and nothing was removed', async (...page) => {
    const { store } = await answering(page, Infinity)
    const told = { code: 'Unavailable', details: { status: 404 } }
    await expect(store.read('name', 0, [Buffer.alloc(1)])).rejects.toMatchObject(told)
    await expect(store.get('name', 10)).rejects.toMatchObject(told)
    await expect(store.stat('name')).rejects.toMatchObject(told)
    await expect(store.remove(['name'])).rejects.toMatchObject(told)
    await expect(store.remove(['one', 'two'])).rejects.toMatchObject(told)
  })

  it.each(pages)('%s is followed by another attempt, and the store is believed', async (...page) => {
    const { store } = await answering(page, 1)
    await expect(store.read('name', 0, [Buffer.alloc(1)])).rejects.toMatchObject({ code: 'NoSuchKey' })
    expect(await store.get('other', 10)).toBeUndefined()
    expect(await store.stat('third')).toBeUndefined()
    await store.remove(['name'])
  })

  it('is no absence either when HEAD and GET do not agree', async () => {
    server = await startScriptedS3(({ line }, response) =>
      line.startsWith('HEAD')
        ? void response.writeHead(404).end()
        : void response.writeHead(206, { 'content-range': 'bytes 0-0/5', 'content-length': 1 }).end('x'),
    )
    await expect(server.store.stat('name')).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

it('a small object that trickles in is given up as a whole, and asked for again', async () => {
  server = await startScriptedS3(
    (_request, response, attempt) => {
      response.writeHead(200, { 'content-length': 100, etag: '"etag"' })
      if (attempt > 1) return void response.end(Buffer.alloc(100))
      const timer = setInterval(() => response.write('x'), 100)
      response.on('close', () => clearInterval(timer))
    },
    { timeoutMs: 500 },
  )
  const begunMs = performance.now()
  expect((await server.store.get('TIDEGATE', 4096))?.bytes).toHaveLength(100)
  // The time-out, and a quarter of a second for 4096 bytes.
  expect(performance.now() - begunMs).toBeLessThan(5_000)
  expect(server.requests).toHaveLength(2)
})
