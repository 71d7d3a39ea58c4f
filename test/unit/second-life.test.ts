/** A namespace that is restored from an older backup, lives on, and is lost again: lineages, and what each backup still needs. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../src/common/clock.ts'
import { NO_CONDITIONS } from '../../src/common/conditions.ts'
import type { Engine } from '../../src/engine.ts'
import { nodeFileSystem } from '../../src/persist/node-file-system.ts'
import { DirectoryStore } from '../../src/persist/remote/directory-store.ts'
import { MemoryStore } from '../../src/persist/remote/memory-store.ts'
import type { RemoteStore } from '../../src/persist/remote/ports.ts'
import { restore, type RestoreReport } from '../../src/restore.ts'
import { startRemoteNode, type RemoteNode } from '../support/remote-node.ts'
import { contentsOf, fillWithAllKinds, put } from '../support/restorable.ts'

type Contents = Awaited<ReturnType<typeof contentsOf>>

let base: string

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'tidegate-second-life-'))
})

afterEach(() => rm(base, { recursive: true, force: true }))

/** A remote store; where segments are adopted, the directory that they lie in. */
interface Place {
  readonly remote: RemoteStore
  readonly directory?: string
}

const PLACES: Readonly<Record<string, () => Place>> = {
  uploaded: () => ({ remote: new MemoryStore({ clock: systemClock, fileSystem: nodeFileSystem }) }),
  adopted: () => {
    const directory = join(base, 'store')
    return { directory, remote: new DirectoryStore({ directory, fileSystem: nodeFileSystem }) }
  },
}

async function objectNames({ remote }: Place, prefix: string): Promise<string[]> {
  const names: string[] = []
  for (let after: string | undefined; ;) {
    const page = await remote.list(prefix, after, 1000)
    names.push(...page.map(({ name }) => name))
    if (page.length < 1000) return names
    after = page.at(-1)?.name
  }
}

/** What a restore would give now; on a copy, so that the store stays whose it is. */
async function restorable(place: Place, backup: string | undefined): Promise<Contents> {
  const copy = new MemoryStore({ clock: systemClock, fileSystem: nodeFileSystem })
  for (const name of await objectNames(place, '')) {
    const found = await place.remote.get(name, 1e9)
    if (found) await copy.put(name, found.bytes)
  }
  const data = await mkdtemp(join(base, 'tried-'))
  const report = await restoreInto(data, { remote: copy }, backup)
  expect(report).toMatchObject({ lost: [], unusable: [], damaged: [] })
  return await withNode(data, { remote: copy }, ({ engine }) => contentsOf(engine))
}

function restoreInto(data: string, { remote }: Place, backup?: string): Promise<RestoreReport> {
  return restore({ data, remote, backup, footers: false, verify: true, onProgress: () => undefined })
}

async function withNode<T>(data: string, place: Place, use: (node: RemoteNode) => Promise<T>): Promise<T> {
  const node = await startRemoteNode(data, place)
  try {
    return await use(node)
  } finally {
    await node.stop()
  }
}

/** Replaces, deletes and adds, in segments of its own. */
async function change(engine: Engine, life: string): Promise<void> {
  const { objects } = engine.store
  for (const size of [700, 1024, 9000])
    await put(engine, { bucket: 'plain', key: `${life}/${size}` }, randomBytes(size))
  await put(engine, { bucket: 'plain', key: 'told/ä' }, randomBytes(900))
  await put(engine, { bucket: 'plain', key: 'replaced' }, randomBytes(5000))
  await objects.delete({ bucket: 'plain', key: 'big/parts' }, NO_CONDITIONS)
  for (const size of [700, 9000]) await objects.delete({ bucket: 'plain', key: `tree/moved/${size}` }, NO_CONDITIONS)
}

/** The takeover was longer ago than what a former holder left is kept for. */
async function takenOverLongAgo({ remote }: Place): Promise<void> {
  const found = await remote.get('TIDEGATE', 4096)
  const marker = JSON.parse(found?.bytes.toString() ?? '') as { sinceMs: number }
  await remote.put('TIDEGATE', Buffer.from(JSON.stringify({ ...marker, sinceMs: marker.sinceMs - 2 * 86_400_000 })))
}

