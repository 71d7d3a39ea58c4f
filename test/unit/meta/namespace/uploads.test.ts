import { afterEach, describe, expect, test } from 'vitest'
import type { UploadRecord } from '../../../../src/common/model.ts'
import { DEFAULT_LIMITS } from '../../../../src/common/limits.ts'
import { createNamespace } from '../../../../src/meta/namespace/namespace.ts'
import { MemoryBackend } from '../../../../src/meta/memory/memory-backend.ts'
import type { MemoryStoreOptions } from '../../../../src/meta/memory/memory-store.ts'
import { checkNamespace } from '../../../model/check-namespace.ts'
import { PLAIN, fixture, type Fixture } from './fixture.ts'

const open: Fixture[] = []

async function begin(options: MemoryStoreOptions = {}): Promise<Fixture> {
  const made = await fixture(options)
  open.push(made)
  await made.bucket('box')
  return made
}

afterEach(async () => {
  for (const made of open.splice(0)) {
    await checkNamespace(made.store)
    await made.stop()
  }
})

async function createUpload(made: Fixture, key = 'k'): Promise<UploadRecord> {
  const request = {
    bucket: 'box',
    key,
    owner: 'o',
    attributes: PLAIN,
    checksumAlgorithm: 'CRC32',
    checksumType: 'COMPOSITE',
  } as const
  return (await made.namespace.createUpload(request)).value
}

function etagOf(partNumber: number): string {
  return partNumber.toString(16).padStart(32, '0')
}

async function putPart(made: Fixture, upload: UploadRecord, partNumber: number, length = 10): Promise<void> {
  const run = await made.run(length)
  await made.namespace.putPart({
    ...upload,
    partNumber,
    run,
    size: length,
    etag: etagOf(partNumber),
    checksum: undefined,
  })
}

function completion(upload: UploadRecord, partNumbers: readonly number[]) {
  return {
    ...upload,
    parts: partNumbers.map((partNumber) => ({ partNumber, etag: etagOf(partNumber) })),
    etag: `${'f'.repeat(32)}-${partNumbers.length}`,
    checksum: undefined,
    conditions: {},
    ack: 'journal',
  } as const
}

/** Bytes of an object's extents, which must follow one another without a hole. */
async function wholeBytes(made: Fixture, key: string): Promise<number> {
  const { body } = await made.namespace.lookup('box', key)
  if (body.kind !== 'content') throw new Error('content')
  let end = 0
  for (const extent of await made.namespace.extents(body.content, 0, Infinity)) {
    expect(extent.offset).toBe(end)
    end += extent.length
  }
  return end
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1)

