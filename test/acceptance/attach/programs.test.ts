/** An attached bucket under `aws s3 sync`, `rclone` and the KV door: all that lies outside agrees with all that is shown, byte by byte. */
// needs: aws rclone
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createKvClient } from '../../../src/client/kv-client.ts'
import { carriedOut } from '../../support/attached-buckets.ts'
import { expectSettled } from '../../support/gateway-suite.ts'
import { externalS3Lack } from '../../support/external-s3-program.ts'
import { AttachedPlace, BUCKET, write } from './attached-place.ts'
import { KINDS } from './kinds.ts'

const TEST_MS_MAX = 240_000
const KIB = 1024
const SIZES = [0, 1, 4 * KIB, 300 * KIB, 9 * KIB * KIB, 20 * KIB * KIB]
const FILES = 30
/** After that a listing counts no more (attached-store.ts). */
const TTL_MS = 1_100
const lack = await externalS3Lack()

/** Relative path -> content, of every file below. */
function treeOf(folder: string): Map<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort()
  return new Map(paths.map((path) => [relative(folder, path), readFileSync(path, 'base64')]))
}

function expectSameTree(found: string, wanted: string): void {
  const [here, there] = [treeOf(found), treeOf(wanted)]
  expect([...here.keys()]).toEqual([...there.keys()])
  expect([...here.keys()].filter((name) => here.get(name) !== there.get(name))).toEqual([])
}

describe.skipIf(lack !== undefined).each(KINDS)('a bucket attached to: %s', { timeout: TEST_MS_MAX }, (kind) => {
  let place: AttachedPlace
  beforeAll(async () => {
    place = await AttachedPlace.begin(kind)
    for (const size of SIZES) write(place.at('tree', 'sizes', `${size}.bin`), randomBytes(size))
    for (let index = 0; index < FILES; index++) {
      write(place.at('tree', `folder ${index % 4}`, `ümlaut-${index}+&%41`), randomBytes(1 + index * 700))
    }
  }, TEST_MS_MAX)
  afterAll(() => place.end())

  it('shows what was there before, and aws s3 sync brings it to disk', async () => {
    await place.awsOutside('s3', 'sync', '--quiet', place.at('tree'), place.outsideUrl)
    await place.attach()
    const back = mkdtempSync(place.at('back-'))
    await place.aws('s3', 'sync', '--quiet', `s3://${BUCKET}/`, back)
    expectSameTree(back, place.at('tree'))
  })

  it('aws s3 sync brings what is on disk there; read past the gateway it is the same', async () => {
    await place.aws('s3', 'sync', '--quiet', place.at('tree'), `s3://${BUCKET}/again`)
    expect(await place.aws('s3', 'sync', place.at('tree'), `s3://${BUCKET}/again`)).toBe('')
    await carriedOut(place.gateway, BUCKET)
    const back = mkdtempSync(place.at('back-'))
    await place.awsOutside('s3', 'sync', '--quiet', `${place.outsideUrl}again/`, back)
    expectSameTree(back, place.at('tree'))
    await place.store.compare(place.gateway, BUCKET)
  })

  it('rclone copies, checks and moves', async () => {
    await place.rclone('copy', place.at('tree'), `gate:${BUCKET}/clone`)
    await place.rclone('moveto', `gate:${BUCKET}/clone/folder 1`, `gate:${BUCKET}/clone/folder one`)
    await place.rclone('moveto', `gate:${BUCKET}/clone/folder one`, `gate:${BUCKET}/clone/folder 1`)
    const checked = await place.rclone('check', '--download', place.at('tree'), `gate:${BUCKET}/clone`)
    expect(checked).toMatch(/0 differences found/)
    await place.store.compare(place.gateway, BUCKET)
  })

  it('KV puts, gets, scans and deletes', async () => {
    const { http: url, root } = place.gateway
    const client = createKvClient({ url, bucket: BUCKET, ...root })
    try {
      await place.putOutside('kv/3', 'three')
      // It was listed just now, and without that name.
      await sleep(TTL_MS)
      for (const name of ['1', '2', '4']) await client.put(`kv/${name}`, `value ${name}`)
      expect((await client.get('kv/3'))?.text()).toBe('three')
      const found: string[] = []
      for await (const { key } of client.scan({ prefix: 'kv/' })) found.push(key)
      expect(found).toEqual(['kv/1', 'kv/2', 'kv/3', 'kv/4'])
      await client.delete('kv/3')
      await client.delete('kv/4')
      await carriedOut(place.gateway, BUCKET)
      expect((await place.getOutside('kv/1'))?.toString()).toBe('value 1')
      expect(await place.getOutside('kv/3')).toBeUndefined()
      expect(await place.getOutside('kv/4')).toBeUndefined()
    } finally {
      client.close()
    }
  })

  it('is left complete and plain by detach, and can be attached again', async () => {
    await place.send('PUT', 'last', { body: 'written just before' })
    expect(await place.tidegate('bucket', 'detach', BUCKET)).toMatch(/is detached/)
    expect((await place.getOutside('last'))?.toString()).toBe('written just before')
    const before = mkdtempSync(place.at('back-'))
    await place.awsOutside('s3', 'sync', '--quiet', place.outsideUrl, before)
    expect(treeOf(before).size).toBe(3 * (SIZES.length + FILES) + 3)
    expect((await place.send('GET', 'last')).status).toBe(404)
    await place.attach()
    const after = mkdtempSync(place.at('back-'))
    await place.aws('s3', 'sync', '--quiet', `s3://${BUCKET}/`, after)
    expectSameTree(after, before)
    await expectSettled(place.gateway)
    expect(await place.gateway.stop()).toBe(0)
    expect(place.log()).not.toMatch(/"level":"(?:error|fatal)"|AssertionFailed/)
  })
})
