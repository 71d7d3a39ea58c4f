import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DataDirectoryUnusable } from '../../src/config/data-directory.ts'
import { remoteHolder } from '../../src/persist/remote-marker.ts'
import { FaultyStore } from '../../src/persist/remote/faulty-store.ts'
import { MemoryStore } from '../../src/persist/remote/memory-store.ts'
import {
  claimFor as begin,
  finishClaim,
  readClaim,
  refuseLostMetadata,
  refuseMissingRemote,
  type RemoteClaim,
} from '../../src/remote-claim.ts'
import { HandClock } from '../conformance/hand-clock.ts'
import { newFileSystem } from './persist/fixtures.ts'

let dataPath: string
let otherPath: string
let faulty: FaultyStore
const OPTIONS = { nowMs: 1, localSegments: undefined as string | undefined, unmarkedIsOurs: false }

/** As a gateway does it, that starts and makes its metadata. */
async function claimFor(path: string, store: FaultyStore, options: typeof OPTIONS): Promise<RemoteClaim | undefined> {
  await finishClaim(path, await begin(path, store, options))
  return readClaim(path)
}

beforeEach(() => {
  dataPath = mkdtempSync(join(tmpdir(), 'tidegate-claim-'))
  otherPath = mkdtempSync(join(tmpdir(), 'tidegate-claim-'))
  const store = new MemoryStore({ clock: new HandClock(), fileSystem: newFileSystem() })
  faulty = new FaultyStore(store, { clock: new HandClock(), random: () => 0 })
})

afterEach(() => {
  for (const path of [dataPath, otherPath]) rmSync(path, { recursive: true })
})

test('a fresh directory claims an empty store, and keeps it without asking again', async () => {
  const claim = await claimFor(dataPath, faulty, OPTIONS)
  expect(claim).toMatchObject({ state: 'claimed', description: faulty.description })
  expect(await remoteHolder(faulty)).toEqual({ namespace: claim?.namespace, holder: claim?.holder })
  faulty.faults.down = true
  expect(await claimFor(dataPath, faulty, OPTIONS)).toEqual(claim)
})

test('a second directory is refused, and stays unclaimed for another store', async () => {
  await claimFor(dataPath, faulty, OPTIONS)
  await expect(claimFor(otherPath, faulty, OPTIONS)).rejects.toThrow(/holds another namespace/)
  expect(readClaim(otherPath)?.state).toBe('claiming')
})

test('a first claim on a store that does not answer is refused in words, and can be made later', async () => {
  faulty.faults.down = true
  await expect(claimFor(dataPath, faulty, OPTIONS)).rejects.toThrow(DataDirectoryUnusable)
  faulty.faults.down = false
  expect(await claimFor(dataPath, faulty, OPTIONS)).toMatchObject({ state: 'claimed' })
})

test('a crash between file and marker, or between marker and file, leaves a claim that is finished', async () => {
  faulty.failNth('put', 1, 'unavailable')
  await expect(claimFor(dataPath, faulty, OPTIONS)).rejects.toThrow(DataDirectoryUnusable)
  const begun = readClaim(dataPath)
  expect(begun?.state).toBe('claiming')
  const claim = await claimFor(dataPath, faulty, OPTIONS)
  expect(claim).toEqual({ ...begun, state: 'claimed' })
  writeFileSync(join(dataPath, 'REMOTE'), JSON.stringify(begun))
  expect(await claimFor(dataPath, faulty, OPTIONS)).toEqual(claim)
})

test('a directory whose segments lie under it does not begin with another store', async () => {
  const localSegments = join(dataPath, 'store', 'segments')
  mkdirSync(join(localSegments, 'ab'), { recursive: true })
  await claimFor(otherPath, faulty, { ...OPTIONS, localSegments: join(otherPath, 'store') })
  writeFileSync(join(localSegments, 'ab', 'x.seg'), '')
  await expect(claimFor(dataPath, faulty, { ...OPTIONS, localSegments })).rejects.toThrow(/lie in .*store/)
  expect(existsSync(join(dataPath, 'REMOTE'))).toBe(false)
})

test('a directory that belongs to a store is not run without one', async () => {
  refuseMissingRemote(dataPath)
  await claimFor(dataPath, faulty, OPTIONS)
  expect(() => refuseMissingRemote(dataPath)).toThrow(/give that with --remote/)
  writeFileSync(join(dataPath, 'REMOTE'), '{}')
  expect(() => refuseMissingRemote(dataPath)).toThrow(/does not say/)
})

test('a claimed directory whose metadata is gone is refused: all in the store would look like orphans', async () => {
  const begun = await begin(dataPath, faulty, OPTIONS)
  refuseLostMetadata(dataPath)
  await finishClaim(dataPath, begun)
  expect(() => refuseLostMetadata(dataPath)).toThrow(/tidegate restore/)
  mkdirSync(join(dataPath, 'meta'))
  writeFileSync(join(dataPath, 'meta', 'data.mdb'), '')
  refuseLostMetadata(dataPath)
})
