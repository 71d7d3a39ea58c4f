/** A data directory made from the remote store alone, compared with the one that was lost: row by row, byte by byte. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { ByteString } from '../../src/common/ids.ts'
import { openDataDirectory } from '../../src/config/data-directory.ts'
import type { Engine } from '../../src/engine.ts'
import { listNames } from '../../src/persist/names/read-states.ts'
import { checkRemote, claimRemote, remoteHolder } from '../../src/persist/remote-marker.ts'
import { segmentObjectName } from '../../src/persist/remote/ports.ts'
import { readClaim } from '../../src/remote-claim.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { restore, type RestoreReport, type RestoreRequest } from '../../src/restore.ts'
import {
  LINEAGE,
  contentsOf,
  fillWithAllKinds,
  put,
  read,
  rowsOf,
  settle,
  shipDelta,
  shipNames,
  shipRecords,
  startNode,
} from '../support/restorable.ts'

let base: string
let data: string
let store: string
let restored: string
let remote: DirectoryStore

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-restore-'))
  data = join(base, 'data')
  store = join(base, 'store')
  restored = join(base, 'restored')
  await mkdir(data)
  remote = new DirectoryStore({ directory: store, fileSystem: nodeFileSystem })
})

afterEach(async () => {
  await remote.stop()
  await rm(base, { recursive: true, force: true })
})

function run(options: Partial<RestoreRequest> = {}): Promise<RestoreReport> {
  const defaults = {
    data: restored,
    remote,
    backup: undefined,
    footers: false,
    verify: false,
    onProgress: () => undefined,
  }
  return restore({ ...defaults, ...options })
}

async function withNode<T>(at: string, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await startNode({ data: at, store })
  try {
    return await use(engine)
  } finally {
    await engine.stop()
  }
}

/** What a restore makes anew: numbers that jump, logs, and the state of segments. */
function comparable(rows: ReadonlyMap<string, string>): Map<string, string> {
  return new Map([...rows].filter(([key]) => !'CJMN'.includes(key.charAt(0))))
}

test('restoring a quiet store gives every row, every counter and every byte', { timeout: 60_000 }, async () => {
  const before = await withNode(data, async (engine) => {
    await fillWithAllKinds(engine)
    await settle(engine)
    await shipNames(engine, remote)
    return contentsOf(engine)
  })
  const rowsBefore = comparable(await rowsOf(data))
  const report = await run()
  const zero = '\0'.repeat(8)
  const rowsAfter = comparable(await rowsOf(restored))
  const nothing = (value: string): boolean => value === zero || value === zero + zero
  const counted = (rows: ReadonlyMap<string, string>): object =>
    Object.fromEntries([...rows].filter(([, value]) => !nothing(value)))
  expect(rowsBefore.size).toBeGreaterThan(100)
  expect(counted(rowsAfter)).toEqual(counted(rowsBefore))
  expect(report).toMatchObject({ lost: [], unusable: [], unnamedSegments: 0, records: 0, buckets: 3 })
  await withNode(restored, async (engine) => expect(await contentsOf(engine)).toEqual(before))
})

test(
  'what was acknowledged as persisted after the last delta comes back by its record (C17)',
  { timeout: 60_000 },
  async () => {
    const expected = await withNode(data, async (engine) => {
      await fillWithAllKinds(engine)
      await settle(engine)
      await shipNames(engine, remote)
      return undefined
    }).then(() =>
      withNode(data, async (engine) => {
        const told = [
          { bucket: 'plain', key: 'told/ä' },
          { bucket: 'kept', key: 'often' },
          { bucket: 'newer', key: 'deep/er/key' },
          { bucket: 'plain', key: 'tree/file' },
        ]
        await engine.store.buckets.create({ name: 'newer', owner: 'root', region: 'r' })
        for (const at of told.slice(0, 3)) await put(engine, at, randomBytes(700))
        await rewriteFile(engine)
        await engine.orderedStore.flush()
        const versions = await Promise.all(told.map((at) => engine.store.objects.head(at, NO_CONDITIONS)))
        const published = versions.map(({ inode, revision }, index) => ({
          ...must(told[index], 'key'),
          inode,
          revision,
        }))
        const contents = await contentsOf(engine)
        await settle(engine)
        const records = await engine.namespace.names.describe(published)
        await shipRecords(
          remote,
          records.map((record) => must(record, 'record')),
        )
        return contents
      }),
    )
    const report = await run()
    expect(report).toMatchObject({ lost: [], unusable: [], records: 4, buckets: 4 })
    await withNode(restored, async (engine) => expect(await contentsOf(engine)).toEqual(expected))
  },
)

