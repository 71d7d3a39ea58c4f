import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { TidegateError } from '../../../../src/common/errors.ts'
import type { ObjectAttributes } from '../../../../src/common/model.ts'
import { S3ExternalBucket } from '../../../../src/persist/external/external-bucket.ts'
import { piece, sourceOf } from '../../../support/piece-source.ts'
import { answer, refuse, SECRET, startScriptedS3, type Script, type ScriptedS3 } from '../remote/scripted-s3.ts'

const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const ANYTHING = { kind: 'anything' } as const
const MIB = 1024 * 1024

let server: ScriptedS3 | undefined
let bucket: S3ExternalBucket
afterEach(async () => {
  bucket.stop()
  await server?.stop()
})

async function start(script: Script): Promise<ScriptedS3> {
  server = await startScriptedS3(script)
  bucket = new S3ExternalBucket(
    { bucket: 'bucket', prefix: 'prefix', endpoint: server.endpoint, region: 'us-east-1', style: 'path' },
    { timeoutMs: 10_000, attemptsMax: 3, credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: SECRET } },
  )
  return server
}

interface Habits {
  /** Whether a condition is looked at, and what becomes of a write that it forbids. */
  readonly conditions: 'decided' | 'ignored' | 'refused but written' | 'not implemented'
  /** Where they are decided: all but copies, for instance. */
  readonly onCopies?: 'ignored'
}

const etagOf = (bytes: Buffer): string => `"${createHash('md5').update(bytes).digest('hex')}"`

/** One bucket in memory, of a store with habits of its own. */
function store(objects: Map<string, Buffer>, habits: Habits): Script {
  const parts = new Map<string, Buffer>()
  return ({ line, headers, body }, response) => {
    const [method = '', url = ''] = line.split(' ')
    const { pathname: path, searchParams: query } = new URL(url, 'http://host')
    const found = objects.get(path)
    const source = headers['x-amz-copy-source']
    const copied = typeof source === 'string' ? objects.get(`/${decodeURIComponent(source)}`) : undefined
    const part = `${path} ${query.get('uploadId')}`
    if (path === '/bucket/' || path === '/bucket') return answer(response, '<ListBucketResult/>')
    if (query.has('tagging')) return refuse(response, 501, 'NotImplemented')
    if (query.has('uploads')) {
      const id = `upload-${parts.size}`
      parts.set(`${path} ${id}`, Buffer.alloc(0))
      return answer(response, `<R><UploadId>${id}</UploadId></R>`)
    }
    if (method === 'HEAD' || method === 'GET') {
      if (!found) return refuse(response, 404, 'NoSuchKey')
      const modified = new Date(0).toUTCString()
      response.writeHead(200, { 'content-length': found.length, 'last-modified': modified, etag: etagOf(found) })
      return void response.end(method === 'HEAD' ? undefined : found)
    }
    if (method === 'DELETE' && query.has('uploadId')) return void response.writeHead(204).end()
    const isPart = query.has('partNumber')
    const { 'if-none-match': ifAbsent, 'if-match': ifMatch, 'x-amz-copy-source-if-match': ifSource } = headers
    const isForbidden =
      (ifAbsent !== undefined && found !== undefined) ||
      (ifMatch !== undefined && (!found || etagOf(found) !== ifMatch)) ||
      (ifSource !== undefined && (!copied || etagOf(copied) !== ifSource))
    const habit = source !== undefined && !isPart ? (habits.onCopies ?? habits.conditions) : habits.conditions
    const isConditional = ifAbsent !== undefined || ifMatch !== undefined || ifSource !== undefined
    if (isConditional && habit === 'not implemented') return refuse(response, 501, 'NotImplemented')
    if (isForbidden && habit === 'decided') return refuse(response, 412, 'PreconditionFailed')
    const bytes = copied ?? (method === 'POST' ? (parts.get(part) ?? Buffer.alloc(0)) : body)
    if (isPart) parts.set(part, Buffer.concat([bytes, Buffer.from(' in a part')]))
    else if (method === 'DELETE') objects.delete(path)
    else objects.set(path, bytes)
    if (isForbidden && habit === 'refused but written') return refuse(response, 412, 'PreconditionFailed')
    if (method === 'DELETE') return void response.writeHead(204).end()
    const result =
      source === undefined ? 'CompleteMultipartUploadResult' : isPart ? 'CopyPartResult' : 'CopyObjectResult'
    response.setHeader('etag', etagOf(bytes))
    answer(response, `<${result}><ETag>${etagOf(bytes)}</ETag></${result}>`)
  }
}

