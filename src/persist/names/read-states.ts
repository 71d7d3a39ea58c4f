/**
 * Which states of the namespace a remote store holds, for whoever has nothing else: the newest of each lineage (chain.ts), and those of
 * backups (manifest.ts). What is damaged is left out when it is found out, and the next best state is taken.
 *
 * Lineages do not mix, with one exception: a holder that has records and no state yet was restored a moment ago, and what it acknowledged since
 * goes on top of what it was restored from.
 */
import type { Revision } from '../../common/ids.ts'
import { TidegateError } from '../../common/errors.ts'
import type { RemoteStore } from '../remote/ports.ts'
import { newestState, type NamesState } from './chain.ts'
import {
  BACKUPS_PREFIX,
  MANIFEST_BYTES_MAX,
  backupIdOf,
  backupObjectName,
  decodeManifest,
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
}

const LIST_OBJECTS = 1000

/** Everything under `names/` that is Tidegate's. */
export async function listNames(remote: RemoteStore): Promise<NamesObject[]> {
  const found: NamesObject[] = []
  for await (const object of listed(remote, NAMES_PREFIX)) {
    const parsed = parseNamesObject(object)
    if (parsed) found.push(parsed)
  }
  return found
}

export async function* listed(
  remote: RemoteStore,
  prefix: string,
): AsyncGenerator<{ readonly name: string; readonly bytes: number; readonly modifiedMs: number }> {
  for (let after: string | undefined; ;) {
    const page = await remote.list(prefix, after, LIST_OBJECTS)
    yield* page
    after = page.at(-1)?.name
    if (after === undefined || page.length < LIST_OBJECTS) return
  }
}

/** Of the holder if it has a state, else of the lineage whose newest object was stored last; undefined when there is nothing. */
export function newestNames(objects: readonly NamesObject[], holder: Lineage | undefined): NamesToRead | undefined {
  const lineages = Map.groupBy(objects, ({ lineage }) => lineage)
  const states = [...lineages].flatMap(([lineage, own]) => {
    const state = newestState(own)
    return state ? [{ lineage, state, storedMs: storedMs(state) }] : []
  })
  const best =
    states.find(({ lineage }) => lineage === holder) ?? states.toSorted((a, b) => b.storedMs - a.storedMs).at(0)
  const ofHolder = recordsOf(objects, holder)
  if (!best) return ofHolder.length > 0 && holder ? { state: undefined, records: ofHolder, lineage: holder } : undefined
  const { lineage, state } = best
  const records = lineage === holder ? state.records : [...state.records, ...ofHolder]
  return { lineage, state, records: inOrder(records) }
}

function recordsOf(objects: readonly NamesObject[], lineage: Lineage | undefined): RecordsObject[] {
  return inOrder(objects.filter((object) => object.kind === 'records' && object.lineage === lineage))
}

function inOrder(records: readonly NamesObject[]): RecordsObject[] {
  const own = records.filter((object) => object.kind === 'records')
  return own.toSorted((one, other) => one.through - other.through || one.from - other.from)
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

function storedMs({ base, deltas }: NamesState): number {
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
  for await (const { name } of listed(remote, BACKUPS_PREFIX)) {
    const id = backupIdOf(name)
    if (id === undefined) continue
    try {
      found.push({ id, manifest: await readManifest(remote, id), problem: undefined })
    } catch (error) {
      if (!(error instanceof TidegateError) || error.code !== 'DataLost') throw error
      found.push({ id, manifest: undefined, problem: error.message })
    }
  }
  return found
}

/** @throws InvalidRequest when there is none of that id; DataLost when it cannot be used */
export async function readManifest(remote: RemoteStore, id: string): Promise<BackupManifest> {
  const found = await remote.get(backupObjectName(id), MANIFEST_BYTES_MAX)
  if (!found) throw new TidegateError('InvalidRequest', `${remote.description} has no backup ${id}`)
  return decodeManifest(found.bytes, id)
}

/** What a backup named. @throws DataLost when that is no state */
export function namesOfBackup(manifest: BackupManifest): NamesToRead {
  const objects = manifest.objects.flatMap((object) => parseNamesObject({ ...object, modifiedMs: 0 }) ?? [])
  const state = newestState(objects)
  if (!state) throw new TidegateError('DataLost', `backup ${manifest.id} names objects that make no state`)
  return { state, records: inOrder(state.records), lineage: manifest.lineage }
}
