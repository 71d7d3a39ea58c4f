/** What every external bucket owes (src/attach/ports.ts, `ExternalBucket`), by the capabilities that it has. */
import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type {
  Expected,
  ExternalBucket,
  ExternalCapabilities,
  PieceSource,
  UploadPiece,
} from '../../src/attach/ports.ts'
import type { ObjectAttributes } from '../../src/common/model.ts'
import { piece, sourceOf } from '../support/piece-source.ts'
import { contentFor, testExternalLists, type ExternalBucketHarness } from './external-bucket-lists.ts'

export interface ExternalBucketOptions {
  readonly lack?: string | undefined
  /** What this store is known to be able to do; more or less is news. What is left out is as the probe finds it. */
  readonly capabilities: Partial<ExternalCapabilities>
  /** Whether copies on a condition on their source are made at all. */
  readonly copies: boolean
  /** Keys that the store is known not to take. */
  readonly refusesKey?: (key: string) => boolean
  /** A put on a condition is decided, but not atomically. */
  readonly isRacy?: boolean
  /** A copy to itself leaves headers that it should not have any more. */
  readonly keepsHeaders?: boolean
}

const MIB = 1024 * 1024
const PART_BYTES = 5 * MIB
const CLOCK_SKEW_MS = 60_000
const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const ANYTHING: Expected = { kind: 'anything' }
const ABSENT: Expected = { kind: 'absent' }
const NO_ETAG = '0'.repeat(32)

const etagOf = (etag: string): Expected & { kind: 'etag' } => ({ kind: 'etag', etag })
const md5 = (bytes: Uint8Array): Buffer => createHash('md5').update(bytes).digest()

const KEYS = [
  'plain',
  'with space',
  ' leading and trailing ',
  'plus+plus',
  'per%cent%20',
  'a//b',
  '/leading',
  'dir/',
  'ümlaut/日本',
  '\u{1f600}/\u{fffd}',
  '\uffee',
  `quote"'<&>`,
  'back\\slash',
  '?query=1&two#fragment',
  'tab\t',
  'line\nfeed',
  'bell\u0007',
  '~tilde!*()',
  'semi;colon:at@equals=comma,',
  'k'.repeat(200),
]

