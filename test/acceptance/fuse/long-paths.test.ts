/** Paths as long as Linux has them, so keys longer than S3 and KV make: made by the mount, they are there for all doors. */
import {
  CopyObjectCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKvClient, type KvClient } from '../../../src/client/kv-client.ts'
import { unmetNeeds } from '../../conformance/fuse-needs.ts'
import { startMounted, type MountedGateway } from '../../support/mounted-gateway.ts'
import { refusalOf, sdkClient } from '../../support/sdk-client.ts'

const Bucket = 'deep'
/** 250 bytes, some of which XML and percent-encoding write in other ways. */
const NAME = `ü &%+<${'n'.repeat(243)}`
const MADE_BYTES_MAX = 1024
const ADDRESSED_BYTES_MAX = 8 * 1024

let mounted: MountedGateway
let s3: S3Client
let kv: KvClient

beforeAll(async () => {
  if (unmetNeeds() !== undefined) return
  mounted = await startMounted()
  s3 = sdkClient(mounted.gateway)
  const { accessKey, secretKey } = mounted.gateway.root
  kv = createKvClient({ url: mounted.gateway.http, bucket: Bucket, accessKey, secretKey })
})

afterAll(async () => {
  if (unmetNeeds() !== undefined) return
  s3.destroy()
  kv.close()
  await mounted.stop()
})

const path = (depth: number): string => `${NAME}/`.repeat(depth)

async function run(script: string, directory: string = Bucket): Promise<string> {
  const { code, stdout, stderr } = await mounted.shell(script, directory)
  expect({ code, stderr }, script.slice(0, 200)).toEqual({ code: 0, stderr: '' })
  return stdout.trimEnd()
}

/** A directory so deep, with files `a` to `d` in it that hold their names; each is entered on its own. */
async function descend(depth: number): Promise<string> {
  await run(`
    for n in $(seq ${depth}); do mkdir -p '${NAME}'; cd '${NAME}'; done
    for f in a b c d; do echo $f > $f; done
    head -c 300000 /dev/zero | tr '\\0' x > large
  `)
  return path(depth)
}

