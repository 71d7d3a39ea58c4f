/** Which past a restore takes from a store that holds several: of a node that still writes, of former holders, of backups, of damaged names. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, mkdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { must } from '../../src/common/assert.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { Engine } from '../../src/engine.ts'
import { backupObjectName, encodeManifest } from '../../src/persist/names/manifest.ts'
import { listBackups, listNames } from '../../src/persist/names/read-states.ts'
import { claimRemote, remoteHistory } from '../../src/persist/remote-marker.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { readClaim } from '../../src/remote-claim.ts'
import { restore, type RestoreReport, type RestoreRequest } from '../../src/restore.ts'
import {
  LINEAGE,
  contentsOf,
  put,
  settle,
  shipDelta,
  shipNames,
  shipRecords,
  startNode,
} from '../support/restorable.ts'

const BACKUP = '20261122T063918Z-3fa9'
const SLOW = { timeout: 60_000 }

let base: string
let remote: DirectoryStore

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-choice-'))
  await mkdir(join(base, 'first'))
  remote = new DirectoryStore({ directory: join(base, 'store'), fileSystem: nodeFileSystem })
})

afterEach(async () => {
  await remote.stop()
  await rm(base, { recursive: true, force: true })
})

function restoreInto(name: string, options: Partial<RestoreRequest> = {}): Promise<RestoreReport> {
  const usual = { remote, backup: undefined, footers: false, verify: false, onProgress: () => undefined }
  return restore({ data: join(base, name), ...usual, ...options })
}

function start(name: string): Promise<Engine> {
  return startNode({ data: join(base, name), store: join(base, 'store') })
}

async function withNode<T>(name: string, use: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = await start(name)
  try {
    return await use(engine)
  } finally {
    await engine.stop()
  }
}

function at(key: string): { bucket: string; key: string } {
  return { bucket: 'plain', key }
}

function holderOf(name: string): string {
  return must(readClaim(join(base, name)), 'claim').holder
}

async function keysIn(name: string): Promise<string[]> {
  const contents = await withNode(name, contentsOf)
  return [...contents.keys()].map((one) => one.split(' ')[1] ?? '').toSorted()
}

/** Acknowledged as persisted: its bytes are there, and a record. */
async function putRecorded(engine: Engine, key: string, lineage: string): Promise<void> {
  await put(engine, at(key), randomBytes(900))
  await settle(engine)
  const { inode, revision } = await engine.store.objects.head(at(key), NO_CONDITIONS)
  const records = await engine.namespace.names.describe([{ ...at(key), inode, revision }])
  await shipRecords(remote, [must(records[0], 'record')], lineage)
}

/** A first life with a state that has `key`. */
async function firstLife(key: string): Promise<void> {
  await claimRemote(remote, { namespace: '1'.repeat(32), holder: LINEAGE }, { nowMs: 1, unmarkedIsOurs: true })
  await withNode('first', async (engine) => {
    await engine.store.buckets.create({ name: 'plain', owner: 'root', region: 'r' })
    await put(engine, at(key), randomBytes(900))
    await settle(engine)
    await shipNames(engine, remote)
  })
}

/** The same store, where something happens after a call. */
function watched(after: (method: string, argument: unknown) => Promise<void>): RemoteStore {
  return new Proxy(remote, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return async (...all: unknown[]) => {
        const result: unknown = await (member as (...rest: unknown[]) => unknown).apply(target, all)
        await after(String(name), all[0])
        return result
      }
    },
  })
}

test(
  'what a node that is not fenced yet ships while a restore looks is taken with its bytes, or not at all',
  SLOW,
  async () => {
    await firstLife('first')
    const old = await start('first')
    const isTakenOver = async (): Promise<boolean> => (await remoteHistory(remote)).holder !== LINEAGE
    // After each first listing of either kind the old node publishes one more object: bytes, then names.
    const shipped = new Set<string>()
    const live = watched(async (method, prefix) => {
      const key = String(prefix).replaceAll('/', '')
      if (method !== 'list' || shipped.has(key) || !(await isTakenOver())) return
      shipped.add(key)
      await put(old, at(`late-${key}`), randomBytes(900))
      await settle(old)
      await shipNames(old, remote)
    })
    try {
      const report = await restoreInto('second', { remote: live })
      expect([...shipped].toSorted()).toEqual(['names', 'segments'])
      expect(report).toMatchObject({ lost: [], unusable: [] })
    } finally {
      await old.stop()
    }
    expect(await keysIn('second')).toEqual(['first'])
  },
)

