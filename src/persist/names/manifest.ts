/**
 * Backups: `backups/<id>.json`, a manifest each (docs/decisions/0013). It names the objects under `names/` that make the state, so it costs
 * one small object; those objects, and the segments that the state refers to, stay as long as it does.
 *
 *   {"format":1,"id":...,"lineage":...,"createdMs":...,"revision":...,"stateMs":...,"newestSegment":...,"objects":[{"name":...,"bytes":...},...],"crc":...}
 *
 * `id` is the UTC time to the second and 4 hex digits, `20261122T063918Z-3fa9`; of two of one second, `createdMs` tells the older.
 * `stateMs` is when the state was captured, which is its `revision`; records in it may be newer. `objects` are those of chain.ts's state, in the order in which they are applied: parts of
 * the base, its end, parts of deltas, records. `newestSegment` is the greatest id of a segment that there was: those that came after it are not
 * needed, whatever clocks say ("": there was none). `crc` is the CRC-32, in 8 hex digits, of the JSON text of the same without it.
 */
import { crc32 } from 'node:zlib'
import { TidegateError } from '../../common/errors.ts'
import type { Revision } from '../../common/ids.ts'
import type { Lineage } from './object-names.ts'

export interface BackupManifest {
  readonly id: string
  readonly lineage: Lineage
  readonly createdMs: number
  readonly revision: Revision
  readonly stateMs: number
  readonly newestSegment: string
  readonly objects: readonly BackupObject[]
}

export interface BackupObject {
  readonly name: string
  readonly bytes: number
}

export const BACKUPS_PREFIX = 'backups/'
/** A manifest of half a million objects. */
export const MANIFEST_BYTES_MAX: number = 64 * 1024 * 1024

const FORMAT = 1
/** Of an id. */
const SECOND_LENGTH = 'YYYYMMDDThhmmssZ'.length
const ID = /^\d{8}T\d{6}Z-[0-9a-f]{4}$/

export function newBackupId(nowMs: number, fillRandom: (bytes: Uint8Array) => void): string {
  const random = Buffer.alloc(2)
  fillRandom(random)
  const time = new Date(nowMs).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  return `${time}-${random.toString('hex')}`
}

/** What tells the age of a backup; of one whose manifest cannot be read, the id alone. */
export interface AgedBackup {
  readonly id: string
  readonly createdMs?: number
  readonly revision?: Revision
}

/** For sorting, the oldest first. */
export function compareAges(one: AgedBackup, other: AgedBackup): number {
  return ageText(one) < ageText(other) ? -1 : 1
}

function ageText({ id, createdMs = 0, revision = 0 }: AgedBackup): string {
  const [created, at] = [createdMs, revision].map((value) => String(value).padStart(16, '0'))
  return `${id.slice(0, SECOND_LENGTH)} ${created} ${at} ${id}`
}

export function isBackupId(text: string): boolean {
  return ID.test(text)
}

export function backupObjectName(id: string): string {
  return `${BACKUPS_PREFIX}${id}.json`
}

/** The id, if it is the name of a manifest. */
export function backupIdOf(objectName: string): string | undefined {
  const id = objectName.slice(BACKUPS_PREFIX.length).replace(/\.json$/, '')
  return isBackupId(id) && objectName === backupObjectName(id) ? id : undefined
}

export function encodeManifest(manifest: BackupManifest): Buffer {
  const { id, lineage, createdMs, revision, stateMs, newestSegment, objects } = manifest
  const fields = { format: FORMAT, id, lineage, createdMs, revision, stateMs, newestSegment, objects }
  return Buffer.from(`${JSON.stringify({ ...fields, crc: checksum(fields) })}\n`)
}

/** @throws DataLost when it is damaged, or of a format that this program does not know */
export function decodeManifest(bytes: Uint8Array, id: string): BackupManifest {
  let parsed: Record<string, unknown>
  try {
    parsed = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>
  } catch (cause) {
    throw damaged(id, (cause as Error).message)
  }
  const { crc, ...fields } = parsed
  if (crc !== checksum(fields)) throw damaged(id, 'its checksum is wrong')
  if (fields['format'] !== FORMAT) throw damaged(id, `this program does not know format ${String(fields['format'])}`)
  if (fields['id'] !== id) throw damaged(id, `it is that of backup ${String(fields['id'])}`)
  const { format: _, ...manifest } = fields
  return manifest as unknown as BackupManifest
}

function checksum(fields: Readonly<Record<string, unknown>>): string {
  return crc32(JSON.stringify(fields)).toString(16).padStart(8, '0')
}

function damaged(id: string, what: string): TidegateError {
  return new TidegateError('DataLost', `the manifest of backup ${id} cannot be used: ${what}`)
}
