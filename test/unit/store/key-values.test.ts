import { beforeEach, expect, test } from 'vitest'
import { TidegateError } from '../../../src/common/errors.ts'
import type { ObjectVersion } from '../../../src/common/model.ts'
import type { Memory } from '../../../src/store/byte-ports.ts'
import { StoreKeyValues, type KeyValuesParts } from '../../../src/store/key-values.ts'
import type { MetadataScanPage, ScanRequest } from '../../../src/store/kv-types.ts'
import { Readers } from '../../../src/store/reading.ts'

const ATTRIBUTES = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const REQUEST = { bucket: 'b', limit: 10 } as unknown as ScanRequest
let readers: Readers
let page: MetadataScanPage | TidegateError
let present: boolean[]
let horizon: number | undefined
let keyValues: StoreKeyValues

beforeEach(() => {
  present = []
  const metadata = {
    revision: () => 5,
    scan: () => {
      horizon = readers.horizon(Infinity)
      return page instanceof TidegateError ? Promise.reject(page) : Promise.resolve(page)
    },
    presence: () => Promise.resolve({ present, revision: 6 }),
  }
  readers = new Readers({ memory: {} as Memory, contents: {} as KeyValuesParts['metadata'], blockBytes: 256 })
  keyValues = new StoreKeyValues({ metadata, readers } as unknown as KeyValuesParts)
})

function listed(key: string, body?: ObjectVersion['body']): MetadataScanPage['keys'][number] {
  const row = { key, size: 3, revision: 4 } as unknown as MetadataScanPage['keys'][number]
  return { ...row, version: body && ({ key, body, attributes: ATTRIBUTES } as ObjectVersion) }
}

test('C12: a scan is a reader before it looks, and leaves one open for each value that lies in a segment', async () => {
  const bytes = Buffer.from('abc')
  page = {
    keys: [listed('a'), listed('b', { kind: 'inline', bytes }), listed('c', { kind: 'content', content: 9 })],
    next: 'c',
    revision: 6,
  }
  const scanned = await keyValues.scan(REQUEST)
  expect(horizon).toBe(5)
  const reader = expect.any(Number) as number
  expect(scanned).toEqual({
    keys: [
      { key: 'a', size: 3, revision: 4, value: undefined },
      { key: 'b', size: 3, revision: 4, value: { attributes: ATTRIBUTES, body: { kind: 'inline', bytes } } },
      { key: 'c', size: 3, revision: 4, value: { attributes: ATTRIBUTES, body: { kind: 'content', reader } } },
    ],
    next: 'c',
    revision: 6,
  })
  expect([readers.count, readers.horizon(99)]).toEqual([1, 5])
})

test('a scan that fails leaves no reader open', async () => {
  page = new TidegateError('NoSuchBucket', 'b')
  await expect(keyValues.scan(REQUEST)).rejects.toMatchObject({ code: 'NoSuchBucket' })
  expect(readers.count).toBe(0)
})

test('which keys are there, and how many from the first on', async () => {
  present = [true, false, true]
  expect(await keyValues.exist('b', ['x', 'y', 'z'])).toEqual({ exist: [true, false, true], revision: 6 })
  for (const [answer, count] of [
    [[], 0],
    [[false], 0],
    [[true, false], 1],
    [[true, true], 2],
  ] as const) {
    present = [...answer]
    expect(await keyValues.countLeading('b', ['x', 'y'])).toEqual({ count, revision: 6 })
  }
})
