/** Single objects that were acknowledged as persisted, put on top of the state that was restored (meta/namespace/restore/apply-record.ts). */
import { randomBytes } from 'node:crypto'
import { mkdtemp, mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { ByteString } from '../../src/common/ids.ts'
import type { Engine } from '../../src/engine.ts'
import type { NameRecord } from '../../src/persist/names/ports.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { restore, type RestoreReport } from '../../src/restore.ts'
import {
  contentsOf,
  fillWithAllKinds,
  put,
  read,
  settle,
  shipNames,
  shipRecords,
  startNode,
} from '../support/restorable.ts'

const SLOW = { timeout: 60_000 }

let base: string
let remote: DirectoryStore

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-records-'))
  await mkdir(join(base, 'data'))
  remote = new DirectoryStore({ directory: join(base, 'store'), fileSystem: nodeFileSystem })
})

afterEach(async () => {
  await remote.stop()
  await rm(base, { recursive: true, force: true })
})

async function withNode<T>(name: string, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await startNode({ data: join(base, name), store: join(base, 'store') })
  try {
    return await use(engine)
  } finally {
    await engine.stop()
  }
}

function run(): Promise<RestoreReport> {
  const usual = { remote, backup: undefined, footers: false, verify: false, onProgress: () => undefined }
  return restore({ data: join(base, 'restored'), ...usual })
}

async function recordOf(engine: Engine, at: { bucket: string; key: string }): Promise<NameRecord> {
  await settle(engine)
  const { inode, revision } = await engine.store.objects.head(at, NO_CONDITIONS)
  const [record] = await engine.namespace.names.describe([{ ...at, inode, revision }])
  return must(record, 'record')
}

/** All that is in a bucket goes, and it. */
async function deleteBucket({ store: { objects, buckets, files } }: Engine, bucket: string): Promise<void> {
  const page = { prefix: '', delimiter: '', keyMarker: '', versionIdMarker: undefined, limit: 1000 }
  const { versions } = await objects.listVersions({ bucket, ...page })
  for (const { key, versionId } of versions) {
    await objects.delete(versionId === undefined ? { bucket, key } : { bucket, key, versionId }, NO_CONDITIONS)
  }
  // What the mount made and S3 does not delete.
  const { inode: root } = await files.find(0, bucket as ByteString)
  expect(root).toBeGreaterThan(0)
  await buckets.delete(bucket)
}

test(
  'a bucket that was deleted and made again is the later one: versioned, and with nothing of the older (C17)',
  SLOW,
  async () => {
    await withNode('data', async (engine) => {
      await fillWithAllKinds(engine)
      await settle(engine)
      await shipNames(engine, remote)
    })
    const [older, newer] = [randomBytes(700), randomBytes(800)]
    const expected = await withNode('data', async (engine) => {
      const stale = await recordOf(engine, { bucket: 'plain', key: 'told/ä' })
      for (const bucket of ['plain', 'kept']) {
        await deleteBucket(engine, bucket)
        await engine.store.buckets.create({ name: bucket, owner: 'root', region: 'r' })
      }
      await engine.store.buckets.setVersioning('plain', 'enabled')
      const at = { bucket: 'plain', key: 'tree/k' }
      await put(engine, at, older)
      const first = await recordOf(engine, at)
      await put(engine, at, newer)
      const second = await recordOf(engine, at)
      await put(engine, { bucket: 'kept', key: 'only' }, older)
      // Records of one object come in any order with those of others; here one is still of the bucket that is gone.
      await shipRecords(remote, [first, { ...stale, revision: second.revision }, second])
      await shipRecords(remote, [await recordOf(engine, { bucket: 'kept', key: 'only' })])
      return contentsOf(engine)
    })
    const report = await run()
    expect(report).toMatchObject({ records: 3, lost: [], buckets: 3, objects: 3 })
    await withNode('restored', async (engine) => {
      expect(await contentsOf(engine)).toEqual(expected)
      expect((await read(engine, { bucket: 'plain', key: 'tree/k' })).bytes.equals(newer)).toBe(true)
      await deleteBucket(engine, 'kept')
    })
  },
)
