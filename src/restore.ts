/**
 * `tidegate restore` and `tidegate rebuild`: a data directory from the remote store alone. Part of the composition root.
 *
 *   look        what states of the namespace the store holds; nothing: refused, and nothing is touched
 *   take over   the store gets a new holder, so that the old node, should it come back, neither publishes nor deletes
 *   look again  what the old node still published meanwhile counts: first at names, then at segments. It uploads what names tell of before it
 *               ships them, so every segment that these names need is in a listing that was begun after theirs
 *   rows        of the state, straight into the metadata file (meta/namespace/restore/rows.ts)
 *   recount     what follows from rows: counters, states of segments, where numbers go on (recount.ts)
 *   mend        objects whose bytes are not there go, and are told
 *   records     objects that are newer than the state
 *   footers     rebuild only: bodies that are newer than all that, by their labels
 *   finish      DATA/REMOTE, then DATA/FORMAT: before that no gateway takes it for a data directory
 *
 * Killed anywhere it is run again: the new holder is noted in the directory before the store is taken over, so the second run takes over what is
 * its own. Bytes are not read: they stay where they are and are fetched, and verified, when somebody reads them. `verify` reads them all.
 */
import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { isTidegateError, TidegateError } from './common/errors.ts'
import type { Revision, SegmentId } from './common/ids.ts'
import { checkLimits, DEFAULT_LIMITS } from './common/limits.ts'
import { openRestoredDirectory, type RestoredDirectory } from './config/data-directory.ts'
import { LmdbBackend } from './meta/lmdb/lmdb-backend.ts'
import { createLmdbStore } from './meta/lmdb/lmdb-store.ts'
import { createNamespace } from './meta/namespace/namespace.ts'
import { ofOneNode } from './meta/namespace/restore/one-node.ts'
import { recount, type Recounted } from './meta/namespace/restore/recount.ts'
import { RowWriter } from './meta/namespace/restore/rows.ts'
import type { NamesObject } from './persist/names/object-names.ts'
import { NamesUnusable, readRecords, stateRows, unusableDeltas } from './persist/names/read-names.ts'
import {
  listNames,
  namesOfBackup,
  namesOfHolder,
  newestNames,
  newestRevision,
  readManifest,
  type NamesToRead,
} from './persist/names/read-states.ts'
import { RemoteFooters } from './persist/remote-footers.ts'
import {
  remoteHistory,
  takeOverRemote,
  type HolderOrigin,
  type RemoteHistory,
  type RemoteHolder,
} from './persist/remote-marker.ts'
import type { RemoteStore } from './persist/remote/ports.ts'
import { newHolderId, writeClaim } from './remote-claim.ts'
import { addFooterBodies, type FooterReport } from './restore-footers.ts'
import {
  allSegments,
  countUnnamed,
  runsOf,
  type RestoredNamespace,
  type RestoreProgress,
} from './restored-namespace.ts'

export interface RestoreRequest {
  readonly data: string
  readonly remote: RemoteStore
  /** Of a backup; undefined: the newest state. */
  readonly backup: string | undefined
  /** Whose newest state is meant; undefined: of who holds the store. */
  readonly holder?: string | undefined
  /** From footers what names do not tell. */
  readonly footers: boolean
  /** Reads every byte that something refers to. */
  readonly verify: boolean
  readonly onProgress: (progress: RestoreProgress) => void
}

export interface RestoreReport {
  readonly data: string
  readonly remote: string
  readonly backup: string | undefined
  readonly holder: string | undefined
  /** Undefined when there was no state to begin with. */
  readonly state: { readonly revision: Revision; readonly capturedMs: number; readonly lineage: string } | undefined
  readonly buckets: number
  readonly objects: number
  readonly bytes: number
  readonly segments: number
  /** Objects that are newer than the state. */
  readonly records: number
  /** Objects and uploads whose bytes the store does not have; the first ten thousand. */
  readonly lost: readonly { readonly bucket: string; readonly key: string }[]
  /** Of `names/`: what was damaged or missing, and was done without. */
  readonly unusable: readonly string[]
  /** Segments in the store that nothing restored refers to, nor knows. */
  readonly unnamedSegments: number
  readonly footers: FooterReport | undefined
  /** Segments with pages that are not what was written; undefined when that was not looked at. */
  readonly damaged: readonly DamagedSegment[] | undefined
}

export interface DamagedSegment {
  readonly segment: SegmentId
  readonly problem: string
}

/** What is known of the store, at one look. */
interface Look {
  readonly objects: readonly NamesObject[]
  readonly names: NamesToRead | undefined
}

/** @throws DataDirectoryUnusable, DataDirectoryInUse; InvalidRequest when there is nothing to restore; what the store throws */
export async function restore(request: RestoreRequest): Promise<RestoreReport> {
  const { remote } = request
  await remote.connect()
  const history = await remoteHistory(remote)
  const seen = await look(request, { history, unusable: new Map() })
  await refuseNothing(request, seen)
  const directory = await openRestoredDirectory(request.data)
  try {
    const holders = await noteHolders(directory, history)
    const holder = await takeOver(remote, holders, originOf(request, { holders, seen }))
    const report = await new Restore(request, directory, { ...history, holder: holders.before }).run()
    await writeClaim(directory.path, { ...holder, state: 'claimed', description: remote.description })
    await directory.finish()
    return report
  } finally {
    await directory.close()
  }
}

