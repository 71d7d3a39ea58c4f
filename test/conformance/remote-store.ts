/** What every remote store owes (src/persist/remote/ports.ts), by the capabilities that it declares. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AssertionFailed } from '../../src/common/assert.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'

export interface RemoteStoreHarness {
  start(): Promise<void>
  /** A store over an empty place of its own. Stopped by the suite. */
  create(): Promise<RemoteStore>
  stop(): Promise<void>
}

const KIB = 1024
const MIB = 1024 * KIB
const CLOCK_SKEW_MS = 60_000
/** One request, a whole number of parts, and a last part of one byte. */
const FILE_SIZES = [0, 1, 100 * KIB, 16 * MIB, 33 * MIB + 1]

export function testRemoteStore(
  kind: string,
  harness: RemoteStoreHarness,
  options: { readonly lack?: string | undefined } = {},
): void {
  describe.skipIf(options.lack !== undefined)(`the remote store: ${kind}`, { timeout: 120_000 }, () => {
    let store: RemoteStore
    let files: string
    beforeAll(async () => {
      files = await mkdtemp(join(tmpdir(), 'tidegate-remote-files-'))
      await harness.start()
      store = await harness.create()
      await store.connect()
    }, 300_000)
    afterAll(async () => {
      await store?.stop()
      await harness.stop()
      await rm(files, { recursive: true, force: true })
    })

    const fileOf = async (bytes: Buffer): Promise<{ path: string; bytes: number }> => {
      const path = join(files, randomBytes(8).toString('hex'))
      await writeFile(path, bytes)
      return { path, bytes: bytes.length }
    }
    const whole = async (name: string): Promise<Buffer> => (await store.get(name, 64 * MIB))!.bytes

    describe('small objects', () => {
      it('are stored whole, over what was there', async () => {
        const first = await store.put('small/one', Buffer.from('first'))
        expect(await store.get('small/one', 5)).toEqual({ bytes: Buffer.from('first'), etag: first.etag })
        const second = await store.put('small/one', Buffer.from('second'))
        expect(second.etag).not.toBe(first.etag)
        expect(await store.get('small/one', 100)).toEqual({ bytes: Buffer.from('second'), etag: second.etag })
      })

      it('may be empty', async () => {
        await store.put('small/empty', Buffer.alloc(0))
        expect((await store.get('small/empty', 0))?.bytes).toEqual(Buffer.alloc(0))
        expect(await store.read('small/empty', 0, [Buffer.alloc(10)])).toBe(0)
        expect(await store.stat('small/empty')).toMatchObject({ name: 'small/empty', bytes: 0 })
      })

      it('that are not there are undefined, and too large ones an error', async () => {
        expect(await store.get('small/none', 10)).toBeUndefined()
        expect(await store.get('small', 10)).toBeUndefined()
        await store.put('small/large', Buffer.alloc(1000))
        await expect(store.get('small/large', 999)).rejects.toMatchObject({ code: 'EntityTooLarge' })
      })

      it('are stored by many at once', async () => {
        const names = Array.from({ length: 60 }, (_, index) => `many/${index}`)
        await Promise.all(names.map((name) => store.put(name, Buffer.from(name))))
        const read = await Promise.all(names.map((name) => store.get(name, 100)))
        expect(read.map((found) => found?.bytes.toString())).toEqual(names)
      })
    })

    describe('files', () => {
      it.each(FILE_SIZES)('of %i bytes arrive as they are', async (size) => {
        const content = randomBytes(size)
        const name = `segments/ab/${size}.seg`
        const file = await fileOf(content)
        await store.putFile(name, file)
        expect(existsSync(file.path)).toBe(!store.capabilities.takesFiles)
        expect(await store.stat(name)).toMatchObject({ name, bytes: size })
        expect((await whole(name)).equals(content)).toBe(true)
      })

      it('may be stored again, as after a lost answer', async () => {
        const content = randomBytes(3 * MIB)
        const file = await fileOf(content)
        await store.putFile('files/again', file)
        await store.putFile('files/again', file)
        expect((await whole('files/again')).equals(content)).toBe(true)
      })

      it('replace what was there', async () => {
        await store.putFile('files/replaced', await fileOf(Buffer.from('before')))
        await store.putFile('files/replaced', await fileOf(Buffer.from('after')))
        expect((await whole('files/replaced')).toString()).toBe('after')
      })

      it('that are absent, or of another length than was said, are refused and leave nothing', async () => {
        const absent = store.putFile('files/absent', { path: join(files, 'absent'), bytes: 5 })
        await expect(absent).rejects.toMatchObject({ code: 'Unavailable' })
        const { path } = await fileOf(Buffer.from('four'))
        await expect(store.putFile('files/absent', { path, bytes: 5 })).rejects.toMatchObject({ code: 'Unavailable' })
        expect(await store.stat('files/absent')).toBeUndefined()
      })

      it('that are given up leave nothing', async () => {
        const file = await fileOf(randomBytes(40 * MIB))
        const early = AbortSignal.abort(new Error('given up'))
        await expect(store.putFile('files/given-up', file, early)).rejects.toThrow()
        expect(await store.stat('files/given-up')).toBeUndefined()
        if (store.capabilities.takesFiles) return
        const late = new AbortController()
        const uploading = store.putFile('files/given-up', file, late.signal)
        setTimeout(() => late.abort(new Error('given up')), 40)
        const stored = await uploading.then(
          () => true,
          () => false,
        )
        expect((await store.stat('files/given-up'))?.bytes).toBe(stored ? file.bytes : undefined)
        expect(await store.abandonUploads(Date.now() + CLOCK_SKEW_MS)).toBe(0)
      })
    })

    describe('reading a range', () => {
      const content = randomBytes(300 * KIB)
      beforeAll(async () => {
        await store.put('range', content)
      })

      it('fills the buffers one after the other, and nothing beside them', async () => {
        const slab = new Uint8Array(new SharedArrayBuffer(200 * KIB)).fill(7)
        const into = [slab.subarray(10, 11), slab.subarray(1000, 70_000), slab.subarray(80_000, 80_100)]
        expect(await store.read('range', 12_345, into)).toBe(1 + 69_000 + 100)
        let offset = 12_345
        for (const buffer of into) {
          expect(Buffer.compare(buffer, content.subarray(offset, offset + buffer.length))).toBe(0)
          offset += buffer.length
        }
        expect(slab.subarray(11, 1000).every((byte) => byte === 7)).toBe(true)
        expect(slab.subarray(70_000, 80_000).every((byte) => byte === 7)).toBe(true)
        expect(slab.subarray(80_100).every((byte) => byte === 7)).toBe(true)
      })

      it('ends at the end of the object', async () => {
        const buffer = Buffer.alloc(1000, 7)
        expect(await store.read('range', content.length - 10, [buffer])).toBe(10)
        expect(buffer.subarray(0, 10).equals(content.subarray(-10))).toBe(true)
        expect(buffer.subarray(10).every((byte) => byte === 7)).toBe(true)
        expect(await store.read('range', content.length, [buffer])).toBe(0)
        expect(await store.read('range', content.length + 1000, [buffer])).toBe(0)
        const all = Buffer.alloc(content.length + 5)
        expect(await store.read('range', 0, [all])).toBe(content.length)
        expect(all.subarray(0, content.length).equals(content)).toBe(true)
      })

      it('of what is not there is NoSuchKey', async () => {
        await expect(store.read('range/none', 0, [Buffer.alloc(1)])).rejects.toMatchObject({ code: 'NoSuchKey' })
      })

      it('can be given up', async () => {
        const signal = AbortSignal.abort(new Error('given up'))
        await expect(store.read('range', 0, [Buffer.alloc(1)], { signal })).rejects.toThrow()
      })

      it('serves many at once', async () => {
        const offsets = Array.from({ length: 40 }, (_, index) => index * 5_000)
        const buffers = offsets.map(() => Buffer.alloc(4_000))
        await Promise.all(offsets.map((offset, index) => store.read('range', offset, [buffers[index]!])))
        buffers.forEach((buffer, index) => {
          expect(buffer.equals(content.subarray(offsets[index], offsets[index]! + 4_000))).toBe(true)
        })
      })
    })

    it('says size and time of an object, and undefined of none', async () => {
      await store.put('stat/one', Buffer.alloc(321))
      const found = await store.stat('stat/one')
      expect(found).toMatchObject({ name: 'stat/one', bytes: 321 })
      expect(Math.abs(found!.modifiedMs - Date.now())).toBeLessThan(CLOCK_SKEW_MS)
      expect(await store.stat('stat/two')).toBeUndefined()
      expect(await store.stat('stat')).toBeUndefined()
    })

    describe('listing', () => {
      const names = [
        'list/a!b',
        'list/a-b',
        'list/a.b',
        'list/a/b',
        'list/a/b-c',
        'list/a/c/d',
        'list/a0',
        'list/b',
        'list/~',
      ]
      beforeAll(async () => {
        for (const name of ['list-', 'list0', ...names]) await store.put(name, Buffer.from(name))
      })
      const listed = async (prefix: string, after: string | undefined, limit: number): Promise<string[]> =>
        (await store.list(prefix, after, limit)).map(({ name }) => name)

      it('is in byte order, below a prefix', async () => {
        expect(await listed('list/', undefined, 1000)).toEqual(names)
        expect(await listed('list/a/', undefined, 1000)).toEqual(['list/a/b', 'list/a/b-c', 'list/a/c/d'])
        expect(await listed('list/a', undefined, 1000)).toEqual(names.slice(0, 7))
        expect(await listed('list', undefined, 1000)).toEqual(['list-', ...names, 'list0'])
        expect(await listed('nothing/', undefined, 1000)).toEqual([])
      })

      it('says sizes', async () => {
        const [found] = await store.list('list/a/c', undefined, 1)
        expect(found).toMatchObject({ name: 'list/a/c/d', bytes: 10 })
      })

      it('goes on after a name, whether it is there or not, in pages of any size', async () => {
        for (const after of [
          'list/',
          'list/a',
          'list/a-b',
          'list/a/',
          'list/a/b',
          'list/a/c',
          'list/a/zz',
          'list/b',
          'list/~',
        ]) {
          expect(await listed('list/', after, 1000), after).toEqual(names.filter((name) => name > after))
        }
        for (const limit of [1, 2, 4]) {
          const paged: string[] = []
          for (;;) {
            const page = await listed('list/', paged.at(-1), limit)
            paged.push(...page)
            if (page.length < limit) break
          }
          expect(paged).toEqual(names)
        }
      })
    })

    describe('removing', () => {
      it('takes one, many and none', async () => {
        for (const name of ['gone/1', 'gone/2', 'gone/3', 'gone/kept']) await store.put(name, Buffer.from(name))
        await store.remove([])
        await store.remove(['gone/1'])
        await store.remove(['gone/1'])
        await store.remove(['gone/2', 'gone/none', 'gone/3'])
        expect((await store.list('gone/', undefined, 10)).map(({ name }) => name)).toEqual(['gone/kept'])
      })

      it('takes more than fit one request', async () => {
        const names = Array.from({ length: 1_205 }, (_, index) => `batch/${index}`)
        const there = names.filter((_, index) => index % 200 === 0)
        for (const name of there) await store.put(name, Buffer.from(name))
        expect(await store.list('batch/', undefined, 1000)).toHaveLength(there.length)
        await store.remove(names)
        expect(await store.list('batch/', undefined, 1000)).toEqual([])
      })
    })

    describe('conditions', () => {
      it('decide between many at once, or are refused by a store that cannot', async () => {
        const contenders = Array.from({ length: 8 }, (_, index) => Buffer.from(`contender ${index}`))
        const outcome = async (
          condition: { readonly ifAbsent: true } | { readonly ifMatch: string },
          bytes: Buffer,
        ): Promise<string> => {
          try {
            return (await store.put('decided', bytes, condition)).etag
          } catch (error) {
            return (error as { code: string }).code
          }
        }
        if (!store.capabilities.conditionalPut) {
          expect(await outcome({ ifAbsent: true }, Buffer.from('x'))).toBe('NotImplemented')
          expect(await store.get('decided', 100)).toBeUndefined()
          return
        }
        let condition: { readonly ifAbsent: true } | { readonly ifMatch: string } = { ifAbsent: true }
        for (let round = 0; round < 4; round++) {
          const now: typeof condition = condition
          const outcomes: string[] = await Promise.all(contenders.map((bytes) => outcome(now, bytes)))
          const winner = outcomes.findIndex((one) => one !== 'PreconditionFailed')
          expect(outcomes.filter((one) => one === 'PreconditionFailed')).toHaveLength(7)
          expect(await store.get('decided', 100)).toEqual({ bytes: contenders[winner], etag: outcomes[winner] })
          condition = { ifMatch: outcomes[winner]! }
          contenders.forEach((bytes) => bytes.write('X', round))
        }
        await store.remove(['decided'])
        expect(await outcome(condition, Buffer.from('nothing to match'))).toBe('PreconditionFailed')
      })

      it('are unknown until the store was connected to', async () => {
        const fresh = await harness.create()
        expect(fresh.capabilities.conditionalPut).toBe(false)
        await expect(fresh.put('early', Buffer.from('x'), { ifAbsent: true })).rejects.toMatchObject({
          code: 'NotImplemented',
        })
        await fresh.put('early', Buffer.from('x'))
        expect((await fresh.get('early', 1))?.bytes.toString()).toBe('x')
        const file = await fileOf(randomBytes(17 * MIB))
        await fresh.putFile('early', file)
        expect((await fresh.stat('early'))?.bytes).toBe(file.bytes)
        await fresh.stop()
      })
    })

    it('leaves nothing of its own behind by connecting, twice at once too', async () => {
      const fresh = await harness.create()
      await Promise.all([fresh.connect(), fresh.connect()])
      expect(await fresh.list('', undefined, 1000)).toEqual([])
      await fresh.stop()
    })

    it('takes no name that could lead elsewhere', async () => {
      for (const name of [
        '',
        '/',
        '/etc',
        '../up',
        'a/../b',
        'a/./b',
        'a//b',
        'a/',
        'sp ace',
        'ä',
        'a\nb',
        'x'.repeat(256),
      ]) {
        await expect(store.put(name, Buffer.from('x')), name).rejects.toThrow(AssertionFailed)
        await expect(store.remove([name]), name).rejects.toThrow(AssertionFailed)
      }
    })

    it('says where it is', () => {
      expect(store.description).toMatch(/^(file|memory|s3):/)
    })
  })
}
