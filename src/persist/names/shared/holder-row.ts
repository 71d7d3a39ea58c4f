/**
 * The row that says who ships the names, and how far they have come: JSON, since a person may have to read it.
 *
 *   {"format":1,"node":2,"incarnation":"...","token":"<16 hex>","sequence":17,"loaded":true,
 *    "shippedThrough":4711,"stateMs":1700000000000,"base":"<random>","revision":4700,"deltas":["<random>",...],"notes":[["<random>",4690],...],
 *    "holding":false,"pins":[["<backup>",4000,"<segment>",1699999999999,true],...],"pinsAll":false,"formerKept":false}
 *
 * `node` -1: nobody ships. The token is drawn anew by whoever takes it over; with the sequence, which grows with each change, it says whether a change may be made by whom
 * (tenure.ts). What the fields mean: HolderRow.
 */
import { TidegateError } from '../../../common/errors.ts'
import type { Revision, SegmentId } from '../../../common/ids.ts'
import type { NotedIntent } from '../ports.ts'

/** What a kept backup needs. */
export interface BackupPin {
  readonly id: string
  /** Of its state; -1: it is a former holder's, and needs whatever is as old as it. */
  readonly revision: Revision
  readonly newestSegment: string
  readonly createdMs: number
}

/** What the objects of the remote store make, as the one who put them there knows it. */
export interface ToldState {
  readonly base: string
  readonly deltas: readonly string[]
  readonly revision: Revision
}

export interface HolderRow {
  readonly node: number
  readonly incarnation: string
  readonly token: string
  readonly sequence: number
  /** Some holder has looked through the remote store, and has not refused it. */
  readonly isLoaded: boolean
  /** The remote store holds everything up to here; -1: no state. */
  readonly shippedThrough: Revision
  readonly stateMs: number
  readonly state: ToldState | undefined
  /** Of captures, before anything of them was put: by all holders, the oldest first. */
  readonly notes: readonly NotedIntent[]
  /** A capture waits for bytes, or is about to be made. */
  readonly isHolding: boolean
  readonly pins: readonly BackupPin[]
  /** There are manifests that cannot be read: everything is needed. */
  readonly pinsAll: boolean
  /** What former holders of the remote store have left is kept. */
  readonly isFormerKept: boolean
}

const FORMAT = 1
/** Node 0 is one like others: metadata that were moved are its. */
export const NOBODY: number = -1

export const NEW_ROW: HolderRow = {
  node: NOBODY,
  incarnation: '',
  token: '',
  sequence: 0,
  isLoaded: false,
  shippedThrough: -1,
  stateMs: 0,
  state: undefined,
  notes: [],
  isHolding: false,
  pins: [],
  pinsAll: false,
  isFormerKept: true,
}

export function encodeHolderRow(row: HolderRow): Uint8Array {
  const { state, notes, pins } = row
  const fields = {
    format: FORMAT,
    node: row.node,
    incarnation: row.incarnation,
    token: row.token,
    sequence: row.sequence,
    loaded: row.isLoaded,
    shippedThrough: row.shippedThrough,
    stateMs: row.stateMs,
    ...(state && { base: state.base, revision: state.revision, deltas: state.deltas }),
    notes: notes.map(({ random, revision }) => [random, revision]),
    holding: row.isHolding,
    pins: pins.map(({ id, revision, newestSegment, createdMs }) => [id, revision, newestSegment, createdMs]),
    pinsAll: row.pinsAll,
    formerKept: row.isFormerKept,
  }
  return Buffer.from(JSON.stringify(fields))
}

interface Stored {
  readonly format: number
  readonly node: number
  readonly incarnation: string
  readonly token: string
  readonly sequence: number
  readonly loaded: boolean
  readonly shippedThrough: number
  readonly stateMs: number
  readonly base?: string
  readonly revision?: number
  readonly deltas?: readonly string[]
  readonly notes: readonly (readonly [string, number])[]
  readonly holding: boolean
  readonly pins: readonly (readonly [string, number, string, number])[]
  readonly pinsAll: boolean
  readonly formerKept: boolean
}

/** @throws Unavailable for a row of a newer Tidegate */
export function decodeHolderRow(bytes: Uint8Array | undefined): HolderRow | undefined {
  if (!bytes) return undefined
  const stored = JSON.parse(Buffer.from(bytes).toString()) as Stored
  if (stored.format !== FORMAT) {
    throw new TidegateError(
      'Unavailable',
      `who ships the names is said in format ${stored.format}, of another Tidegate`,
    )
  }
  const { base, revision = 0, deltas = [] } = stored
  return {
    node: stored.node,
    incarnation: stored.incarnation,
    token: stored.token,
    sequence: stored.sequence,
    isLoaded: stored.loaded,
    shippedThrough: stored.shippedThrough,
    stateMs: stored.stateMs,
    state: base === undefined ? undefined : { base, deltas, revision },
    notes: stored.notes.map(([random, at]) => ({ random, revision: at })),
    isHolding: stored.holding,
    pins: stored.pins.map(([id, at, newestSegment, createdMs]) => {
      return { id, revision: at, newestSegment, createdMs }
    }),
    pinsAll: stored.pinsAll,
    isFormerKept: stored.formerKept,
  }
}

/** Whether a segment whose last reference was dropped at that revision may go from the remote store, by what a row says: an older row says less may. */
export function rowLetsGo(row: HolderRow | undefined, segment: SegmentId, emptiedAt: Revision): boolean {
  if (!row || row.shippedThrough < emptiedAt || row.pinsAll) return false
  return !row.pins.some((pin) => segment <= pin.newestSegment && pin.revision < emptiedAt)
}
