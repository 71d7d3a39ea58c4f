/** The external store goes away, or the gateway does: what is known is served, and what was written arrives. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { attachmentStatus, carriedOut } from '../../support/attached-buckets.ts'
import { startExternalS3, type ExternalS3 } from '../../support/external-s3.ts'
import { externalS3Lack } from '../../support/external-s3-program.ts'
import { expectSettled } from '../../support/gateway-suite.ts'
import { outcomeOf } from '../../support/raw-http.ts'
import { externalTarget } from '../../write-behind/remote/remote-target.ts'
import { AttachedPlace, BUCKET, eventually } from './attached-place.ts'

const TEST_MS_MAX = 120_000
const TTL_MS = 1_100
const KEYS = 40
const lack = await externalS3Lack()

describe.skipIf(lack !== undefined)('an attached bucket', { timeout: TEST_MS_MAX }, () => {
  let server: ExternalS3
  let place: AttachedPlace
  beforeAll(async () => {
    server = await startExternalS3({ bucket: 'remote-store' })
    place = await AttachedPlace.begin(externalTarget(server))
    await place.attach()
  }, TEST_MS_MAX)
  afterAll(() => place.end())

  const outcome = async (method: string, key: string, body?: Uint8Array): Promise<string> =>
    outcomeOf(await place.send(method, key, body ? { body } : {}))
  const listed = async (prefix = ''): Promise<string> =>
    (await place.send('GET', '', { target: `/${BUCKET}?list-type=2&prefix=${prefix}` })).body.toString()

  it('serves what it knows while the store is away, answers 503 for the rest, takes writes to what it knows, and recovers by itself', async () => {
    const [cached, cold] = [randomBytes(300_000), randomBytes(300_000)]
    await place.putOutside('away/cached', cached)
    await place.putOutside('away/cold', cold)
    expect((await place.send('GET', 'away/cached')).body.equals(cached)).toBe(true)
    expect(await listed('away/')).toContain('<Key>away/cold</Key>')
    await server.kill()
    try {
      await sleep(TTL_MS)
      expect((await place.send('GET', 'away/cached')).body.equals(cached)).toBe(true)
      expect(await listed('away/')).toContain('<Key>away/cold</Key>')
      expect(await outcome('HEAD', 'away/cached')).toBe('200')
      const refused = await place.send('GET', 'away/cold')
      expect(outcomeOf(refused)).toMatch(/^503 /)
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0)
      expect(await outcome('GET', 'never/seen')).toMatch(/^503 /)
      expect(await outcome('PUT', 'away/cached', cold)).toBe('200')
      expect((await place.send('GET', 'away/cached')).body.equals(cold)).toBe(true)
      expect((await attachmentStatus(place.gateway, BUCKET)).writeBack.dirty).toBe(1)
    } finally {
      await server.restart()
    }
    await eventually(
      'what was cold',
      () => outcome('GET', 'away/cold'),
      (found) => found === '200',
    )
    expect((await place.send('GET', 'away/cold')).body.equals(cold)).toBe(true)
    await carriedOut(place.gateway, BUCKET)
    expect((await place.getOutside('away/cached'))?.equals(cold)).toBe(true)
  })

  it('carries out after kill -9 of the gateway what it had acknowledged before, in any state', async () => {
    for (let index = 0; index < KEYS; index++) await place.putOutside(`killed/${index}`, `outside ${index}`)
    // The store has only just come back.
    await eventually(
      'the listing',
      () => listed('killed/'),
      (found) => found.includes('<Key>killed/39</Key>'),
    )
    const wanted = new Map<string, Buffer | undefined>()
    await place.writeBack('pause')
    const change = async (index: number): Promise<void> => {
      const key = `killed/${index}`
      // A third each: deleted, overwritten, written anew; the last of them while keys are being carried out.
      const body = index % 3 === 0 ? undefined : randomBytes(index % 2 === 0 ? 100 : 200_000)
      const target = index % 3 === 2 ? `${key}-new` : key
      expect(await outcome(body ? 'PUT' : 'DELETE', target, body)).toMatch(/^20/)
      wanted.set(target, body)
    }
    for (let index = 0; index < KEYS / 2; index++) await change(index)
    await place.writeBack('resume')
    for (let index = KEYS / 2; index < KEYS; index++) await change(index)
    await place.gateway.kill()
    await place.start()
    for (const [key, body] of wanted) {
      const found = await place.send('GET', key)
      if (body) expect(found.body.equals(body), key).toBe(true)
      else expect(found.status, key).toBe(404)
    }
    await carriedOut(place.gateway, BUCKET)
    for (const [key, body] of wanted) expect(await place.getOutside(key), key).toEqual(body)
    expect(await place.tidegate('bucket', 'conflicts', BUCKET)).toMatch(/no conflicts/)
    await place.store.compare(place.gateway, BUCKET)
  })

  it('keeps its listings over a restart: nothing is asked for within their TTL', async () => {
    const bucket = 'kept'
    await place.attach(bucket, { ttlMs: 3_600_000, listingTtlMs: 3_600_000 })
    for (const key of ['a/1', 'a/2', 'b']) await place.putOutside(key, key, bucket)
    const list = async (): Promise<string[]> => {
      const { body } = await place.send('GET', '', { bucket })
      return [...body.toString().matchAll(/<Key>(.*?)<\/Key>/g)].map(([, key = '']) => key)
    }
    expect(await list()).toEqual(['a/1', 'a/2', 'b'])
    expect(await place.gateway.stop()).toBe(0)
    await server.kill()
    try {
      await place.start()
      expect(await list()).toEqual(['a/1', 'a/2', 'b'])
    } finally {
      await server.restart()
    }
    await eventually(
      'a body',
      async () => (await place.send('GET', 'a/2', { bucket })).body.toString(),
      (text) => text === 'a/2',
    )
  })

  it('holds nothing at the end, and stops', async () => {
    await expectSettled(place.gateway)
    expect(await place.gateway.stop()).toBe(0)
    expect(place.log()).not.toMatch(/"level":"fatal"|AssertionFailed/)
  })
})