describe('what a store can do is concluded from what it did', () => {
  const none = { conditionalPut: false, conditionalDelete: false, conditionalComplete: false, conditionalCopy: false }
  const all = { conditionalPut: true, conditionalDelete: true, conditionalComplete: true, conditionalCopy: true }
  it.each([
    ['decided', all, { copiesOnMatch: true, copiesPartsOnMatch: true }],
    ['ignored', none, { copiesOnMatch: false, copiesPartsOnMatch: false }],
    // A part that was refused is never put together.
    ['refused but written', none, { copiesOnMatch: false, copiesPartsOnMatch: true }],
    ['not implemented', none, { copiesOnMatch: false, copiesPartsOnMatch: false }],
  ] as const)('conditions are %s', async (conditions, capabilities, copies) => {
    const objects = new Map<string, Buffer>()
    await start(store(objects, { conditions }))
    expect(await bucket.probe()).toEqual(capabilities)
    expect(bucket.abilities).toMatchObject({ ...copies, tags: 'none' })
    expect([...objects.keys()]).toEqual([])
  })

  it('a store that may not be written to cannot be probed, and nothing is left there', async () => {
    await start(({ line }, response) => {
      if (line.startsWith('PUT') || line.startsWith('POST')) return refuse(response, 403, 'AccessDenied')
      if (line.startsWith('DELETE')) return void response.writeHead(204).end()
      answer(response, '<ListBucketResult/>')
    })
    await expect(bucket.probe()).rejects.toMatchObject({ code: 'AccessDenied' })
  })

  it('before the first write that depends on it, and only then', async () => {
    const objects = new Map<string, Buffer>()
    const { requests } = await start(store(objects, { conditions: 'decided' }))
    await bucket.put('free', sourceOf(Buffer.from('x')), { attributes: PLAIN, expected: ANYTHING })
    expect(requests).toHaveLength(1)
    await bucket.put('held', sourceOf(Buffer.from('x')), { attributes: PLAIN, expected: { kind: 'absent' } })
    expect([...objects.keys()]).toEqual(['/bucket/prefix/free', '/bucket/prefix/held'])
    expect(bucket.abilities?.conditionalPut).toBe(true)
  })
})

describe('a condition that the store does not decide', () => {
  it('is refused, and nothing is sent (C32)', async () => {
    const objects = new Map([['/bucket/prefix/a', Buffer.from('theirs')]])
    const { requests } = await start(store(objects, { conditions: 'ignored' }))
    await bucket.probe()
    const before = requests.length
    const options = { attributes: PLAIN, expected: { kind: 'absent' } as const }
    const refused = { code: 'NotImplemented' }
    await expect(bucket.put('a', sourceOf(Buffer.from('ours')), options)).rejects.toMatchObject(refused)
    await expect(bucket.putInParts('a', [piece(Buffer.from('ours'))], options)).rejects.toMatchObject(refused)
    await expect(bucket.copy({ key: 'b', etag: 'e', size: 1 }, 'a', options)).rejects.toMatchObject(refused)
    await expect(bucket.remove('a', { kind: 'etag', etag: 'e' })).rejects.toMatchObject(refused)
    expect(requests).toHaveLength(before)
    expect(objects.get('/bucket/prefix/a')?.toString()).toBe('theirs')
  })

  it('on copies is met by copying in parts', async () => {
    const bytes = Buffer.from('the source')
    const objects = new Map([['/bucket/prefix/from', bytes]])
    await start(store(objects, { conditions: 'decided', onCopies: 'ignored' }))
    expect(await bucket.probe()).toMatchObject({ conditionalCopy: true })
    const from = { key: 'from', etag: etagOf(bytes).replaceAll('"', ''), size: bytes.length }
    const options = { attributes: undefined, expected: { kind: 'absent' } as const }
    await bucket.copy(from, 'to', options)
    expect(objects.get('/bucket/prefix/to')?.toString()).toBe('the source in a part')
    await expect(bucket.copy(from, 'to', options)).rejects.toMatchObject({
      code: 'PreconditionFailed',
      details: { side: 'target' },
    })
  })
})