async function rewriteFile({ store: { files } }: Engine): Promise<void> {
  const { inode: bucket } = await files.find(0, 'plain' as ByteString)
  const { inode: tree } = await files.find(bucket, 'tree' as ByteString)
  const { inode } = await files.find(tree, 'file' as ByteString)
  const { handle } = await files.open(inode, { write: true, truncate: false })
  await files.write(handle, 100, randomBytes(3000), false)
  await files.sync(handle)
  await files.release(handle)
}

async function lostNode(): Promise<Map<string, { version: unknown; bytes: string }>> {
  return withNode(data, async (engine) => {
    await fillWithAllKinds(engine)
    await settle(engine)
    await shipNames(engine, remote)
    return contentsOf(engine)
  })
}

test(
  'an object whose bytes are gone is left out and told, and the version before it becomes current',
  { timeout: 60_000 },
  async () => {
    await lostNode()
    const gone = await withNode(data, async (engine) => {
      const bytes = randomBytes(5000)
      await put(engine, { bucket: 'kept', key: 'often' }, bytes)
      const version = await engine.store.objects.head({ bucket: 'kept', key: 'often' }, NO_CONDITIONS)
      const content = version.body.kind === 'content' ? version.body.content : 0
      const [segment] = await engine.namespace.contentSegments(content)
      await settle(engine)
      await shipNames(engine, remote)
      return must(segment, 'segment')
    })
    await remote.remove([segmentObjectName(gone)])
    const report = await run()
    expect(report.lost).toEqual([{ bucket: 'kept', key: 'often' }])
    await withNode(restored, async (engine) => {
      const { bytes } = await read(engine, { bucket: 'kept', key: 'often' })
      expect(bytes.length).toBe(460)
      expect(await engine.namespace.segment(gone)).toBeUndefined()
      expect([...(await contentsOf(engine)).keys()].length).toBeGreaterThan(20)
    })
  },
)

test('a damaged delta is told and done without: the state before it is restored', { timeout: 60_000 }, async () => {
  const before = await lostNode()
  const through = await withNode(data, (engine) => Promise.resolve(engine.namespace.durableRevision()))
  const [last] = (await listNames(remote)).filter(({ kind }) => kind === 'delta')
  const from = last?.kind === 'delta' ? last.through : 0
  const damaged = await shipDelta(remote, { after: from, through: through + 5, rows: [] })
  const found = must(await remote.get(damaged, 1e6), 'delta')
  const bytes = Buffer.from(found.bytes)
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
  await remote.put(damaged, bytes)
  const report = await run()
  expect(report.unusable).toEqual([expect.stringContaining(damaged)])
  expect(report.state?.revision).toBe(from)
  await withNode(restored, async (engine) => expect(await contentsOf(engine)).toEqual(before))
})

test(
  'numbers go on beyond all that were given out, and watchers of older revisions are told so (C3, C7)',
  { timeout: 60_000 },
  async () => {
    await lostNode()
    const given = await withNode(data, async (engine) => ({
      revision: engine.namespace.revision(),
      content: await engine.namespace.allocateContentId(),
    }))
    await run()
    await withNode(restored, async (engine) => {
      expect(engine.namespace.revision()).toBeGreaterThan(given.revision + 2 ** 32)
      expect(await engine.namespace.allocateContentId()).toBeGreaterThan(given.content + 2 ** 32)
      const watch = { bucket: 'plain', prefix: '', from: given.revision }
      await expect(engine.store.watching.open(watch)).rejects.toMatchObject({ code: 'RevisionGone' })
    })
  },
)