describe.skipIf(unmetNeeds() !== undefined)('a path', () => {
  beforeAll(async () => {
    if (unmetNeeds() === undefined) await run(`mkdir ${Bucket}`, '.')
  })

  it('of 4,095 bytes is used in one call, and is the same object for S3 and KV', async () => {
    await descend(16)
    const whole = path(16) + 'x'.repeat(4095 - Buffer.byteLength(path(16)))
    expect(Buffer.byteLength(whole)).toBe(4095)
    await run(`echo long > '${whole}'`)
    expect(
      await run(`cat '${whole}'; mv '${whole}' '${whole.slice(0, -1)}y'; mv '${whole.slice(0, -1)}y' '${whole}'`),
    ).toBe('long')
    const got = await s3.send(new GetObjectCommand({ Bucket, Key: whole }))
    expect(await got.Body?.transformToString()).toBe('long\n')
    expect((await kv.get(whole))?.text()).toBe('long\n')
    await s3.send(new DeleteObjectCommand({ Bucket, Key: whole }))
    expect(await run(`test ! -e '${whole}' && echo gone`)).toBe('gone')
  })

  it('of nearly 8 KiB is read, copied and deleted by S3 and KV, and not made', async () => {
    const deep = await descend(32)
    const Key = `${deep}large`
    expect(Buffer.byteLength(Key)).toBeGreaterThan(ADDRESSED_BYTES_MAX - 300)
    expect((await s3.send(new HeadObjectCommand({ Bucket, Key }))).ContentLength).toBe(300_000)
    await s3.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: encodeURIComponent(`${Bucket}/${Key}`) }))
    expect(await run('wc -c < copy; rm copy')).toBe('300000')
    expect((await kv.get(`${deep}a`))?.text()).toBe('a\n')
    expect(
      await kv.batch([
        { op: 'get', key: `${deep}b` },
        { op: 'exists', key: `${deep}absent` },
      ]),
    ).toMatchObject([
      { status: 200, value: Buffer.from('b\n') },
      { status: 200, exists: false },
    ])
    const done = await kv.transaction({
      compare: [{ target: 'exists', key: `${deep}c`, operand: true }],
      then: [{ op: 'delete', key: `${deep}c` }],
    })
    expect(done).toMatchObject({ succeeded: true, results: [{ existed: true }] })
    expect((await kv.delete(`${deep}d`)).existed).toBe(true)

    const body = { Bucket, Body: 'x' }
    const short = 'k'.repeat(MADE_BYTES_MAX / 2)
    expect(await refusalOf(s3.send(new PutObjectCommand({ ...body, Key })))).toBe('400 KeyTooLongError')
    expect(await refusalOf(s3.send(new PutObjectCommand({ ...body, Key: `${short}/${short}` })))).toBe(
      '400 KeyTooLongError',
    )
    const copy = { Bucket, Key: `${deep}new`, CopySource: encodeURIComponent(`${Bucket}/${Key}`) }
    expect(await refusalOf(s3.send(new CopyObjectCommand(copy)))).toBe('400 KeyTooLongError')
    await expect(kv.put(`${deep}new`, 'x')).rejects.toMatchObject({ code: 'KeyTooLong' })
    await expect(kv.increment(`${deep}new`, 1)).rejects.toMatchObject({ code: 'KeyTooLong' })
    expect(await refusalOf(s3.send(new GetObjectCommand({ Bucket, Key: `${deep}absent` })))).toBe('404 NoSuchKey')
    const removed = await s3.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key }, { Key: `${deep}a` }] } }),
    )
    expect(removed.Deleted?.map((one) => one.Key)).toEqual([Key, `${deep}a`])
    expect(await run(`for n in $(seq 32); do cd '${NAME}'; done; ls`)).toBe('b')
  })

  it('of more than 16 KiB is listed, page by page, by S3 and KV', async () => {
    const deep = await descend(66)
    expect(Buffer.byteLength(deep)).toBeGreaterThan(16 * 1024)
    const expected = ['a', 'b', 'c', 'd', 'large'].map((file) => deep + file)

    const all = await keysV2({ MaxKeys: 3 })
    expect(new Set(all).size).toBe(all.length)
    expect(all.filter((key) => key.startsWith(deep) && key !== deep)).toEqual(expected)
    expect(await keysV2({ Prefix: deep, MaxKeys: 2 })).toEqual([deep, ...expected])
    expect(await keysV1(deep)).toEqual([deep, ...expected])
    expect(await versionKeys(deep)).toEqual([deep, ...expected])

    const scanned = async (reverse: boolean): Promise<string[]> => {
      const found: string[] = []
      let cursor: string | undefined
      do {
        const page = await kv.scanPage({ limit: 3, reverse, cursor })
        found.push(...page.entries.map(({ key }) => key))
        cursor = page.cursor
      } while (cursor !== undefined)
      return found
    }
    expect(await scanned(false)).toEqual(all)
    expect(await scanned(true)).toEqual(all.toReversed())
    expect(await refusalOf(s3.send(new GetObjectCommand({ Bucket, Key: `${deep}a` })))).toBe('400 KeyTooLongError')
    await expect(kv.get(`${deep}a`)).rejects.toMatchObject({ code: 'KeyTooLong' })
  })

  it('is watched: what happens in the deep is told with its whole key', async () => {
    const abort = new AbortController()
    const told: unknown[] = []
    const { revision } = await kv.scanPage({ limit: 1 })
    const watching = (async () => {
      for await (const event of kv.watch({ from: revision + 1, signal: abort.signal })) {
        told.push(event)
        if (told.length === 2) abort.abort()
      }
    })().catch(() => undefined)
    await run(`for n in $(seq 66); do cd '${NAME}'; done; rm a`)
    await run(`mv '${NAME}' shorter`)
    await watching
    expect(told).toMatchObject([
      { type: 'delete', key: `${path(66)}a` },
      { type: 'renamed', from: `${NAME}/`, to: 'shorter/' },
    ])
    expect((await keysV2({ MaxKeys: 1000 })).at(-1)).toBe(`shorter/${path(65)}large`)
  })

  it('is removed, however deep', async () => {
    await run('rm -r shorter')
    expect(await keysV2({ MaxKeys: 1000 })).toEqual([])
  })
})

async function keysV2(asked: { Prefix?: string; MaxKeys: number }): Promise<string[]> {
  const keys: string[] = []
  let token: string | undefined
  do {
    const page = await s3.send(
      new ListObjectsV2Command({ Bucket, ...asked, ContinuationToken: token, EncodingType: 'url' }),
    )
    keys.push(...(page.Contents ?? []).map(({ Key }) => decoded(Key)))
    token = page.NextContinuationToken
  } while (token !== undefined)
  return keys
}

async function keysV1(Prefix: string): Promise<string[]> {
  const keys: string[] = []
  for (let Marker: string | undefined; ;) {
    const page = await s3.send(new ListObjectsCommand({ Bucket, Prefix, MaxKeys: 2, Marker, EncodingType: 'url' }))
    keys.push(...(page.Contents ?? []).map(({ Key }) => decoded(Key)))
    Marker = keys.at(-1)
    if (page.IsTruncated !== true) return keys
  }
}

async function versionKeys(Prefix: string): Promise<string[]> {
  const keys: string[] = []
  let marker: { KeyMarker?: string; VersionIdMarker?: string } = {}
  for (;;) {
    const page = await s3.send(
      new ListObjectVersionsCommand({ Bucket, Prefix, MaxKeys: 2, ...marker, EncodingType: 'url' }),
    )
    keys.push(...(page.Versions ?? []).map(({ Key }) => decoded(Key)))
    if (page.IsTruncated !== true) return keys
    marker = { KeyMarker: decoded(page.NextKeyMarker), VersionIdMarker: page.NextVersionIdMarker ?? '' }
  }
}

function decoded(key = ''): string {
  return decodeURIComponent(key.replaceAll('+', ' '))
}