it('copies more than 5 GiB in ranges that cover it', async () => {
  const size = 5 * 1024 * MIB + 1
  const inner = store(new Map([['/bucket/prefix/large', Buffer.from('x')]]), { conditions: 'decided' })
  const { requests } = await start((request, response, attempt) => {
    if (request.line !== 'HEAD /bucket/prefix/large') return inner(request, response, attempt)
    const headers = { 'content-length': size, 'last-modified': new Date(0).toUTCString(), 'x-amz-meta-is': 'large' }
    response.writeHead(200, { ...headers, etag: etagOf(Buffer.from('x')), 'x-amz-storage-class': 'COLD' }).end()
  })
  await bucket.probe()
  const before = requests.length
  const etag = etagOf(Buffer.from('x')).replaceAll('"', '')
  await bucket.copy({ key: 'large', etag, size }, 'copy', { attributes: undefined, expected: ANYTHING })
  const made = requests.slice(before)
  expect(made.find(({ line }) => line.includes('?uploads'))?.headers).toMatchObject({
    'x-amz-meta-is': 'large',
    'x-amz-storage-class': 'COLD',
  })
  const ranges = made.flatMap(({ headers }) => headers['x-amz-copy-source-range'] ?? [])
  const ends = ranges.map((range) => /=(\d+)-(\d+)$/.exec(range)!.slice(1).map(Number) as [number, number])
  ends.sort(([one], [other]) => one - other)
  expect([ends[0]![0], ends.at(-1)![1]]).toEqual([0, size - 1])
  expect(ends.slice(1).every(([first], index) => first === ends[index]![1] + 1)).toBe(true)
  expect(ends.every(([first, last]) => last - first < 5 * 1024 * MIB)).toBe(true)
})