export function testExternalBucket(kind: string, harness: ExternalBucketHarness, options: ExternalBucketOptions): void {
  describe.skipIf(options.lack !== undefined)(`the external bucket: ${kind}`, { timeout: 120_000 }, () => {
    let capabilities: ExternalCapabilities
    let bucket: ExternalBucket
    beforeAll(async () => {
      await harness.start()
      bucket = await harness.create()
      capabilities = await bucket.probe()
    }, 300_000)
    afterAll(async () => {
      bucket?.stop()
      await harness.stop()
    })

    const put = async (
      key: string,
      bytes: Uint8Array | string,
      more: Partial<ObjectAttributes> = {},
    ): Promise<string> => {
      const attributes = { ...PLAIN, ...more }
      return (await bucket.put(key, sourceOf(Buffer.from(bytes)), { attributes, expected: ANYTHING })).etag
    }
    const whole = async (key: string): Promise<Buffer | undefined> => {
      const found = await bucket.head(key)
      if (found === undefined) return undefined
      const bytes = Buffer.alloc(found.size)
      if (found.size > 0) expect(await bucket.read(found, 0, [bytes])).toBe(found.size)
      return bytes
    }
    const text = async (key: string): Promise<string | undefined> => (await whole(key))?.toString()
    const codeOf = async (work: Promise<unknown>): Promise<string> =>
      work.then(
        () => 'done',
        (error: { code: string }) => error.code,
      )

    it('can do what it is known to, and leaves nothing of its own behind by finding that out', async () => {
      const fresh = await harness.create()
      const [found] = await Promise.all([fresh.probe(), fresh.probe()])
      expect(found).toMatchObject(options.capabilities)
      expect(await fresh.list({ prefix: '', after: '', delimiter: '', limit: 1000 })).toEqual({
        objects: [],
        prefixes: [],
        next: undefined,
      })
      fresh.stop()
    })

    describe('an object put in one request', () => {
      it.each([0, 1, 100_000, MIB, MIB + 1, 3 * MIB + 7])('of %i bytes arrives as it is', async (size) => {
        const bytes = randomBytes(size)
        const etag = await put('whole', bytes)
        expect(etag).toBe(md5(bytes).toString('hex'))
        expect(await bucket.head('whole')).toMatchObject({ key: 'whole', size, etag, storageClass: 'STANDARD' })
        expect((await whole('whole'))?.equals(bytes)).toBe(true)
      })

      it('carries what is said of it', async () => {
        const attributes: ObjectAttributes = {
          headers: {
            contentType: 'text/x-tide; charset=utf-8',
            cacheControl: 'no-cache',
            contentDisposition: 'attachment; filename="a b"',
            contentEncoding: 'zstd',
            contentLanguage: 'de, en',
            expires: 'Thu, 01 Dec 2033 16:00:00 GMT',
          },
          userMetadata: { plain: 'value', words: 'Größe 日本 =?', empty: '' },
          tags: { one: 'first', 'two words': 'a+b=c/ü' },
          storageClass: 'STANDARD',
        }
        await put('described', 'x', attributes)
        const found = await bucket.head('described')
        expect(found?.attributes).toEqual({ ...attributes, userMetadata: { ...found?.attributes.userMetadata } })
        const { empty = '', ...others } = found?.attributes.userMetadata ?? {}
        // Some stores drop what is empty.
        expect([others, empty]).toEqual([{ plain: 'value', words: 'Größe 日本 =?' }, ''])
        expect(await bucket.tags('described')).toEqual(attributes.tags)
        expect(Math.abs(found!.modifiedMs - Date.now())).toBeLessThan(CLOCK_SKEW_MS)
        expect(found?.partsCount).toBeUndefined()
      })

      it('that is not there is undefined', async () => {
        expect(await bucket.head('none')).toBeUndefined()
        expect(await codeOf(bucket.read({ key: 'none', etag: NO_ETAG }, 0, [Buffer.alloc(1)]))).toBe('NoSuchKey')
      })

      it('is not put when its source fails, and says whose fault that is', async () => {
        const broken: PieceSource = {
          length: 2 * MIB,
          async *bytes() {
            yield Buffer.alloc(MIB)
            throw new Error('the disk is gone')
          },
        }
        const tried = bucket.put('broken', broken, { attributes: PLAIN, expected: ANYTHING })
        await expect(tried).rejects.toThrow('the disk is gone')
        expect(await bucket.head('broken')).toBeUndefined()
      })

      it('can be given up', async () => {
        const signal = AbortSignal.abort(new Error('given up'))
        const tried = bucket.put('given-up', sourceOf(Buffer.alloc(9)), {
          attributes: PLAIN,
          expected: ANYTHING,
          signal,
        })
        await expect(tried).rejects.toThrow()
        expect(await bucket.head('given-up')).toBeUndefined()
      })
    })

    it('takes and lists keys of any text', async () => {
      const keys = KEYS.filter((key) => options.refusesKey?.(key) !== true)
      const fresh = await harness.create()
      for (const key of keys) await fresh.put(key, sourceOf(contentFor(key)), { attributes: PLAIN, expected: ANYTHING })
      const page = await fresh.list({ prefix: '', after: '', delimiter: '', limit: 1000 })
      const sorted = [...keys].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)))
      expect(page.objects.map(({ key }) => key)).toEqual(sorted)
      for (const { key, etag, size } of page.objects) {
        const bytes = Buffer.alloc(size)
        if (size > 0) await fresh.read({ key, etag }, 0, [bytes])
        expect(bytes.equals(contentFor(key))).toBe(true)
        expect(await fresh.head(key)).toMatchObject({ key, etag, size })
        await fresh.remove(key, ANYTHING as { kind: 'anything' })
      }
      expect(await fresh.list({ prefix: '', after: '', delimiter: '/', limit: 1 })).toMatchObject({ objects: [] })
      fresh.stop()
    })

    describe('reading', () => {
      const content = randomBytes(300_000)
      let etag = ''
      beforeAll(async () => {
        etag = await put('range', content)
      })

      it('fills the buffers one after the other, and nothing beside them', async () => {
        const slab = new Uint8Array(new SharedArrayBuffer(200_000)).fill(7)
        const into = [slab.subarray(10, 11), slab.subarray(1000, 70_000), slab.subarray(80_000, 80_100)]
        expect(await bucket.read({ key: 'range', etag }, 12_345, into)).toBe(1 + 69_000 + 100)
        let offset = 12_345
        for (const buffer of into) {
          expect(Buffer.compare(buffer, content.subarray(offset, offset + buffer.length))).toBe(0)
          offset += buffer.length
        }
        expect(slab.subarray(11, 1000).every((byte) => byte === 7)).toBe(true)
        expect(slab.subarray(80_100).every((byte) => byte === 7)).toBe(true)
      })

      it('ends at the end of the object', async () => {
        expect(await bucket.read({ key: 'range', etag }, content.length - 10, [Buffer.alloc(1000)])).toBe(10)
        expect(await bucket.read({ key: 'range', etag }, content.length, [Buffer.alloc(10)])).toBe(0)
      })

      it('of an object that was replaced is refused, wherever it is read (C32)', async () => {
        const before = await put('replaced', Buffer.alloc(1000))
        await put('replaced', 'short')
        for (const offset of [0, 3, 500]) {
          const tried = bucket.read({ key: 'replaced', etag: before }, offset, [Buffer.alloc(100)])
          expect(await codeOf(tried), `from ${offset}`).toBe('PreconditionFailed')
        }
      })
    })

    testExternalLists(harness)

    describe('a multipart upload', () => {
      it('arrives in its parts', async () => {
        const parts = [randomBytes(PART_BYTES), randomBytes(PART_BYTES + 1), randomBytes(3)]
        const attributes = { ...PLAIN, userMetadata: { in: 'parts' }, tags: { in: 'parts' } }
        const told: string[] = []
        const aboutToComplete = async (announced: string): Promise<void> => {
          expect(await bucket.head('parts')).toBeUndefined()
          told.push(announced)
        }
        const how = { attributes, expected: ANYTHING, aboutToComplete }
        const { etag } = await bucket.putInParts('parts', parts.map(piece), how)
        expect(told).toEqual([etag])
        expect(etag).toBe(`${md5(Buffer.concat(parts.map(md5))).toString('hex')}-3`)
        const found = await bucket.head('parts')
        expect(found).toMatchObject({ etag, partsCount: 3, size: 2 * PART_BYTES + 4 })
        expect(found?.attributes).toMatchObject({ userMetadata: { in: 'parts' }, tags: { in: 'parts' } })
        expect((await whole('parts'))?.equals(Buffer.concat(parts))).toBe(true)
      })

      it('takes parts from an object that lies there, itself too, or refuses to (C32)', async () => {
        const before = randomBytes(2 * PART_BYTES)
        const etag = await put('partly', before)
        const changed = randomBytes(PART_BYTES)
        const pieces: UploadPiece[] = [
          piece(changed),
          { kind: 'copy', key: 'partly', etag, offset: PART_BYTES, length: PART_BYTES },
        ]
        const told: string[] = []
        const aboutToComplete = async (announced: string): Promise<void> => void told.push(announced)
        const tried = bucket.putInParts('partly', pieces, { attributes: PLAIN, expected: ANYTHING, aboutToComplete })
        if (!options.copies) {
          expect(await codeOf(tried)).toBe('NotImplemented')
          return
        }
        const { etag: joined } = await tried
        // Not every store gives a copied part the MD5 of its bytes; a wrong word would be worse than none.
        expect([[], [joined]]).toContainEqual(told)
        expect((await whole('partly'))?.equals(Buffer.concat([changed, before.subarray(PART_BYTES)]))).toBe(true)
        const again = bucket.putInParts('partly', pieces, { attributes: PLAIN, expected: ANYTHING })
        await expect(again).rejects.toMatchObject({ code: 'PreconditionFailed', details: { side: 'source' } })
      })

      it('that is given up leaves what was there', async () => {
        await put('kept', 'before')
        const ending = new AbortController()
        const parts = [piece(randomBytes(PART_BYTES)), piece(randomBytes(PART_BYTES)), piece(randomBytes(PART_BYTES))]
        const slow: PieceSource = {
          length: 9,
          async *bytes() {
            ending.abort(new Error('given up'))
            yield Buffer.alloc(9)
          },
        }
        const pieces: UploadPiece[] = [...parts, { kind: 'bytes', source: slow }]
        const { signal } = ending
        const tried = bucket.putInParts('kept', pieces, { attributes: PLAIN, expected: ANYTHING, signal })
        await expect(tried).rejects.toThrow()
        expect(await text('kept')).toBe('before')
      })
    })

    /** What must hold for every kind of write with conditions; `write` brings other bytes each time. */
    const decides = async (key: string, write: (expected: Expected) => Promise<{ etag: string }>): Promise<void> => {
      await bucket.remove(key, { kind: 'anything' })
      expect(await codeOf(write(etagOf(NO_ETAG)))).toBe('PreconditionFailed')
      expect(await bucket.head(key)).toBeUndefined()
      const first = await write(ABSENT)
      expect((await bucket.head(key))?.etag).toBe(first.etag)
      expect(await codeOf(write(ABSENT))).toBe('PreconditionFailed')
      expect(await codeOf(write(etagOf(NO_ETAG)))).toBe('PreconditionFailed')
      expect((await bucket.head(key))?.etag).toBe(first.etag)
      const second = await write(etagOf(first.etag))
      expect((await bucket.head(key))?.etag).toBe(second.etag)
    }
    const refusesBoth = async (key: string, write: (expected: Expected) => Promise<unknown>): Promise<void> => {
      const etag = await put(key, 'before')
      expect(await codeOf(write(ABSENT))).toBe('NotImplemented')
      expect(await codeOf(write(etagOf(etag)))).toBe('NotImplemented')
      expect(await text(key)).toBe('before')
    }
    describe('conditions (C32)', () => {
      let count = 0
      const other = (): Buffer => Buffer.from(`other bytes ${++count}`)

      it('are decided, or refused, by put', async () => {
        const write = (expected: Expected): Promise<{ etag: string }> =>
          bucket.put('if-put', sourceOf(other()), { attributes: PLAIN, expected })
        await (capabilities.conditionalPut ? decides('if-put', write) : refusesBoth('if-put', write))
      })

      if (!options.isRacy)
        it('let one of many win', async () => {
          if (!capabilities.conditionalPut) return
          const puts = Array.from({ length: 8 }, (_, index) => {
            const source = sourceOf(Buffer.from(`contender ${index}`))
            return codeOf(bucket.put('decided', source, { attributes: PLAIN, expected: ABSENT }))
          })
          expect((await Promise.all(puts)).sort()).toEqual([
            ...Array.from({ length: 7 }, () => 'PreconditionFailed'),
            'done',
          ])
        })

      it('are decided, or refused, by multipart uploads', async () => {
        const write = (expected: Expected): Promise<{ etag: string }> =>
          bucket.putInParts('if-parts', [piece(other())], { attributes: PLAIN, expected })
        await (capabilities.conditionalComplete ? decides('if-parts', write) : refusesBoth('if-parts', write))
      })

      it('are decided, or refused, by copies', async () => {
        const write = async (expected: Expected): Promise<{ etag: string }> => {
          const bytes = other()
          const etag = await put('if-copy-source', bytes)
          const from = { key: 'if-copy-source', etag, size: bytes.length }
          return await bucket.copy(from, 'if-copy', { attributes: undefined, expected })
        }
        await (capabilities.conditionalCopy ? decides('if-copy', write) : refusesBoth('if-copy', write))
      })

      it('are decided, or refused, by remove', async () => {
        const etag = await put('if-remove', 'before')
        if (!capabilities.conditionalDelete) {
          expect(await codeOf(bucket.remove('if-remove', etagOf(etag)))).toBe('NotImplemented')
          expect(await text('if-remove')).toBe('before')
          return
        }
        expect(await codeOf(bucket.remove('if-remove', etagOf(NO_ETAG)))).toBe('PreconditionFailed')
        expect(await text('if-remove')).toBe('before')
        await bucket.remove('if-remove', etagOf(etag))
        expect(await bucket.head('if-remove')).toBeUndefined()
        await bucket.remove('if-remove', etagOf(etag))
      })
    })

    it('removes what is there, and what is not', async () => {
      await put('gone', 'x')
      await bucket.remove('gone', { kind: 'anything' })
      await bucket.remove('gone', { kind: 'anything' })
      expect(await bucket.head('gone')).toBeUndefined()
    })

    if (options.copies)
      describe('a copy', () => {
        const described: Partial<ObjectAttributes> = {
          headers: { contentType: 'text/plain', cacheControl: 'no-store' },
          userMetadata: { is: 'described' },
          tags: { is: 'tagged' },
        }
        const copied = async (
          attributes: ObjectAttributes | undefined,
          target: string,
          bytes = 'the source',
        ): Promise<void> => {
          const etag = await put('copy source+%/ü', bytes, described)
          const from = { key: 'copy source+%/ü', etag, size: Buffer.byteLength(bytes) }
          await bucket.copy(from, target, { attributes, expected: ANYTHING })
        }

        it.each(['the source', ''])('of %j is as its source', async (bytes) => {
          await copied(undefined, 'copied', bytes)
          expect(await text('copied')).toBe(bytes)
          expect((await bucket.head('copied'))?.attributes).toEqual({ ...PLAIN, ...described })
        })

        it('is what is said of it, if something is said', async () => {
          const said = {
            ...PLAIN,
            headers: { contentType: 'text/html' },
            userMetadata: { other: 'words' },
            tags: { t: '1' },
          }
          await copied(said, 'copied-otherwise')
          expect(await text('copied-otherwise')).toBe('the source')
          expect((await bucket.head('copied-otherwise'))?.attributes).toEqual(said)
        })

        it('to itself changes what is said of it', async () => {
          const bytes = 'itself'
          const etag = await put('itself', bytes, described)
          const said = { ...PLAIN, headers: { contentType: 'text/html' }, userMetadata: { other: 'words' } }
          const from = { key: 'itself', etag, size: bytes.length }
          await bucket.copy(from, 'itself', { attributes: said, expected: ANYTHING })
          expect(await text('itself')).toBe(bytes)
          const found = (await bucket.head('itself'))?.attributes
          if (options.keepsHeaders) expect(found).toMatchObject(said)
          else expect(found).toEqual(said)
        })

        it('of a source that was replaced or is gone is not made, and says so (C32)', async () => {
          const options = { attributes: undefined, expected: ANYTHING }
          const etag = await put('other-source', 'one')
          await put('other-source', 'another')
          const from = { key: 'other-source', etag, size: 3 }
          await expect(bucket.copy(from, 'not-copied', options)).rejects.toMatchObject({
            code: 'PreconditionFailed',
            details: { side: 'source' },
          })
          await bucket.remove('other-source', { kind: 'anything' })
          await expect(bucket.copy(from, 'not-copied', options)).rejects.toMatchObject({ code: 'NoSuchKey' })
          expect(await bucket.head('not-copied')).toBeUndefined()
        })
      })

    if (!options.copies)
      it('makes no copy that it could not hold to its source', async () => {
        const etag = await put('source', 'x')
        const options = { attributes: PLAIN, expected: ANYTHING }
        expect(await codeOf(bucket.copy({ key: 'source', etag, size: 1 }, 'copy', options))).toBe('NotImplemented')
      })

    it('sets tags without another ETag', async () => {
      const etag = await put('tagged', 'x', { tags: { before: '1' } })
      await bucket.setTags('tagged', { after: '2', 'and more': 'ü' })
      expect(await bucket.tags('tagged')).toEqual({ after: '2', 'and more': 'ü' })
      expect(await bucket.head('tagged')).toMatchObject({ etag, attributes: { tags: { after: '2', 'and more': 'ü' } } })
      await bucket.setTags('tagged', {})
      expect(await bucket.tags('tagged')).toEqual({})
      expect(await codeOf(bucket.tags('not-there'))).toBe('NoSuchKey')
    })

    it('says where it is', () => {
      expect(bucket.description).toMatch(/^(memory|s3):/)
    })
  })
}
