/**
 * The directory of the disk level:
 *
 *   <queue>-<sequence>.pack            blocks of any segments (pack-format.ts)
 *   <queue>-<sequence>-<segment>.seg   a whole segment, renamed from the journal as it was
 *
 * `queue` is small or main (disk-queues.ts), `sequence` 12 digits, the first a zero, larger in younger files. So the names alone give the order of
 * eviction, and the tables at the files' ends what is in them: there is no index to be lost, to be torn or to be older than what it tells of.
 * What does not read as one of these files and bears such a name is removed; other names are left alone.
 */
import { isSegmentId, type SegmentId } from '../../common/ids.ts'
import type { CacheFile, CacheFileSystem, SealedBytes } from '../ports.ts'
import type { QueueName } from './disk-queues.ts'
import {
  aligned,
  decodePackFooter,
  decodeRecord,
  footerBytesOf,
  isPackHeader,
  PACK_HEADER_BYTES,
  PACK_TRAILER_BYTES,
  recordBytes,
  type PackGeometry,
  type PackRecord,
} from './pack-format.ts'

const NAME = /^(small|main)-(0\d{11})(?:\.pack|-([0-9a-f]{32})\.seg)$/
const SPACE_UNIT_BYTES = 4096

export interface FileName {
  readonly queue: QueueName
  readonly sequence: number
  /** Undefined: a pack. */
  readonly segment: SegmentId | undefined
}

export function fileName({ queue, sequence, segment }: FileName): string {
  const prefix = `${queue}-${String(sequence).padStart(12, '0')}`
  return segment === undefined ? `${prefix}.pack` : `${prefix}-${segment}.seg`
}

export function parseFileName(name: string): FileName | undefined {
  const match = NAME.exec(name)
  if (!match) return undefined
  const segment = match[3]
  if (segment !== undefined && !isSegmentId(segment)) return undefined
  return { queue: match[1] as QueueName, sequence: Number(match[2]), segment }
}

/** What a file of this length takes on disk. */
export function spaceOf(bytes: number): number {
  return Math.ceil(bytes / SPACE_UNIT_BYTES) * SPACE_UNIT_BYTES
}

export type FoundFile = FileName & {
  readonly path: string
  readonly bytes: number
  readonly content: readonly PackRecord[] | SealedBytes
}

export interface FindOptions {
  readonly fileSystem: CacheFileSystem
  readonly directory: string
  readonly geometry: PackGeometry
  readonly readFooter: (path: string, segment: SegmentId) => Promise<SealedBytes | undefined>
}

/** Files read at a time, so that many of them are found in little time and the pool's other users get their turn. */
const READ_AT_ONCE = 4
/** Of a pack's end: the footer of one full of whole blocks is in it. */
const TAIL_BYTES = 8192

/** What lies in the directory, oldest first; removes what is of no use. */
export async function* findFiles(options: FindOptions): AsyncIterable<FoundFile> {
  const { fileSystem, directory } = options
  const names = (await fileSystem.list(directory))
    .map((name) => ({ name, parsed: parseFileName(name) }))
    .filter((one): one is { name: string; parsed: FileName } => one.parsed !== undefined)
    .toSorted((a, b) => a.parsed.sequence - b.parsed.sequence)
  for (let at = 0; at < names.length; at += READ_AT_ONCE) {
    const batch = names.slice(at, at + READ_AT_ONCE).map(async ({ name, parsed }) => {
      const path = `${directory}/${name}`
      // Whatever is wrong with it, it is one cached file less.
      const found = await readOne(options, path, parsed).catch(() => undefined)
      if (!found) await fileSystem.remove(path).catch(() => undefined)
      return found
    })
    for (const found of await Promise.all(batch)) if (found) yield found
  }
}

async function readOne(options: FindOptions, path: string, name: FileName): Promise<FoundFile | undefined> {
  const file = await options.fileSystem.open(path, 'read')
  try {
    const bytes = await file.size()
    const content =
      name.segment === undefined
        ? await readPack(file, bytes, options.geometry)
        : await readSegment(options, path, name.segment)
    return content && { ...name, path, bytes, content }
  } finally {
    await file.close()
  }
}

async function readSegment(
  { readFooter, geometry }: FindOptions,
  path: string,
  segment: SegmentId,
): Promise<SealedBytes | undefined> {
  const sealed = await readFooter(path, segment)
  return sealed && fitsGeometry(sealed, geometry) ? sealed : undefined
}

/** Whether its blocks can be told apart and checked. */
export function fitsGeometry({ dataBytes, pageBytes, pageCrcs }: SealedBytes, { blockBytes }: PackGeometry): boolean {
  if (!(dataBytes > 0 && pageBytes > 0) || blockBytes % pageBytes !== 0) return false
  return pageCrcs.length === Math.ceil(dataBytes / pageBytes)
}

/** Undefined when nothing in it is of use. */
async function readPack(file: CacheFile, bytes: number, geometry: PackGeometry): Promise<PackRecord[] | undefined> {
  const header = await readAt(file, 0, PACK_HEADER_BYTES)
  if (!isPackHeader(geometry, header)) return undefined
  const records = (await readPackFooter(file, bytes, geometry)) ?? (await scanPack(file, bytes, geometry))
  return records.length > 0 ? records : undefined
}

async function readPackFooter(
  file: CacheFile,
  bytes: number,
  geometry: PackGeometry,
): Promise<PackRecord[] | undefined> {
  const tailBytes = Math.min(bytes, TAIL_BYTES)
  const tail = await readAt(file, bytes - tailBytes, tailBytes)
  const footerBytes = footerBytesOf(geometry, tail.subarray(-PACK_TRAILER_BYTES), bytes)
  if (footerBytes === undefined) return undefined
  const footer =
    footerBytes <= tailBytes ? tail.subarray(-footerBytes) : await readAt(file, bytes - footerBytes, footerBytes)
  return decodePackFooter(geometry, footer, bytes)
}

/** The records of a pack that was never finished. */
async function scanPack(file: CacheFile, bytes: number, geometry: PackGeometry): Promise<PackRecord[]> {
  const records: PackRecord[] = []
  const size = recordBytes(geometry)
  for (let at = PACK_HEADER_BYTES; at + size < bytes;) {
    const record = decodeRecord(geometry, await readAt(file, at, size), at)
    if (!record || record.position + record.length > bytes) break
    records.push(record)
    at = aligned(record.position + record.length)
  }
  return records
}

/** Zeros where the file ends. */
async function readAt(file: CacheFile, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  await file.read(bytes, position)
  return bytes
}