describe('multipart uploads', () => {
  test('C2, C11: 10,000 parts complete in bounded steps, and are read, listed and reclaimed', async () => {
    const made = await begin({ operationsMax: 128 })
    const { namespace } = made
    const upload = await createUpload(made)
    for (let first = 1; first <= 10_000; first += 100) {
      await Promise.all(numbers(100).map((index) => putPart(made, upload, first + index - 1)))
    }
    const { value } = await namespace.completeUpload(completion(upload, numbers(10_000)))
    expect(value).toMatchObject({ size: 100_000, partsCount: 10_000 })
    if (value.body.kind !== 'content') throw new Error('content')
    const { content } = value.body
    expect(await namespace.partRange(content, 7000)).toEqual({ offset: 69_990, length: 10 })
    expect((await namespace.contentParts(content, 9998, 10)).parts.map((part) => part.partNumber)).toEqual([
      9999, 10_000,
    ])
    expect(await namespace.extents(content, 54_321, 20)).toHaveLength(3)
    await made.remove('box', 'k')
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ contents: 0, parts: 0, dropped: 0 })
  })

  test('a part put while a long Complete runs is seen by it, or refused it', async () => {
    const made = await begin()
    const upload = await createUpload(made)
    for (const partNumber of numbers(1200)) await putPart(made, upload, partNumber)
    const completing = made.namespace.completeUpload(completion(upload, numbers(1200)))
    const run = await made.run(3)
    await made.namespace
      .putPart({ ...upload, partNumber: 1, run, size: 3, etag: 'other', checksum: undefined })
      .catch(() => {})
    const outcome = await completing.then(
      ({ value }) => value.size,
      (error: unknown) => error,
    )
    if (typeof outcome === 'number') expect(outcome).toBe(12_000)
    else expect(outcome).toMatchObject({ code: 'InvalidPart' })
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0 })
  })

  test('an abort while a long Complete runs: one of the two wins', async () => {
    const made = await begin()
    const upload = await createUpload(made)
    for (const partNumber of numbers(600)) await putPart(made, upload, partNumber)
    const outcomes = await Promise.allSettled([
      made.namespace.completeUpload(completion(upload, numbers(600))),
      made.namespace.abortUpload('box', 'k', upload.uploadId),
    ])
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0, parts: 0, uploads: 0 })
  })

  test('two Completes at once give the same object; unused parts are reclaimed', async () => {
    const made = await begin()
    const upload = await createUpload(made)
    for (const partNumber of [1, 2, 9]) await putPart(made, upload, partNumber)
    const request = completion(upload, [1, 9])
    const [first, second] = await Promise.all([
      made.namespace.completeUpload(request),
      made.namespace.completeUpload(request),
    ])
    expect(second.value).toEqual(first.value)
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ contents: 3, parts: 0, dropped: 0 })
    expect(await made.namespace.segment(made.segment)).toMatchObject({ liveBytes: 20 })
    await made.put('box', 'k')
    await expect(made.namespace.completeUpload(request)).rejects.toMatchObject({ code: 'NoSuchUpload' })
  })

  test('a missing part or another etag is InvalidPart, and the upload stays', async () => {
    const made = await begin()
    const upload = await createUpload(made)
    await putPart(made, upload, 1)
    await expect(made.namespace.completeUpload(completion(upload, [1, 2]))).rejects.toMatchObject({
      code: 'InvalidPart',
    })
    const listed = await made.namespace.listParts({ ...upload, after: 0, limit: 10 })
    expect(listed).toMatchObject({
      truncated: false,
      parts: [{ partNumber: 1, size: 10 }],
      upload: { checksumAlgorithm: 'CRC32' },
    })
    await expect(made.namespace.upload('box', 'other', upload.uploadId)).rejects.toMatchObject({ code: 'NoSuchUpload' })
    await expect(made.namespace.upload('box', 'k', 'what')).rejects.toMatchObject({ code: 'NoSuchUpload' })
  })

  test('a crash in a long Complete leaves an upload that can be completed, and nothing behind', async () => {
    const made = await begin()
    const upload = await createUpload(made)
    for (const partNumber of numbers(1100)) await putPart(made, upload, partNumber)
    const transact = made.store.transact.bind(made.store)
    let left = 3
    made.store.transact = (fn) => (left-- > 0 ? transact(fn) : Promise.reject(new Error('crash')))
    await expect(made.namespace.completeUpload(completion(upload, numbers(1100)))).rejects.toThrow('crash')
    made.store.transact = transact
    const after = createNamespace({ store: made.store, clock: made.clock, limits: DEFAULT_LIMITS })
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 1, contents: 1100 })
    const { value } = await after.completeUpload(completion(upload, numbers(1100)))
    expect(value.size).toBe(11_000)
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0, contents: 1101, parts: 0 })
  })

  test('a step that is undone by a failed commit leaves no hole in what is built', async () => {
    for (let failing = 1; failing <= 8; failing++) {
      let countdown = Infinity
      const sync = (): Promise<void> => (--countdown === 0 ? Promise.reject(new Error('EIO')) : Promise.resolve())
      const made = await begin({ backend: new MemoryBackend({ sync }) })
      const upload = await createUpload(made)
      await Promise.all(numbers(2600).map((partNumber) => putPart(made, upload, partNumber)))
      const copied = await createUpload(made, 'copied')
      await made.namespace.flush()
      countdown = failing
      // Cut short or not: what is there afterwards is whole.
      await made.namespace.completeUpload(completion(upload, numbers(2600))).catch(() => undefined)
      await made.namespace.flush().catch(() => undefined)
      countdown = Infinity
      await made.namespace.completeUpload(completion(upload, numbers(2600)))
      expect(await wholeBytes(made, 'k')).toBe(26_000)
      countdown = failing
      const part = {
        source: { bucket: 'box', key: 'k' },
        sourceConditions: {},
        range: { offset: 0, length: 2000 },
        ...copied,
        partNumber: 1,
        etag: etagOf(1),
        checksum: undefined,
      }
      await made.namespace.copyPart(part).catch(() => undefined)
      await made.namespace.flush().catch(() => undefined)
      countdown = Infinity
      await made.namespace.copyPart(part)
      await made.namespace.completeUpload(completion(copied, [1]))
      expect(await wholeBytes(made, 'copied')).toBe(2000)
      await made.reclaim()
      expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0, parts: 0 })
    }
  })

  test('a part copied from many pieces, in steps', async () => {
    const made = await begin({ operationsMax: 128, forceRetry: true })
    const upload = await createUpload(made, 'source')
    for (const partNumber of numbers(300)) await putPart(made, upload, partNumber)
    await made.namespace.completeUpload(completion(upload, numbers(300)))
    const second = await createUpload(made, 'target')
    const range = { offset: 5, length: 2905 }
    const copying = {
      ...second,
      source: { bucket: 'box', key: 'source' },
      sourceConditions: {},
      range,
      checksum: undefined,
    }
    await made.namespace.copyPart({ ...copying, partNumber: 1, etag: etagOf(1) })
    await made.namespace.copyPart({ ...copying, partNumber: 2, etag: etagOf(2) })
    await made.remove('box', 'source')
    const { value } = await made.namespace.completeUpload(completion(second, [1, 2]))
    if (value.body.kind !== 'content') throw new Error('content')
    const extents = await made.namespace.extents(value.body.content, 0, value.size)
    expect(extents.reduce((sum, extent) => sum + extent.length, 0)).toBe(5810)
    expect(extents[0]).toMatchObject({ offset: 0, length: 5, segmentOffset: 5 })
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ dropped: 0 })
    await made.remove('box', 'target')
    await made.reclaim()
    expect(await checkNamespace(made.store)).toMatchObject({ contents: 0 })
  })

  test('listed by key, then age, with delimiter and markers', async () => {
    const made = await begin()
    const ids = new Map<string, string>()
    for (const key of ['a/1', 'a/2', 'b', 'b', 'c/', 'd\0']) {
      made.clock.ms++
      ids.set(`${key}${ids.has(key) ? '2' : ''}`, (await createUpload(made, key)).uploadId)
    }
    const all: string[] = []
    let markers = { keyMarker: '', uploadIdMarker: '' }
    for (let more = true; more;) {
      const page = await made.namespace.listUploads({ bucket: 'box', prefix: '', delimiter: '/', ...markers, limit: 1 })
      all.push(...page.commonPrefixes, ...page.uploads.map((upload) => upload.key))
      more = page.truncated
      markers = { keyMarker: page.nextKeyMarker ?? '', uploadIdMarker: page.nextUploadIdMarker ?? '' }
    }
    expect(all).toEqual(['a/', 'b', 'b', 'c/', 'd\0'])
    const flat = await made.namespace.listUploads({
      bucket: 'box',
      prefix: 'a/',
      delimiter: '',
      keyMarker: 'a/1',
      uploadIdMarker: '',
      limit: 10,
    })
    expect(flat.uploads.map((upload) => upload.uploadId)).toEqual([ids.get('a/2')])
  })
})
