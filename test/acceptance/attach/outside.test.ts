/** What others change outside is seen, and never overwritten unless the policy says so (C32). */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attachmentStatus, callAdmin, carriedOut } from '../../support/attached-buckets.ts'
import { externalS3Lack } from '../../support/external-s3-program.ts'
import { outcomeOf } from '../../support/raw-http.ts'
import { AttachedPlace, BUCKET, eventually } from './attached-place.ts'
import { KINDS } from './kinds.ts'

const TEST_MS_MAX = 120_000
const LONG_MS = 3_600_000
const lack = await externalS3Lack()

describe.skipIf(lack !== undefined).each(KINDS)(
  'outside a bucket attached to: %s',
  { timeout: TEST_MS_MAX },
  (kind) => {
    let place: AttachedPlace
    beforeAll(async () => {
      place = await AttachedPlace.begin(kind)
      await place.attach()
    }, TEST_MS_MAX)
    afterAll(() => place.end())

    const textOf = async (key: string, bucket = BUCKET): Promise<string> => {
      const response = await place.send('GET', key, { bucket })
      return response.status === 200 ? response.body.toString() : outcomeOf(response)
    }
    const keysOf = async (bucket = BUCKET): Promise<string[]> => {
      const response = await place.send('GET', '', { bucket })
      return [...response.body.toString().matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key = '']) => key)
    }

    it('a change, a new object and a deletion are seen within the TTL', async () => {
      await place.putOutside('seen/a', 'first')
      await place.putOutside('seen/gone', 'here')
      expect(await textOf('seen/a')).toBe('first')
      expect(await keysOf()).toEqual(['seen/a', 'seen/gone'])
      await place.putOutside('seen/a', 'second, longer')
      await place.deleteOutside('seen/gone')
      await place.putOutside('seen/new', 'new')
      await sleep(1_100)
      expect(await textOf('seen/a')).toBe('second, longer')
      expect(await textOf('seen/gone')).toBe('404 NoSuchKey')
      expect(await textOf('seen/new')).toBe('new')
      expect(await keysOf()).toEqual(['seen/a', 'seen/new'])
    })

    it('an event makes a change seen long before the TTL', async () => {
      const bucket = 'told'
      await place.attach(bucket, { ttlMs: LONG_MS, listingTtlMs: LONG_MS })
      await place.putOutside('a b', 'old', bucket)
      expect(await textOf('a b', bucket)).toBe('old')
      expect(await keysOf(bucket)).toEqual(['a b'])
      await place.putOutside('a b', 'new', bucket)
      await place.putOutside('c', 'c', bucket)
      expect(await textOf('a b', bucket)).toBe('old')
      const records = ['a+b', 'c'].map((key) => ({
        eventName: 'ObjectCreated:Put',
        s3: { bucket: { name: place.store.remote.bucket }, object: { key: `${bucket}/${key}` } },
      }))
      const path = `/admin/v1/attachments/${bucket}/events`
      expect(await callAdmin(place.gateway, 'POST', path, { Records: records })).toMatchObject({ taken: 2 })
      await eventually(
        'the event of a b',
        () => textOf('a b', bucket),
        (text) => text === 'new',
      )
      await eventually(
        'the event of c',
        () => keysOf(bucket),
        (keys) => keys.join() === 'a b,c',
      )
    })

    /** Ours and theirs at one key, neither knowing of the other. */
    const clash = async (bucket: string, key: string): Promise<void> => {
      await place.putOutside(key, 'base', bucket)
      expect(await textOf(key, bucket)).toBe('base')
      await place.writeBack('pause')
      try {
        expect((await place.send('PUT', key, { bucket, body: 'ours' })).status).toBe(200)
        await place.putOutside(key, 'theirs', bucket)
      } finally {
        await place.writeBack('resume')
      }
    }
    const conflictOf = (bucket: string, key: string): Promise<string> =>
      eventually(
        'the conflict',
        () => place.tidegate('bucket', 'conflicts', bucket),
        (output) => output.includes(key),
      )

    it.each([
      ['ours', 'ours', []],
      ['theirs', 'theirs', []],
      ['both', 'theirs', ['ours']],
    ] as const)('C32: fail keeps both until somebody decides for %s', async (keep, wanted, aside) => {
      const bucket = `fail-${keep}`
      await place.attach(bucket, { conflicts: 'fail' })
      await clash(bucket, 'k')
      await conflictOf(bucket, 'k')
      expect((await place.getOutside('k', bucket))?.toString()).toBe('theirs')
      expect(await textOf('k', bucket)).toBe('ours')
      expect((await attachmentStatus(place.gateway, bucket)).writeBack.conflicts).toBe(1)
      await place.tidegate('bucket', 'resolve', bucket, 'k', '--keep', keep)
      await eventually(
        'what lies outside',
        async () => (await place.getOutside('k', bucket))?.toString(),
        (text) => text === wanted,
      )
      await carriedOut(place.gateway, bucket)
      expect(await textOf('k', bucket)).toBe(wanted)
      const others = (await keysOf(bucket)).filter((key) => key !== 'k')
      expect(await Promise.all(others.map((key) => textOf(key, bucket)))).toEqual(aside)
      expect(await place.tidegate('bucket', 'conflicts', bucket)).toMatch(/no conflicts/)
      await place.store.compare(place.gateway, bucket)
    })

    it('C32: keep-both leaves theirs at the key, and ours beside it', async () => {
      const bucket = 'keep-both'
      await place.attach(bucket, { conflicts: 'keep-both' })
      await clash(bucket, 'deep/k.txt')
      const keys = await eventually(
        'the loser',
        () => keysOf(bucket),
        (found) => found.length === 2,
      )
      expect(keys[1]).toMatch(/^deep\/k\.txt\.conflict-[^/]+-[0-9a-f]{8}$/)
      await carriedOut(place.gateway, bucket)
      expect(await textOf('deep/k.txt', bucket)).toBe('theirs')
      expect(await textOf(keys[1] ?? '', bucket)).toBe('ours')
      await place.store.compare(place.gateway, bucket)
    })

    it('C32: last-writer-wins takes ours', async () => {
      const bucket = 'last-wins'
      await place.attach(bucket, { conflicts: 'last-writer-wins' })
      await clash(bucket, 'k')
      await carriedOut(place.gateway, bucket)
      expect((await place.getOutside('k', bucket))?.toString()).toBe('ours')
      await place.store.compare(place.gateway, bucket)
    })

    it('an acknowledgement persisted says that the external bucket has it, or that it was refused', async () => {
      const bucket = 'persisted'
      await place.attach(bucket, { conflicts: 'fail', ttlMs: LONG_MS })
      const headers = { 'x-tidegate-ack': 'persisted' }
      expect((await place.send('PUT', 'k', { bucket, headers, body: 'one' })).status).toBe(200)
      expect((await place.getOutside('k', bucket))?.toString()).toBe('one')
      await place.putOutside('k', 'theirs', bucket)
      expect(outcomeOf(await place.send('PUT', 'k', { bucket, headers, body: 'two' }))).toBe('412 PreconditionFailed')
      expect((await place.getOutside('k', bucket))?.toString()).toBe('theirs')
    })

    it('what attached buckets do not have is refused in words', async () => {
      const body = '<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>'
      const versioned = await place.send('PUT', '', { body, target: `/${BUCKET}?versioning` })
      expect(versioned.status).toBeGreaterThanOrEqual(400)
      expect((await place.send('DELETE', '')).status).toBe(409)
    })
  },
)