test(
  'the old node is fenced, and an interrupted restore is the same one when it is run again',
  { timeout: 60_000 },
  async () => {
    await lostNode()
    const old = { namespace: '1'.repeat(32), holder: '2'.repeat(32) }
    await claimRemote(remote, old, { nowMs: 1, unmarkedIsOurs: true })
    const failing = new Proxy(remote, {
      get: (target, name) =>
        name === 'read' || name === 'get'
          ? (...rest: unknown[]) => {
              const [object] = rest
              if (String(object).includes('-part-')) throw new Error('killed')
              return (Reflect.get(target, name) as (...all: unknown[]) => unknown).apply(target, rest)
            }
          : ((Reflect.get(target, name) as { bind?: (to: unknown) => unknown }).bind?.(target) ??
            Reflect.get(target, name)),
    })
    await expect(run({ remote: failing })).rejects.toThrow('killed')
    const between = await remoteHolder(remote)
    expect(between?.namespace).toBe(old.namespace)
    await expect(checkRemote(remote, old)).rejects.toMatchObject({ details: { fenced: true } })
    await expect(openDataDirectory(restored)).rejects.toThrow('was not finished')
    await run()
    expect(await remoteHolder(remote)).toEqual(between)
    expect(readClaim(restored)).toMatchObject({ ...between, state: 'claimed' })
    expect((await readdir(restored)).sort()).toEqual(['FORMAT', 'REMOTE', 'meta'])
    await expect(run()).rejects.toThrow('is not empty')
  },
)

test(
  'a node that is lost right after its restore, before it had a state of its own, is restored with its records',
  { timeout: 60_000 },
  async () => {
    await lostNode()
    await claimRemote(remote, { namespace: '1'.repeat(32), holder: LINEAGE }, { nowMs: 1, unmarkedIsOurs: true })
    await run()
    const bytes = randomBytes(600)
    const at = { bucket: 'plain', key: 'second-life' }
    const contents = await withNode(restored, async (engine) => {
      await put(engine, at, bytes)
      await settle(engine)
      const { inode, revision } = await engine.store.objects.head(at, NO_CONDITIONS)
      const records = await engine.namespace.names.describe([{ ...at, inode, revision }])
      await shipRecords(remote, [must(records[0], 'record')], must(readClaim(restored), 'claim').holder)
      return contentsOf(engine)
    })
    const third = join(base, 'third')
    expect(await run({ data: third })).toMatchObject({ records: 1, state: { lineage: LINEAGE } })
    await withNode(third, async (engine) => expect(await contentsOf(engine)).toEqual(contents))
  },
)

test('refused: a directory that holds something, and a store that holds nothing; nothing is touched', async () => {
  await expect(run()).rejects.toThrow('no names and no segments under')
  expect(await readdir(base)).not.toContain('restored')
  await lostNode()
  await mkdir(restored)
  await writeFile(join(restored, 'notes'), 'mine')
  await expect(run()).rejects.toThrow('is not empty')
  expect(await remoteHolder(remote)).toBeUndefined()
  expect(await readdir(restored)).toEqual(['notes'])
})

test('verify reads every byte, and tells what is damaged', { timeout: 60_000 }, async () => {
  await lostNode()
  expect((await run({ verify: true })).damaged).toEqual([])
  const [object] = await remote.list('segments/', undefined, 1)
  const path = join(store, must(object, 'segment').name)
  const bytes = await readFile(path)
  bytes[70] = (bytes[70] ?? 0) ^ 1
  await writeFile(path, bytes)
  const { damaged } = await run({ data: join(base, 'second'), verify: true })
  expect(damaged).toEqual([{ segment: expect.anything(), problem: '1 pages are not what was written' }])
})