async function backUp({ names }: RemoteNode): Promise<string> {
  const { id, complete } = await names.backUp(systemClock.monotonicMs() + 20_000)
  expect(complete).toBe(true)
  return id
}

interface FirstLife {
  readonly older: string
  readonly olderContents: Contents
  readonly newer: string
  readonly newerContents: Contents
}

/** Two backups and then some; the node is lost. */
async function firstLife(data: string, place: Place): Promise<FirstLife> {
  const lived = await withNode(data, place, async (node) => {
    await fillWithAllKinds(node.engine)
    await node.settle()
    const older = await backUp(node)
    const olderContents = await contentsOf(node.engine)
    await change(node.engine, 'first-life')
    await node.settle()
    const newer = await backUp(node)
    const newerContents = await contentsOf(node.engine)
    await change(node.engine, 'first-life, not backed up')
    await node.settle()
    return { older, olderContents, newer, newerContents }
  })
  await rm(data, { recursive: true })
  return lived
}

test.each(Object.keys(PLACES))(
  'C17: the second life of an older backup goes on by itself, and takes nothing from the other backups (%s)',
  { timeout: 240_000 },
  async (kind) => {
    const place = PLACES[kind]?.() as Place
    const { older, olderContents, newer, newerContents } = await firstLife(join(base, 'first'), place)
    const data = join(base, 'second')
    const report = await restoreInto(data, place, older)
    expect(report).toMatchObject({ backup: older, lost: [], damaged: [] })
    const secondContents = await withNode(data, place, async (node) => {
      expect(await contentsOf(node.engine)).toEqual(olderContents)
      await change(node.engine, 'second-life')
      await node.settle()
      await node.engine.collector?.pass()
      await node.settle()
      expect(node.names.backups.list()).toMatchObject([
        { id: older, ancestral: true },
        { id: newer, ancestral: true },
      ])
      return contentsOf(node.engine)
    })
    // Restarted: what a start tidies up must not be what a backup needs.
    await withNode(data, place, async (node) => {
      await node.settle()
      await node.engine.collector?.pass()
      expect(await contentsOf(node.engine)).toEqual(secondContents)
      expect(node.events.filter(({ kind: event }) => event !== 'recovered')).toEqual([])
    })
    expect(await restorable(place, newer)).toEqual(newerContents)
    expect(await restorable(place, older)).toEqual(olderContents)
    await rm(data, { recursive: true })
    const third = join(base, 'third')
    await restoreInto(third, place)
    await withNode(third, place, async (node) => {
      expect(await contentsOf(node.engine)).toEqual(secondContents)
      await change(node.engine, 'third-life')
      await node.settle()
      await node.engine.collector?.pass()
    })
    expect(await restorable(place, newer)).toEqual(newerContents)
    expect(await restorable(place, older)).toEqual(olderContents)
  },
)

test.each(Object.keys(PLACES))(
  'what only dropped backups of a former life needed goes, and nothing else does (%s)',
  { timeout: 240_000 },
  async (kind) => {
    const place = PLACES[kind]?.() as Place
    const { older, newer } = await firstLife(join(base, 'first'), place)
    const data = join(base, 'second')
    await restoreInto(data, place, older)
    const contents = await withNode(data, place, async (node) => {
      await change(node.engine, 'second-life')
      await node.settle()
      await node.names.dropBackup(newer)
      await node.names.dropBackup(older)
      await node.settle()
      const before = await objectNames(place, 'segments/')
      await node.engine.collector?.pass()
      // Kept for a day, for whoever restored the wrong backup.
      expect(await objectNames(place, 'segments/')).toEqual(before)
      return contentsOf(node.engine)
    })
    await takenOverLongAgo(place)
    await withNode(data, place, async (node) => {
      await node.settle()
      await node.engine.collector?.pass()
      expect(await contentsOf(node.engine)).toEqual(contents)
      const known = await node.engine.namespace.segments(undefined, 1000)
      expect((await objectNames(place, 'segments/')).length).toBe(known.length)
      expect(known.every(({ liveBytes }) => liveBytes > 0)).toBe(true)
    })
    expect(await restorable(place, undefined)).toEqual(contents)
  },
)
