/**
 * Which states of the namespace a remote store holds, for whoever has nothing else: the newest of each lineage (chain.ts), and those of
 * backups (manifest.ts). What is damaged is left out when it is found out, and the next best state is taken.
 *
 * Lineages do not mix, with one exception. A holder that was made by a restore acknowledges writes before its first state has arrived, and all
 * that tells of those are records. Should it be lost then, it is what it was restored from, and its records on top; so may that one have
 * been, and so on back to one that has a state, or to a backup. The marker says who was restored from what (../remote-marker.ts).
 * Where it does not, the state that was stored last is taken, and the records of all who never had one. Putting records of several lineages
 * on top of each other is safe because each restored namespace goes on beyond every revision that the store tells of
 * (meta/namespace/restore/recount.ts). A former holder may have shipped a last delta after its successor had looked: what it
 * names has its bytes, so it is taken.
 */
import type { Revision } from '../../common/ids.ts'
import { TidegateError } from '../../common/errors.ts'
import type { HolderOrigin, RemoteHistory } from '../remote-marker.ts'
import { listAll } from '../remote/list-all.ts'
import type { RemoteStore } from '../remote/ports.ts'
import { newestState, type NamesState } from './chain.ts'
import {
  BACKUPS_PREFIX,
  MANIFEST_BYTES_MAX,
  backupIdOf,
  backupObjectName,
  compareAges,
  decodeManifest,
  isBackupId,
  type BackupManifest,
} from './manifest.ts'
import { NAMES_PREFIX, parseNamesObject, type Lineage, type NamesObject } from './object-names.ts'

export type RecordsObject = Extract<NamesObject, { kind: 'records' }>

/** What is to be read: a state, or none, and single objects on top, in this order. */
export interface NamesToRead {
  readonly state: NamesState | undefined
  readonly records: readonly RecordsObject[]
  /** Of the state; of the records when there is none. */
  readonly lineage: Lineage
  /** What makes the state is what this backup names. */
  readonly backup?: string
}

/** Everything under `names/` that is Tidegate's. */
export async function listNames(remote: RemoteStore): Promise<NamesObject[]> {
  const found: NamesObject[] = []
  for await (const object of listAll(remote, NAMES_PREFIX)) {
    const parsed = parseNamesObject(object)
    if (parsed) found.push(parsed)
  }
  return found
}

export type ReadBackup = (id: string) => Promise<NamesToRead>

/** What the store's holder was; where that cannot be told, what was stored last. Undefined when there is nothing. */
export async function newestNames(
  objects: readonly NamesObject[],
  history: RemoteHistory,
  readBackup: ReadBackup,
): Promise<NamesToRead | undefined> {
  const lineages = Map.groupBy(objects, ({ lineage }) => lineage)
  const { names, walked, records } = await walkBack(lineages, history, readBackup)
  if (names) return names
  const states = [...lineages].flatMap(([lineage, own]) => {
    const state = newestState(own)
    return state ? [{ lineage, state, storedMs: lastStoredMs(state) }] : []
  })
  const best = states.toSorted((one, other) => other.storedMs - one.storedMs).at(0)
  if (!best) return recordsOnly(history.holder, records)
  const told = new Set([...walked, ...states.map(({ lineage }) => lineage), ...history.origins.map(holderOf)])
  const untold = [...lineages].filter(([lineage]) => !told.has(lineage)).flatMap(([, own]) => recordsOf(own))
  const { lineage, state } = best
  return { lineage, state, records: byRevision([...state.records, ...untold, ...records]) }
}

/** What one holder was, and no other. Undefined when there is nothing of it. */
export async function namesOfHolder(
  objects: readonly NamesObject[],
  { holder, origins }: { readonly holder: Lineage; readonly origins: readonly HolderOrigin[] },
  readBackup: ReadBackup,
): Promise<NamesToRead | undefined> {
  const lineages = Map.groupBy(objects, ({ lineage }) => lineage)
  const { names, records } = await walkBack(lineages, { holder, origins }, readBackup)
  return names ?? recordsOnly(holder, records)
}

/** From a holder to what it began with, as far as there is a state. */
async function walkBack(
  lineages: ReadonlyMap<Lineage, readonly NamesObject[]>,
  { holder, origins }: RemoteHistory,
  readBackup: ReadBackup,
): Promise<{ names?: NamesToRead; walked: ReadonlySet<Lineage>; records: readonly RecordsObject[] }> {
  const walked = new Set<Lineage>()
  let records: readonly RecordsObject[] = []
  for (let at = holder; at !== undefined && !walked.has(at);) {
    const lineage: Lineage = at
    walked.add(lineage)
    const own = lineages.get(lineage) ?? []
    const state = newestState(own)
    if (state) {
      const names = { state, lineage, records: byRevision([...state.records, ...records]) }
      return { names, walked, records }
    }
    records = [...recordsOf(own), ...records]
    const origin = origins.find((one) => one.holder === lineage)
    if (origin?.backup !== undefined) {
      const backup = await readBackup(origin.backup)
      return { names: { ...backup, records: byRevision([...backup.records, ...records]) }, walked, records }
    }
    at = origin?.from
  }
  return { walked, records }
}

