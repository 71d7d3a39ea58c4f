import { ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { Readable } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { listPage } from '../../../../src/persist/external/list-call.ts'
import { readListPage, type ListedPage } from '../../../../src/persist/external/list-page.ts'

const TIME = '2026-03-01T10:20:30.456Z'
const object = (key: string, further = ''): string =>
  `<Contents><Key>${key}</Key><LastModified>${TIME}</LastModified><ETag>&quot;0cc1&quot;</ETag>` +
  `<Size>12</Size><Owner><ID>x</ID><DisplayName/></Owner><StorageClass>GLACIER</StorageClass>${further}</Contents>`
const page = (inside: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
  `<Name>b</Name><Prefix/><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>` +
  `<NextContinuationToken>a&amp;b==</NextContinuationToken><EncodingType>url</EncodingType>${inside}</ListBucketResult>`
const WHOLE = page(
  `${object('a%2Bb')}\n  ${object('c&#x26;&#100;')}<CommonPrefixes><Prefix>d%2F</Prefix></CommonPrefixes>`,
)

/** A client whose store answers this, whatever it is asked. */
function answering(xml: string, status = 200): S3Client {
  const handle = (): Promise<unknown> =>
    Promise.resolve({ response: { statusCode: status, headers: {}, body: bodyOf(xml), reason: '' } })
  return new S3Client({
    region: 'r',
    maxAttempts: 1,
    endpoint: 'http://127.0.0.1:9',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    requestHandler: { handle, metadata: {}, destroy: () => undefined } as never,
  })
}

/** In pieces that cut characters. */
async function* chunksOf(xml: string): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(xml)
  for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7)
}

function bodyOf(xml: string): Readable {
  return Readable.from(chunksOf(xml), { objectMode: false })
}

const listed = (xml: string, status?: number): Promise<ListedPage> => {
  const attempt = { client: answering(xml, status), signal: new AbortController().signal, progress: () => undefined }
  return listPage({ ...attempt, pace: undefined }, 'list', { Bucket: 'b' })
}

describe('the answer to a listing', () => {
  it('is read as it was written', () => {
    expect(readListPage(WHOLE)).toEqual({
      isTruncated: true,
      token: 'a&b==',
      isUrlEncoded: true,
      objects: ['a%2Bb', 'c&d'].map((Key) => ({
        Key,
        Size: 12,
        ETag: '"0cc1"',
        modifiedMs: Date.parse(TIME),
        StorageClass: 'GLACIER',
      })),
      prefixes: ['d%2F'],
    })
  })

  it('keeps keys that look like what lies around them', () => {
    expect(readListPage(page(object('&lt;/Key&gt;')))?.objects[0]?.Key).toBe('</Key>')
    expect(readListPage(page(object(' &amp;lt; ')))?.objects[0]?.Key).toBe(' &lt; ')
    expect(readListPage(page(object('ü\u{10348}')))?.objects[0]?.Key).toBe('ü\u{10348}')
  })

  it.each([
    ['nothing', ''],
    ['another answer', '<Error><Code>SlowDown</Code></Error>'],
    ['half of one', WHOLE.slice(0, -20)],
    ['one that ends in an object', WHOLE.slice(0, WHOLE.indexOf('</Contents>'))],
    ['one with something behind', `${WHOLE}<Error/>`],
    ['two ends', WHOLE.replace('<IsTruncated>', '<IsTruncated>false</IsTruncated><IsTruncated>')],
    ['no end', WHOLE.replace(/<IsTruncated>.*<\/IsTruncated>/, '')],
    ['two keys', page(object('a', '<Key>b</Key>'))],
    ['a comment', page(`<!-- -->${object('a')}`)],
    ['a CDATA section', page(object('<![CDATA[a]]>'))],
    ['an entity that nobody knows', page(object('&nbsp;'))],
    ['half an entity', page(object('a&b'))],
    ['a size that is none', page(object('a').replace('>12<', '>1e3<'))],
    ['a time that is none', page(object('a').replace(TIME, 'yesterday'))],
    ['wrong nesting', page(object('a').replace('</Size>', '</Key>'))],
    ['no element', page('text')],
  ])('is left to the SDK where it is not as stores write it: %s', (_, xml) => {
    expect(readListPage(xml)).toBeUndefined()
  })

  it('says the same as the SDK does, whatever character is missing or doubled', async () => {
    const client = (xml: string): Promise<unknown> => answering(xml).send(new ListObjectsV2Command({ Bucket: 'b' }))
    const plain = ({ isTruncated, token, objects, prefixes }: ListedPage): unknown => ({
      isTruncated,
      token,
      objects,
      prefixes,
    })
    let read = 0
    for (let at = 0; at < WHOLE.length; at += 1) {
      for (const xml of [WHOLE.slice(0, at) + WHOLE.slice(at + 1), WHOLE.slice(0, at) + WHOLE.slice(at - 1)]) {
        const ours = readListPage(xml)
        if (!ours) continue
        read++
        const answer = (await client(xml)) as Record<string, never>
        expect(plain(ours), xml).toEqual(bySdk(answer))
      }
    }
    expect(read).toBeGreaterThan(100)
  })
})

interface SdkAnswer {
  readonly IsTruncated?: boolean
  readonly NextContinuationToken?: string
  readonly Contents?: readonly (Record<string, unknown> & { readonly LastModified?: Date })[]
  readonly CommonPrefixes?: readonly { readonly Prefix?: string }[]
}

function bySdk(answer: SdkAnswer): unknown {
  const { IsTruncated: isTruncated, NextContinuationToken: token, Contents = [], CommonPrefixes = [] } = answer
  const objects = Contents.map(({ Key, Size, ETag, LastModified, StorageClass }) =>
    withoutUndefined({ Key, Size, ETag, StorageClass, modifiedMs: LastModified?.getTime() }),
  )
  return { isTruncated, token, objects, prefixes: CommonPrefixes.map(({ Prefix }) => Prefix) }
}

function withoutUndefined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

describe('a listing', () => {
  it('is what the answer says, read here or by the SDK', async () => {
    const commented = WHOLE.replace('<Contents>', '<!-- not plain --><Contents>')
    expect(readListPage(commented)).toBeUndefined()
    expect(await listed(commented)).toEqual(await listed(WHOLE))
  })

  it('is not believed when the answer says nothing: the mirror would lose all it has', async () => {
    await expect(listed('')).rejects.toMatchObject({ code: 'Unavailable' })
    await expect(listed('<ListBucketResult></ListBucketResult>')).rejects.toMatchObject({ code: 'Unavailable' })
  })

  it('fails as the SDK does when the store refuses', async () => {
    await expect(listed('<Error><Code>SlowDown</Code></Error>', 503)).rejects.toMatchObject({ name: 'SlowDown' })
    await expect(listed('<Error><Code>InternalError</Code></Error>')).rejects.toMatchObject({ name: 'InternalError' })
  })
})