describe('that nothing is there', () => {
  const head = 'HEAD /bucket/prefix/none'
  const heads = (): string[] => server!.lines().filter((line) => !line.includes('?tagging'))

  it('is believed to a store that says who it is', async () => {
    await start((_, response) => refuse(response, 404, 'NoSuchKey', { 'x-amz-request-id': 'R1' }))
    expect(await bucket.head('none')).toBeUndefined()
    expect(heads()).toEqual([head])
  })

  it('is asked for again in words otherwise', async () => {
    await start((_, response) => refuse(response, 404, 'NoSuchKey'))
    expect(await bucket.head('none')).toBeUndefined()
    expect(heads()).toEqual([head, 'GET /bucket/prefix/none'])
  })

  it('is not believed to a page of a proxy', async () => {
    await start((_, response) => void response.writeHead(404, { 'content-type': 'text/html' }).end('<html>no</html>'))
    await expect(bucket.head('none')).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('reading', () => {
  it('is refused by the ETag of the answer when the store ignores the condition (C32)', async () => {
    await start((_, response) => void response.writeHead(200, { etag: '"other"', 'content-length': 3 }).end('abc'))
    const tried = bucket.read({ key: 'a', etag: 'expected' }, 0, [Buffer.alloc(3)])
    await expect(tried).rejects.toMatchObject({ code: 'PreconditionFailed' })
    expect(server!.requests[0]?.headers['if-match']).toBe('"expected"')
  })

  it('understands an ETag that a compressing proxy has weakened', async () => {
    await start((_, response) => void response.writeHead(200, { etag: 'W/"e"', 'content-length': 3 }).end('abc'))
    expect(await bucket.read({ key: 'a', etag: 'e' }, 0, [Buffer.alloc(3)])).toBe(3)
  })
})

describe('a completion whose answer was lost', () => {
  const whole = store(new Map(), { conditions: 'decided' })
  const script =
    (afterwards: string): Script =>
    (request, response, attempt) => {
      const { line } = request
      if (!line.includes('/prefix/a')) return whole(request, response, attempt)
      if (line.startsWith('HEAD')) {
        const modified = new Date(0).toUTCString()
        return void response.writeHead(200, { etag: afterwards, 'content-length': 1, 'last-modified': modified }).end()
      }
      if (line.includes('?uploads')) return answer(response, '<R><UploadId>u</UploadId></R>')
      if (line.startsWith('PUT')) return void response.writeHead(200, { etag: etagOf(Buffer.from('x')) }).end()
      if (!line.startsWith('POST')) return void response.writeHead(line.startsWith('GET') ? 501 : 204).end()
      if (attempt === 1) return void response.destroy()
      refuse(response, 404, 'NoSuchUpload')
    }
  const completed = createHash('md5').update(createHash('md5').update('x').digest()).digest('hex')
  const upload = (): Promise<{ etag: string }> =>
    bucket.putInParts('a', [piece(Buffer.from('x'))], { attributes: PLAIN, expected: ANYTHING })

  it('has succeeded when what was put together lies there', async () => {
    await start(script(`"${completed}-1"`))
    expect(await upload()).toEqual({ etag: `${completed}-1` })
  })

  it('has failed when something else does', async () => {
    await start(script('"theirs"'))
    await expect(upload()).rejects.toMatchObject({ code: 'Unavailable' })
  })
})

describe('a store that answers wrongly', () => {
  const failed = '<Error><Code>InternalError</Code><Message>later than its status</Message></Error>'
  const decided = { conditions: 'decided' } as const
  const bytes = Buffer.from('what it holds')
  const from = { key: 'from', etag: etagOf(bytes).slice(1, -1), size: bytes.length }
  const copy = (): Promise<{ etag: string }> => bucket.copy(from, 'to', { attributes: PLAIN, expected: ANYTHING })
  const isCopy = ({ headers }: Parameters<Script>[0]): boolean => headers['x-amz-copy-source'] !== undefined
  const isCompletion = ({ line }: Parameters<Script>[0]): boolean =>
    line.startsWith('POST') && line.includes('uploadId')

  /** What is wrong comes in place of the doing, so many times. */
  async function startWrong(
    isMeant: (request: Parameters<Script>[0]) => boolean,
    { times = 1, says = failed }: { times?: number; says?: string } = {},
  ): Promise<Map<string, Buffer>> {
    const objects = new Map([['/bucket/prefix/from', bytes]])
    const right = store(objects, decided)
    let left = 0
    await start((request, ...rest) => {
      if (left > 0 && isMeant(request)) {
        left--
        return answer(rest[0], says)
      }
      return right(request, ...rest)
    })
    await bucket.probe()
    left = times
    return objects
  }

  it('is asked again when an error comes with status 200 for a copy, which has failed if that goes on', async () => {
    const objects = await startWrong(isCopy)
    expect(await copy()).toEqual({ etag: from.etag })
    expect(objects.get('/bucket/prefix/to')).toEqual(bytes)
    bucket.stop()
    await server?.stop()
    await startWrong(isCopy, { times: 100 })
    await expect(copy()).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is asked again when an error comes with status 200 for the end of an upload', async () => {
    await startWrong(isCompletion)
    const parts = [piece(Buffer.alloc(5 * MIB)), piece(Buffer.from('x'))]
    const { etag } = await bucket.putInParts('in-parts', parts, { attributes: PLAIN, expected: ANYTHING })
    expect(etag).not.toBe('')
  })

  it('has not stored what it names no ETag of', async () => {
    await startWrong(isCopy, {
      times: 100,
      says: '<CopyObjectResult><LastModified>2026-11-22T00:00:00Z</LastModified></CopyObjectResult>',
    })
    await expect(copy()).rejects.toMatchObject({ code: 'Unavailable', details: { remoteCode: 'BadAnswer' } })
  })
})

describe('a source that fails', () => {
  it('is not asked again, and is told from what lies at the key', async () => {
    let reads = 0
    const broken = {
      length: 2 * MIB,
      async *bytes(): AsyncGenerator<Uint8Array> {
        reads++
        yield Buffer.alloc(MIB)
        // The first reading is for the digest.
        if (reads > 1) throw new TidegateError('PreconditionFailed', 'the source has changed outside')
        yield Buffer.alloc(MIB)
      },
    }
    await start((_, response) => void response.writeHead(200, { etag: '"e"' }).end())
    const tried = bucket.put('a', broken, { attributes: PLAIN, expected: ANYTHING })
    await expect(tried).rejects.toMatchObject({ code: 'PreconditionFailed', details: { side: 'source' } })
    expect(reads).toBe(2)
  })
})

describe('a page of names', () => {
  const listing = (names: string, more = '<IsTruncated>false</IsTruncated>'): Script => {
    const contents = names.split(' ').map((name) => {
      const said = '<Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified>'
      return `<Contents><Key>${name}</Key>${said}</Contents>`
    })
    const xml = `<ListBucketResult><EncodingType>url</EncodingType>${contents.join('')}${more}</ListBucketResult>`
    return (_, response) => answer(response, xml)
  }
  const list = (): Promise<string[]> =>
    bucket
      .list({ prefix: '', after: '', delimiter: '', limit: 1000 })
      .then(({ objects }) => objects.map(({ key }) => key))

  it('is decoded as a form is, without what the prefix itself and a probe left', async () => {
    await start(
      listing('prefix/ prefix/.tidegate-probe-1 prefix/a+b prefix/a%2Bb prefix/a%25 prefix/%01%C3%BC prefix/%FF'),
    )
    await expect(list()).rejects.toMatchObject({ code: 'Unavailable' })
    await server!.stop()
    await start(
      listing('prefix/ prefix/%01%C3%BC prefix/.tidegate-probe-1 prefix/a+b prefix/a%25 prefix/a%2Bb prefix/%FF'),
    )
    expect(await list()).toEqual(['\u0001ü', 'a b', 'a%', 'a+b'])
  })

  it('is not believed when it shows what lies beside the attachment', async () => {
    await start(listing('prefix-other/a'))
    await expect(list()).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is not believed when there is more and no way to it', async () => {
    await start(listing('prefix/a', '<IsTruncated>true</IsTruncated>'))
    await expect(list()).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('is in byte order where that is another one than JavaScript has', async () => {
    await start(listing(`prefix/${encodeURIComponent('\uffee')} prefix/${encodeURIComponent('\u{1f600}')}`))
    expect(await list()).toEqual(['\uffee', '\u{1f600}'])
  })
})

it.each([
  ['plain', 'plain'],
  ['=?UTF-8?B?R3LDtsOfZQ==?=', 'Größe'],
  ['=?UTF-8?Q?Gr=C3=B6=C3=9Fe_?= =?utf-8?b?WA==?=', 'Größe X'],
  [Buffer.from('Größe').toString('latin1'), 'Größe'],
  ['Gr\u00f6\u00dfe', 'Größe'],
  ['=?UTF-8?B?', '=?UTF-8?B?'],
])('understands metadata that a store gives as %j', async (header, text) => {
  await start(({ line }, response) => {
    if (!line.startsWith('HEAD')) return refuse(response, 501, 'NotImplemented')
    const modified = new Date(0).toUTCString()
    const headers = { etag: '"e-12"', 'content-length': 1, 'last-modified': modified, 'x-amz-meta-Note': header }
    response.writeHead(200, { ...headers, expires: '-1' }).end()
  })
  const found = await bucket.head('a')
  expect(found?.attributes).toEqual({ ...PLAIN, headers: { expires: '-1' }, userMetadata: { note: text } })
  expect(found?.partsCount).toBe(12)
})

it('takes the credentials of the profile that the URL names, whatever the environment has', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'tidegate-profile-'))
  const path = join(directory, 'credentials')
  await writeFile(path, '[default]\naws_access_key_id=D\naws_secret_access_key=d\n[team]\naws_access_key_id=TEAM\n')
  await writeFile(path, 'aws_secret_access_key=t\n', { flag: 'a' })
  vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', path)
  vi.stubEnv('AWS_CONFIG_FILE', join(directory, 'none'))
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'ENVIRONMENT')
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'e')
  const { endpoint, requests } = await start((_, response) => void response.writeHead(204).end())
  const place = { bucket: 'bucket', prefix: '', endpoint, region: 'us-east-1', style: 'path' } as const
  const named = new S3ExternalBucket({ ...place, profile: 'team' })
  await named.remove('a', ANYTHING)
  named.stop()
  vi.unstubAllEnvs()
  await rm(directory, { recursive: true })
  expect(requests[0]?.headers.authorization).toMatch(/Credential=TEAM\//)
})