/** `history`: whose the store was. */
async function look(
  { remote, backup, holder }: RestoreRequest,
  { history, unusable }: { readonly history: RemoteHistory; readonly unusable: ReadonlyMap<string, string> },
): Promise<Look> {
  const objects = await listNames(remote)
  if (backup !== undefined) return { objects, names: namesOfBackup(await readManifest(remote, backup)) }
  const usable = objects.filter(({ name }) => !unusable.has(name))
  const readBackup = (id: string): Promise<NamesToRead> => backupBegunWith(remote, id)
  if (holder === undefined) return { objects, names: await newestNames(usable, history, readBackup) }
  const names = await namesOfHolder(usable, { holder, origins: history.origins }, readBackup)
  if (!names)
    throw nothing(`${remote.description} has no names of holder ${holder}: "tidegate restore --list" lists them`)
  return { objects, names }
}

/** Of a holder that was lost before it had a state of its own. */
async function backupBegunWith(remote: RemoteStore, id: string): Promise<NamesToRead> {
  try {
    return namesOfBackup(await readManifest(remote, id))
  } catch (error) {
    if (!isTidegateError(error, 'InvalidRequest') && !isTidegateError(error, 'DataLost')) throw error
    const why = `the holder was restored from backup ${id}, has no state of its own yet, and ${error.message}`
    throw new TidegateError('InvalidRequest', `${why}: choose another backup (--backup) or holder (--holder)`, {
      cause: error,
    })
  }
}

/** What the marker says that this restore begins with; undefined: with nothing that has a name. */
function originOf(
  { backup, holder }: RestoreRequest,
  { holders, seen }: { readonly holders: Holders; readonly seen: Look },
): Pick<HolderOrigin, 'from' | 'backup'> | undefined {
  const from = backup === undefined ? (holder ?? holders.before ?? seen.names?.lineage) : seen.names?.lineage
  return from === undefined ? undefined : { from, backup }
}

/** @throws InvalidRequest */
async function refuseNothing({ remote, footers }: RestoreRequest, { names, objects }: Look): Promise<void> {
  if (names) return
  const [segment] = await remote.list('segments/', undefined, 1)
  if (footers && segment) return
  const where = remote.description
  if (!segment && objects.length === 0) throw nothing(`no names and no segments under ${where}: is the URL right?`)
  const found = objects.length === 0 ? 'no names' : `${objects.length} objects of names and no whole state of them`
  throw nothing(
    `${where} has ${found}${segment ? ', but segments: "tidegate rebuild" makes of them what their footers tell' : ''}`,
  )
}

function nothing(message: string): TidegateError {
  return new TidegateError('InvalidRequest', message)
}

/** Of this run and of those that it goes on with. */
interface Holders {
  /** Whose the store is from now on. */
  readonly holder: string
  /** Whose it was: what that one wrote is the newest. */
  readonly before: string | undefined
}

/** Both are noted before the store is taken over, so that a run that is begun again is the same one. */
async function noteHolders(directory: RestoredDirectory, history: RemoteHistory): Promise<Holders> {
  const noted = directory.note === undefined ? undefined : parseNote(directory.note)
  if (noted) return noted
  const holders = { holder: newHolderId(), before: history.holder }
  await directory.writeNote(`${JSON.stringify(holders)}\n`)
  return holders
}

function parseNote(note: string): Holders | undefined {
  try {
    const { holder, before } = JSON.parse(note) as Partial<Record<keyof Holders, unknown>>
    if (typeof holder !== 'string' || (before !== undefined && typeof before !== 'string')) return undefined
    return { holder, before }
  } catch {
    return undefined
  }
}

function takeOver(
  remote: RemoteStore,
  { holder }: Holders,
  origin: Pick<HolderOrigin, 'from' | 'backup'> | undefined,
): Promise<RemoteHolder> {
  const fallback = { namespace: randomBytes(16).toString('hex'), nowMs: systemClock.nowMs() }
  return takeOverRemote(remote, holder, fallback, origin)
}

/** The newest state that can be read whole, in rows. */
interface Written {
  readonly seen: Look
  readonly footers: RemoteFooters
  readonly capturedMs: number
  readonly recounted: Recounted
}

class Restore {
  readonly #request: RestoreRequest
  readonly #metaPath: string
  readonly #history: RemoteHistory
  readonly #unusable = new Map<string, string>()

  constructor(request: RestoreRequest, directory: RestoredDirectory, history: RemoteHistory) {
    this.#request = request
    this.#metaPath = join(directory.path, 'meta')
    this.#history = history
  }

