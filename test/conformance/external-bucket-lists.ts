/** What every external bucket owes its listings: see external-bucket.ts. */
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ExternalBucket, ExternalPage } from '../../src/attach/ports.ts'
import type { ObjectAttributes } from '../../src/common/model.ts'
import { sourceOf } from '../support/piece-source.ts'

export interface ExternalBucketHarness {
  start(): Promise<void>
  /** A bucket over an empty place of its own. Stopped by the suite. */
  create(): Promise<ExternalBucket>
  /** Another program puts an object beside the attachment's prefix, if that has an outside. */
  putBeside?(name: string, text: string): Promise<void>
  stop(): Promise<void>
}

const PLAIN: ObjectAttributes = { headers: {}, userMetadata: {}, tags: {}, storageClass: 'STANDARD' }
const ANYTHING = { kind: 'anything' } as const

const md5 = (bytes: Uint8Array): Buffer => createHash('md5').update(bytes).digest()

/** Markers of directories are empty: some stores take no others. */
export const contentFor = (key: string): Buffer => Buffer.from(key.endsWith('/') ? '' : key)

export function testExternalLists(harness: ExternalBucketHarness): void {
  describe('listing', () => {
    const keys = ['a!b', 'a-b', 'a.b', 'a/b', 'a/b-c', 'a/c/d', 'a0', 'b', 'c/1', 'c/2', 'd/', 'd/e', '~']
    let listed: ExternalBucket
    beforeAll(async () => {
      listed = await harness.create()
      for (const key of keys) {
        await listed.put(key, sourceOf(contentFor(key)), { attributes: PLAIN, expected: ANYTHING })
      }
      await harness.putBeside?.('beside', 'not ours')
    })
    afterAll(() => listed?.stop())
    const page = (prefix: string, after: string, delimiter: '' | '/', limit = 1000): Promise<ExternalPage> =>
      listed.list({ prefix, after, delimiter, limit })
    const names = ({ objects, prefixes }: ExternalPage): string[] =>
      [...objects.map(({ key }) => key), ...prefixes].sort()

    it('is in byte order, below a prefix, and tells nothing from beside the attachment', async () => {
      expect((await page('', '', '')).objects.map(({ key }) => key)).toEqual(keys)
      expect(names(await page('a/', '', ''))).toEqual(['a/b', 'a/b-c', 'a/c/d'])
      expect(names(await page('nothing/', '', ''))).toEqual([])
      const [found] = (await page('a/c', '', '')).objects
      expect(found).toMatchObject({ key: 'a/c/d', size: 5, etag: md5(Buffer.from('a/c/d')).toString('hex') })
    })

    it('rolls up what has a delimiter', async () => {
      const root = await page('', '', '/')
      expect(root.objects.map(({ key }) => key)).toEqual(['a!b', 'a-b', 'a.b', 'a0', 'b', '~'])
      expect(root.prefixes).toEqual(['a/', 'c/', 'd/'])
      expect(root.next).toBeUndefined()
      const below = await page('d/', '', '/')
      expect([names(below), below.prefixes]).toEqual([['d/', 'd/e'], []])
    })

    it('goes on after any name, whether it is there or not', async () => {
      for (const after of ['a', 'a-b', 'a/', 'a/b', 'a/c', 'a/zz', 'a0', 'b', 'c/1', '~', 'zz']) {
        expect(names(await page('', after, '')), after).toEqual(keys.filter((key) => key > after))
        const rolled = ['a!b', 'a-b', 'a.b', 'a/', 'a0', 'b', 'c/', 'd/', '~']
        expect(names(await page('', after, '/')), `${after} with a delimiter`).toEqual(
          rolled.filter((name) => name > after),
        )
      }
    })

    it.each(['', '/'] as const)(
      'in pages of any size tells each name once, with the delimiter %j',
      async (delimiter) => {
        const all = names(await page('', '', delimiter))
        for (const limit of [1, 2, 3, 5]) {
          const paged: string[] = []
          let after: string | undefined = ''
          for (let pages = 0; after !== undefined && pages < 50; pages++) {
            const next: ExternalPage = await page('', after, delimiter, limit)
            expect(next.objects.length + next.prefixes.length).toBeLessThanOrEqual(limit)
            paged.push(...names(next))
            after = next.next
          }
          expect(paged, `pages of ${limit}`).toEqual(all)
        }
      },
    )
  })
}