test(
  'a node that is lost before it has a state is restored with its records by every later restore (C17)',
  SLOW,
  async () => {
    await firstLife('first')
    await restoreInto('second')
    await withNode('second', (engine) => putRecorded(engine, 'second', holderOf('second')))
    expect(await restoreInto('third')).toMatchObject({ records: 1, state: { lineage: LINEAGE } })
    // Never served, and lost as well; the next one serves, and is lost.
    expect(await restoreInto('fourth')).toMatchObject({ records: 1 })
    await withNode('fourth', (engine) => putRecorded(engine, 'fourth', holderOf('fourth')))
    expect(await restoreInto('fifth')).toMatchObject({ records: 2, lost: [] })
    expect(await keysIn('fifth')).toEqual(['first', 'fourth', 'second'])
  },
)

/** Of all names that there are, as the node makes one. */
async function backUp(): Promise<void> {
  const objects = (await listNames(remote)).toSorted((one, other) => (one.name < other.name ? -1 : 1))
  const [delta] = objects.filter(({ kind }) => kind === 'delta')
  const revision = delta?.kind === 'delta' ? delta.through : 0
  const times = { createdMs: Date.now(), stateMs: Date.now() }
  const named = objects.map(({ name, bytes }) => ({ name, bytes }))
  const manifest = { id: BACKUP, lineage: LINEAGE, ...times, revision, newestSegment: '', objects: named }
  await remote.put(backupObjectName(BACKUP), encodeManifest(manifest))
}

test('a backup is restored as it was, and so is a node that was restored from it and lost at once', SLOW, async () => {
  await firstLife('first')
  await backUp()
  const before = await withNode('first', contentsOf)
  await withNode('first', async (engine) => {
    await put(engine, at('newer'), randomBytes(900))
    await settle(engine)
    await shipNames(engine, remote)
  })
  expect((await listBackups(remote)).map(({ id, problem }) => [id, problem])).toEqual([[BACKUP, undefined]])
  const report = await restoreInto('second', { backup: BACKUP })
  expect(report).toMatchObject({ backup: BACKUP, lost: [], records: 0, state: { lineage: LINEAGE } })
  expect(await withNode('second', contentsOf)).toEqual(before)
  await withNode('second', (engine) => putRecorded(engine, 'second', holderOf('second')))
  expect(await restoreInto('third')).toMatchObject({ records: 1, lost: [] })
  expect(await keysIn('third')).toEqual(['first', 'second'])
})

test('a restore that was a mistake is made good by naming the holder that it turned away from', SLOW, async () => {
  await firstLife('first')
  await backUp()
  await withNode('first', async (engine) => {
    await put(engine, at('newer'), randomBytes(900))
    await settle(engine)
    await shipNames(engine, remote)
  })
  await restoreInto('second', { backup: BACKUP })
  const named = await restoreInto('third', { holder: LINEAGE })
  expect(named).toMatchObject({ holder: LINEAGE, records: 0, lost: [], objects: 2 })
  // And that is what the store is from now on.
  expect(await restoreInto('fourth')).toMatchObject({ lost: [], objects: 2 })
  expect(await keysIn('fourth')).toEqual(['first', 'newer'])
})

test('refused: a backup or a holder that is not there, and nothing is touched', SLOW, async () => {
  await firstLife('first')
  const history = await remoteHistory(remote)
  await expect(restoreInto('second', { backup: BACKUP })).rejects.toThrow(`has no backup ${BACKUP}`)
  await expect(restoreInto('second', { holder: '9'.repeat(32) })).rejects.toThrow('has no names of holder 999')
  expect(await remoteHistory(remote)).toEqual(history)
  await backUp()
  await restoreInto('second', { backup: BACKUP })
  await remote.remove([backupObjectName(BACKUP)])
  await expect(restoreInto('third')).rejects.toThrow('choose another backup (--backup) or holder (--holder)')
})

test('however many deltas are damaged, the base is read twice at most', SLOW, async () => {
  await firstLife('first')
  const [last] = (await listNames(remote)).filter(({ kind }) => kind === 'delta')
  let through = last?.kind === 'delta' ? last.through : 0
  const revision = through
  for (let count = 0; count < 5; count++) {
    const name = await shipDelta(remote, { after: through, through: through + 1, rows: [] })
    through++
    const { bytes } = must(await remote.get(name, 1e6), 'delta')
    await remote.put(name, bytes.fill(0, 4, 8))
  }
  let reads = 0
  const counting = watched((method, name) => {
    if (method === 'get' && String(name).includes('-part-000000')) reads++
    return Promise.resolve()
  })
  const report = await restoreInto('second', { remote: counting })
  expect(report).toMatchObject({ state: { revision }, lost: [] })
  expect([report.unusable.length, reads]).toEqual([5, 2])
})