  async run(): Promise<RestoreReport> {
    const { remote } = this.#request
    const { seen, footers, capturedMs, recounted } = await this.#writeRows()
    const { names } = seen
    const store = createLmdbStore({ directory: this.#metaPath, changeLogRevisionsMax: 0 })
    await store.start()
    try {
      const namespace = createNamespace({ store, clock: systemClock, limits: checkLimits(DEFAULT_LIMITS) })
      const { settled, contentMax } = recounted
      const restored: RestoredNamespace = { namespace, footers, settled, contentMax, capturedMs }
      const lost = [...(await namespace.restoring.dropLost(recounted.missing)).lost]
      const records = await this.#applyRecords(restored, names, lost)
      const progress = this.#request.onProgress
      const fromFooters = this.#request.footers ? await addFooterBodies(restored, progress) : undefined
      const damaged = this.#request.verify ? await this.#verify(restored) : undefined
      await store.flush()
      const state = names?.state && { revision: names.state.revision, capturedMs, lineage: names.lineage }
      return {
        data: this.#request.data,
        remote: remote.description,
        backup: this.#request.backup,
        holder: this.#request.holder,
        state,
        ...(await namespace.restoring.tally()),
        records,
        lost,
        unusable: [...this.#unusable].map(([, problem]) => problem),
        unnamedSegments: await countUnnamed(restored),
        footers: fromFooters,
        damaged,
      }
    } finally {
      await store.drain()
      await store.stop()
    }
  }

  async #writeRows(): Promise<Written> {
    for (;;) {
      const seen = await look(this.#request, { history: this.#history, unusable: this.#unusable })
      await refuseNothing(this.#request, seen)
      // After names: a node that is not fenced yet uploads, and then ships what names it.
      const footers = await RemoteFooters.open(this.#request.remote)
      const backend = new LmdbBackend({ directory: this.#metaPath })
      await backend.open()
      try {
        const capturedMs = await this.#writeState(new RowWriter(backend), seen)
        this.#request.onProgress({ doing: 'counting', done: 0, total: undefined })
        await ofOneNode(backend)
        const recounted = await recount(backend, {
          present: new Set(footers.segments.keys()),
          dataBytes: async (segment) => (await footers.footer(segment))?.dataBytes,
          revision: newestRevision(seen.objects),
          nowMs: systemClock.nowMs(),
        })
        return { seen, footers, capturedMs, recounted }
      } catch (error) {
        if (!(error instanceof NamesUnusable) || seen.names?.backup !== undefined) throw error
        this.#unusable.set(error.objectName, error.message)
        await this.#findUnusable(seen)
      } finally {
        await backend.close()
      }
      await rm(this.#metaPath, { recursive: true })
    }
  }

  /** Where one delta is damaged others may be: all are looked at, so that the base is not read again for each. */
  async #findUnusable({ objects, names }: Look): Promise<void> {
    const { remote } = this.#request
    const deltas = objects.filter(
      ({ kind, lineage, name }) => kind === 'delta' && lineage === names?.lineage && !this.#unusable.has(name),
    )
    for await (const { objectName, message } of unusableDeltas(remote, deltas)) this.#unusable.set(objectName, message)
  }

  async #writeState(writer: RowWriter, { names }: Look): Promise<number> {
    if (!names?.state) return 0
    const { base, deltas } = names.state
    const total = base.bytes + deltas.reduce((sum, { bytes }) => sum + bytes, 0)
    let [done, capturedMs] = [0, 0]
    for await (const part of stateRows(this.#request.remote, names.state)) {
      await writer.write(part.rows)
      done += part.objectBytes
      capturedMs = part.capturedMs
      this.#request.onProgress({ doing: 'reading names', done, total })
    }
    await writer.flush()
    return capturedMs
  }

  async #applyRecords(
    restored: RestoredNamespace,
    names: NamesToRead | undefined,
    lost: { bucket: string; key: string }[],
  ): Promise<number> {
    const objects = names?.records ?? []
    const after = names?.state?.revision ?? 0
    let applied = 0
    for (const [index, object] of objects.entries()) {
      this.#request.onProgress({ doing: 'applying records', done: index, total: objects.length })
      const records = await readRecords(this.#request.remote, object, after).catch((error: unknown) => {
        if (!(error instanceof NamesUnusable)) throw error
        this.#unusable.set(error.objectName, error.message)
        return []
      })
      for (const record of records.toSorted((one, other) => one.revision - other.revision)) {
        const extents = await runsOf(restored, record.extents)
        if (!extents) lost.push({ bucket: record.bucket, key: record.key })
        else if (await restored.namespace.restoring.applyRecord({ ...record, extents })) applied++
      }
    }
    return applied
  }

  async #verify({ namespace, footers }: RestoredNamespace): Promise<DamagedSegment[]> {
    const damaged: DamagedSegment[] = []
    let done = 0
    for await (const { segment, liveBytes } of allSegments(namespace)) {
      this.#request.onProgress({ doing: 'verifying', done: done++, total: undefined })
      if (liveBytes === 0) continue
      const ranges = await footers.damage(segment)
      if (ranges === undefined) damaged.push({ segment, problem: 'it has no footer that checks' })
      else if (ranges.length > 0) damaged.push({ segment, problem: `${ranges.length} pages are not what was written` })
    }
    return damaged
  }
}