function recordsOnly(holder: Lineage | undefined, records: readonly RecordsObject[]): NamesToRead | undefined {
  if (holder === undefined || records.length === 0) return undefined
  return { state: undefined, records: byRevision(records), lineage: holder }
}

function holderOf({ holder }: HolderOrigin): Lineage {
  return holder
}

function recordsOf(objects: readonly NamesObject[]): RecordsObject[] {
  return objects.filter((object) => object.kind === 'records')
}

function byRevision(records: readonly RecordsObject[]): RecordsObject[] {
  return records.toSorted((one, other) => one.through - other.through || one.from - other.from)
}

/** One that holds the store or did, as far as it is known. */
export interface FoundHolder {
  readonly holder: Lineage
  /** The store is its own. */
  readonly isCurrent: boolean
  readonly origin: HolderOrigin | undefined
  /** Of its newest state. */
  readonly revision: Revision | undefined
  /** When the last of its names was stored, by the store's clock. */
  readonly storedMs: number | undefined
  /** Objects under `names/` with records that are newer than the state. */
  readonly records: number
}

/** Whose names were stored last comes first. */
export function foundHolders(objects: readonly NamesObject[], { holder, origins }: RemoteHistory): FoundHolder[] {
  const lineages = Map.groupBy(objects, ({ lineage }) => lineage)
  const known = new Set([...(holder === undefined ? [] : [holder]), ...origins.map(holderOf), ...lineages.keys()])
  const found = [...known].map((one): FoundHolder => {
    const own = lineages.get(one) ?? []
    const state = newestState(own)
    return {
      holder: one,
      isCurrent: one === holder,
      origin: origins.find((origin) => origin.holder === one),
      revision: state?.revision,
      storedMs: own.length === 0 ? undefined : own.reduce((last, { modifiedMs }) => Math.max(last, modifiedMs), 0),
      records: (state?.records ?? recordsOf(own)).length,
    }
  })
  return found.toSorted((one, other) => (other.storedMs ?? 0) - (one.storedMs ?? 0))
}

/** The revision at which the greatest number was given out that any object tells of. */
export function newestRevision(objects: readonly NamesObject[]): Revision {
  return objects.reduce(
    (newest, object) => Math.max(newest, object.kind === 'base-part' ? object.begin : endOf(object)),
    0,
  )
}

function endOf(object: Exclude<NamesObject, { kind: 'base-part' }>): Revision {
  return object.kind === 'base-whole' ? object.end : object.through
}

function lastStoredMs({ base, deltas }: NamesState): number {
  return Math.max(base.whole.modifiedMs, ...(deltas.at(-1)?.parts.map(({ modifiedMs }) => modifiedMs) ?? []))
}

export interface FoundBackup {
  readonly id: string
  readonly manifest: BackupManifest | undefined
  /** Why there is no manifest. */
  readonly problem: string | undefined
}

/** Oldest first. */
export async function listBackups(remote: RemoteStore): Promise<FoundBackup[]> {
  const found: FoundBackup[] = []
  for await (const { name } of listAll(remote, BACKUPS_PREFIX)) {
    const id = backupIdOf(name)
    if (id === undefined) continue
    try {
      found.push({ id, manifest: await readManifest(remote, id), problem: undefined })
    } catch (error) {
      if (!(error instanceof TidegateError) || error.code !== 'DataLost') throw error
      found.push({ id, manifest: undefined, problem: error.message })
    }
  }
  return found.toSorted((one, other) => compareAges(one.manifest ?? one, other.manifest ?? other))
}

/** @throws InvalidRequest when there is none of that id; DataLost when it cannot be used */
export async function readManifest(remote: RemoteStore, id: string): Promise<BackupManifest> {
  const found = isBackupId(id) ? await remote.get(backupObjectName(id), MANIFEST_BYTES_MAX) : undefined
  if (!found) throw new TidegateError('InvalidRequest', `${remote.description} has no backup ${id}`)
  return decodeManifest(found.bytes, id)
}

/** What a backup named. @throws DataLost when that is no state */
export function namesOfBackup(manifest: BackupManifest): NamesToRead {
  const objects = manifest.objects.flatMap((object) => parseNamesObject({ ...object, modifiedMs: 0 }) ?? [])
  const state = newestState(objects)
  if (!state) throw new TidegateError('DataLost', `backup ${manifest.id} names objects that make no state`)
  return { state, records: byRevision(state.records), lineage: manifest.lineage, backup: manifest.id }
}
