/** What footers of segments tell where names do not (C17). */
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { ByteString } from '../../src/common/ids.ts'
import type { Engine } from '../../src/engine.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { restore, type RestoreReport } from '../../src/restore.ts'
import { PLAIN, beginUpload, put, putPart, read, settle, shipNames, startNode } from '../support/restorable.ts'

let base: string
let store: string
let remote: DirectoryStore

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-rebuild-'))
  store = join(base, 'store')
  await mkdir(join(base, 'data'))
  remote = new DirectoryStore({ directory: store, fileSystem: nodeFileSystem })
})

afterEach(async () => {
  await remote.stop()
  await rm(base, { recursive: true, force: true })
})

async function withNode<T>(name: string, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await startNode({ data: join(base, name), store })
  try {
    return await use(engine)
  } finally {
    await engine.stop()
  }
}

function rebuild(): Promise<RestoreReport> {
  const options = { backup: undefined, footers: true, verify: false, onProgress: () => undefined }
  return restore({ data: join(base, 'rebuilt'), remote, ...options })
}

const at = (key: string): { bucket: string; key: string } => ({ bucket: 'plain', key })

test(
  'without any names, footers give back objects with what they had, parts and files',
  { timeout: 60_000 },
  async () => {
    const attributes = {
      headers: { contentType: 'text/plain', cacheControl: 'no-store' },
      userMetadata: { colour: 'blue' },
      tags: { a: 'b' },
      storageClass: 'GLACIER',
      websiteRedirect: '/x',
    }
    const [shared, large, file] = [randomBytes(700), randomBytes(9000), randomBytes(5000)]
    const parts = [randomBytes(1500), randomBytes(600)]
    const before = await withNode('data', async (engine) => {
      await engine.store.buckets.create({ name: 'plain', owner: 'root', region: 'us-east-1' })
      await put(engine, at('often'), randomBytes(2000))
      await put(engine, at('often'), shared)
      await put(engine, at('dir/large'), large, { attributes, ttlMs: 3_600_000 })
      await put(engine, at('inline'), randomBytes(10))
      const upload = { ...at('parts'), uploadId: await beginUpload(engine, at('parts')) }
      const told = [await putPart(engine, upload, 1, parts[0]!), await putPart(engine, upload, 7, parts[1]!)]
      const { files } = engine.store
      const { inode: root } = await files.find(0, 'plain' as ByteString)
      const { handle } = await files.create(
        root,
        'file' as ByteString,
        { mode: 0o600, uid: 1, gid: 1 },
        { write: true },
      )
      await files.write(handle, 0, file.subarray(0, 3000), false)
      await files.sync(handle)
      await files.write(handle, 3000, file.subarray(3000), false)
      await files.write(handle, 50, file.subarray(0, 100), false)
      await files.sync(handle)
      await files.release(handle)
      const heads = [at('often'), at('dir/large')].map((one) => engine.store.objects.head(one, NO_CONDITIONS))
      const found = { upload, told, heads: await Promise.all(heads) }
      await settle(engine)
      return found
    })
    const report = await rebuild()
    expect(report).toMatchObject({ state: undefined, lost: [], buckets: 1, objects: 3 })
    expect(report.footers).toMatchObject({ objects: 3, unlabelled: 0, dropped: 0, unreadable: [] })
    expect(report.footers?.uploads).toEqual([{ ...before.upload, parts: 2 }])
    await withNode('rebuilt', async (engine) => {
      for (const [index, bytes] of [shared, large].entries()) {
        const { bucket, key, etag, size, attributes: had } = before.heads[index]!
        const { version, bytes: found } = await read(engine, { bucket, key })
        expect(found.equals(bytes)).toBe(true)
        expect(version).toMatchObject({ etag, size, attributes: had })
      }
      const { version } = await read(engine, at('dir/large'))
      expect(Math.abs(version.expiresMs! - before.heads[1]!.expiresMs!)).toBeLessThan(5000)
      const written = Buffer.from(file)
      written.set(file.subarray(0, 100), 50)
      expect((await read(engine, at('file'))).bytes.equals(written)).toBe(true)
      const request = { ...before.upload, parts: before.told, conditions: NO_CONDITIONS, ack: undefined }
      const none = { checksum: undefined, checksumType: undefined, objectSize: undefined }
      await engine.store.uploads.complete({ ...request, ...none })
      expect((await read(engine, at('parts'))).bytes.equals(Buffer.concat(parts))).toBe(true)
      await put(engine, at('new'), shared)
      expect((await read(engine, at('new'))).bytes.equals(shared)).toBe(true)
    })
  },
)

test(
  'what is newer than the names is added, and what had been deleted stays deleted',
  { timeout: 60_000 },
  async () => {
    const [older, newer, only] = [randomBytes(700), randomBytes(800), randomBytes(900)]
    await withNode('data', async (engine) => {
      await engine.store.buckets.create({ name: 'plain', owner: 'root', region: 'us-east-1' })
      await put(engine, at('both'), older)
      await put(engine, at('deleted'), older)
      await put(engine, at('kept'), older, { attributes: PLAIN })
      await engine.store.objects.delete(at('deleted'), NO_CONDITIONS)
      await engine.namespace.dismantle(engine.namespace.durableRevision())
      await engine.namespace.dismantle(engine.namespace.durableRevision())
      await settle(engine)
      await shipNames(engine, remote)
    })
    await withNode('data', async (engine) => {
      await put(engine, at('both'), newer)
      await put(engine, at('fresh'), only)
      await settle(engine)
    })
    const report = await rebuild()
    expect(report.footers).toMatchObject({ objects: 2, unlabelled: 0 })
    await withNode('rebuilt', async (engine) => {
      expect((await read(engine, at('both'))).bytes.equals(newer)).toBe(true)
      expect((await read(engine, at('fresh'))).bytes.equals(only)).toBe(true)
      expect((await read(engine, at('kept'))).bytes.equals(older)).toBe(true)
      await expect(read(engine, at('deleted'))).rejects.toMatchObject({ code: 'NoSuchKey' })
    })
  },
)
