/** Reading the rows of a state (chain.ts) and records, a few objects ahead, in order, each checked before any of it is given out. */
import { isTidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { RemoteStore } from '../remote/ports.ts'
import {
  NAMES_OBJECT_BYTES_MAX,
  decodeBaseEnd,
  decodeNamesObject,
  decodeRows,
  headMatchesName,
  namesObjectCrc,
  type BasePart,
  type NamesHead,
} from './format.ts'
import type { NamesObject } from './object-names.ts'
import type { NameRecord, NameRow } from './ports.ts'
import type { NamesState } from './chain.ts'
import type { RecordsObject } from './read-states.ts'
import { decodeRecords } from './record-format.ts'

const READ_AHEAD_OBJECTS = 4
/** The metadata's own bound on keys: no row of ours has a longer one, and none an empty one. */
const KEY_BYTES_MAX = 1978

/** An object that cannot be used; a state without it may still be. */
export class NamesUnusable extends Error {
  readonly objectName: string

  constructor(objectName: string, reason: string, options?: { cause: unknown }) {
    super(`${objectName}: ${reason}`, options)
    this.name = 'NamesUnusable'
    this.objectName = objectName
  }
}

export interface RowsOfAnObject {
  readonly rows: readonly NameRow[]
  readonly capturedMs: number
  readonly objectBytes: number
}

/** Of the base, then of each delta. Later rows replace earlier ones. @throws NamesUnusable; Unavailable when the store cannot be read */
export async function* stateRows(remote: RemoteStore, state: NamesState): AsyncGenerator<RowsOfAnObject> {
  const expected = await baseParts(remote, state)
  const objects: NamesObject[] = [...state.base.parts, ...state.deltas.flatMap(({ parts }) => parts)]
  const decode = async (object: NamesObject): Promise<RowsOfAnObject> => {
    const { head, payload, bytes } = await readObject(remote, object)
    const promised = object.kind === 'base-part' ? expected[object.part] : undefined
    if (promised && (namesObjectCrc(bytes) !== promised.crc || bytes.length !== promised.bytes)) {
      throw new NamesUnusable(object.name, 'it is not the part that its base was completed with')
    }
    const rows = rowsOf(object, { head, payload })
    return { rows, capturedMs: head.capturedMs, objectBytes: bytes.length }
  }
  yield* ahead(objects, decode)
}

/** Those of these deltas that cannot be used, so that who met one need not begin anew for each. @throws Unavailable */
export async function* unusableDeltas(
  remote: RemoteStore,
  deltas: readonly NamesObject[],
): AsyncGenerator<NamesUnusable> {
  const check = async (object: NamesObject): Promise<NamesUnusable | undefined> => {
    try {
      rowsOf(object, await readObject(remote, object))
      return undefined
    } catch (error) {
      if (error instanceof NamesUnusable) return error
      throw error
    }
  }
  for await (const found of ahead(deltas, check)) if (found) yield found
}

function rowsOf(object: NamesObject, { head, payload }: { head: NamesHead; payload: Buffer }): readonly NameRow[] {
  const rows = usable(object, () => decodeRows(payload, head.rows))
  const strange = rows.find(({ key }) => key.length === 0 || key.length > KEY_BYTES_MAX)
  if (strange) throw new NamesUnusable(object.name, `it has a row with a key of ${strange.key.length} bytes`)
  return rows
}

async function baseParts(remote: RemoteStore, { base: { whole } }: NamesState): Promise<BasePart[]> {
  const { payload } = await readObject(remote, whole)
  return usable(whole, () => decodeBaseEnd(payload, whole.parts))
}

/** Those after a revision. @throws NamesUnusable */
export async function readRecords(remote: RemoteStore, object: RecordsObject, after: Revision): Promise<NameRecord[]> {
  const { head, payload } = await readObject(remote, object)
  const records = usable(object, () => decodeRecords(payload, head.rows))
  return records.filter(({ revision }) => revision > after)
}

async function readObject(
  remote: RemoteStore,
  object: NamesObject,
): Promise<{ head: NamesHead; payload: Buffer; bytes: Buffer }> {
  const found = await remote.get(object.name, NAMES_OBJECT_BYTES_MAX)
  if (!found) throw new NamesUnusable(object.name, 'it is missing')
  const { bytes } = found
  try {
    const { head, payload } = await decodeNamesObject(bytes)
    if (headMatchesName(head, object.lineage, object)) return { head, payload, bytes }
  } catch (error) {
    throw unusable(object, error)
  }
  throw new NamesUnusable(object.name, 'it is another object than its name says')
}

function usable<T>(object: NamesObject, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    throw unusable(object, error)
  }
}

function unusable(object: NamesObject, error: unknown): Error {
  if (!isTidegateError(error, 'DataLost')) return error as Error
  return new NamesUnusable(object.name, error.message, { cause: error })
}

/** Results in order, while some more are under way. */
async function* ahead<In, Out>(inputs: readonly In[], work: (input: In) => Promise<Out>): AsyncGenerator<Out> {
  const underWay: Promise<Out>[] = []
  for (let next = 0; next < inputs.length || underWay.length > 0;) {
    while (next < inputs.length && underWay.length < READ_AHEAD_OBJECTS) {
      const started = work(inputs[next++] as In)
      // Awaited in its turn; until then a failure is nobody's.
      started.catch(() => undefined)
      underWay.push(started)
    }
    yield await (underWay.shift() as Promise<Out>)
  }
}
