/**
 * What happens to segments when a node starts. Metadata says which segments there should be, the directories say which
 * files there are; recovery makes them agree and loses nothing acknowledged:
 *
 * | file                      | metadata        | then                                                              |
 * |---------------------------|-----------------|-------------------------------------------------------------------|
 * | in the journal, sealed    | open or sealed  | marked sealed, queued for adoption                                |
 * | in the journal, unsealed  | open            | cut at the first torn frame, sealed, marked, queued               |
 * | in the journal, its footer there but not its pages | open | the same: the power failed while the footer was synced |
 * | in the journal, unsealed  | sealed or later | its tail is lost: reported byte range by byte range               |
 * | adopted                   | sealed          | the crash fell between rename and mark: marked persisted          |
 * | in both places            | any             | the crash fell into adoption: the journal's name is removed       |
 * | any                       | none            | orphan of an unpublished body: removed                            |
| any                       | another node's, who took it over and has no copy yet | becomes that copy (copies/ports.ts)  |
 * | adopted, names go there too | none          | left to the collector: a backup of a former holder may need it    |
 * | unfinished copy (`.part`) | any             | removed; adoption copies again                                    |
 * | none                      | any, live > 0   | reported as lost (C18: `memory` objects in it are removed, counted) |
 * | none                      | any, live = 0   | forgotten                                                         |
 *
 * Where segments are uploaded and not adopted, these differ:
 *
 * | in the journal            | persisted       | the crash fell between the mark and what becomes of the file: that is done now, live or not |
 * | none                      | persisted       | it lies in the remote store: nothing to do                        |
 */
import type { SegmentId } from '../common/ids.ts'
import { readFooter, type FoundSegment, type SegmentFiles } from './segment-files.ts'
import { pagesMatch, sealScanned } from './journal/scan.ts'
import type { FileSystem, IndexedSegment, SegmentIndex } from './ports.ts'

export interface RecoveryReport {
  segments: number
  /** Unsealed segments that were cut and sealed. */
  resealed: number
  /** Files of bodies that were never published. */
  orphansRemoved: number
  /** Objects written with ack `memory` whose bytes are gone (C18). */
  removedMemory: number
  /** Objects whose acknowledged bytes are gone: a disk broke its promise. Their reads answer DataLost. */
  lost: { bucket: string; key: string }[]
}

export interface RecoveryOptions {
  readonly fileSystem: FileSystem
  readonly files: SegmentFiles
  readonly index: SegmentIndex
  readonly pageBytes: number
  /** What "persisted" means: adopted by the local disk, or uploaded. */
  readonly carries: 'adopting' | 'uploading'
  /** Adopted files that metadata does not know: `kept` where backups may need them, which nobody has looked at yet. */
  readonly strangers: 'removed' | 'kept'
  /** Of a file that is none of this node's segments: whether another node wants it, and it has gone to where that one finds it (copies/ports.ts). */
  readonly keepsOfOther?: ((segment: SegmentId, path: string) => Promise<boolean>) | undefined
}

export interface Recovered {
  readonly report: RecoveryReport
  /** Sealed and not in the remote store yet. */
  readonly toPersist: readonly SegmentId[]
  /** Uploaded, and their files are still in the journal. */
  readonly uploaded: readonly SegmentId[]
  /** No live bytes: to be reclaimed. */
  readonly empty: readonly SegmentId[]
}

const PAGE_OF_SEGMENTS = 1000

export async function recover(options: RecoveryOptions): Promise<Recovered> {
  const report: RecoveryReport = { segments: 0, resealed: 0, orphansRemoved: 0, removedMemory: 0, lost: [] }
  const files = new Map<SegmentId, FoundSegment>()
  for (const path of await options.files.findPartial()) await options.fileSystem.remove(path)
  for (const found of await options.files.find()) {
    const twin = files.get(found.segment)
    if (twin) files.set(found.segment, await keepOne(options, twin, found))
    else files.set(found.segment, found)
  }
  const toPersist: SegmentId[] = []
  const uploaded: SegmentId[] = []
  const empty: SegmentId[] = []
  for await (const record of allSegments(options.index)) {
    report.segments++
    const found = files.get(record.segment)
    files.delete(record.segment)
    const isUploaded = options.carries === 'uploading' && record.state === 'persisted'
    // One that is empty too: it may have to stay in the remote store for long, and its file need not.
    if (isUploaded && found) uploaded.push(record.segment)
    if (record.liveBytes === 0) empty.push(record.segment)
    else if (isUploaded) continue
    else if (!found) await reportLost(options, report, record, 0)
    else if (found.place === 'adopted') await markAdopted(options, record)
    else {
      await sealJournaled(options, report, { record, path: found.path })
      toPersist.push(record.segment)
    }
  }
  for (const orphan of files.values()) {
    if (orphan.place === 'adopted' && options.strangers === 'kept') continue
    if (await options.keepsOfOther?.(orphan.segment, orphan.path)) continue
    await options.fileSystem.remove(orphan.path)
    report.orphansRemoved++
  }
  return { report, toPersist, uploaded, empty }
}

/** The adopted file was whole before it had its name; still, the other one goes only when this one is valid. */
async function keepOne(
  options: RecoveryOptions,
  journaled: FoundSegment,
  adopted: FoundSegment,
): Promise<FoundSegment> {
  const file = await options.fileSystem.open(adopted.path, 'read')
  try {
    const valid = await readFooter(file, adopted.segment)
    const [kept, removed] = valid ? [adopted, journaled] : [journaled, adopted]
    await options.fileSystem.remove(removed.path)
    return kept
  } finally {
    await file.close()
  }
}

async function* allSegments(index: SegmentIndex): AsyncGenerator<IndexedSegment> {
  let after: SegmentId | undefined
  for (;;) {
    const page = await index.segments(after, PAGE_OF_SEGMENTS)
    yield* page
    if (page.length < PAGE_OF_SEGMENTS) return
    after = page.at(-1)?.segment
  }
}

async function markAdopted(options: RecoveryOptions, record: IndexedSegment): Promise<void> {
  if (record.state === 'persisted') return
  let { bytes } = record
  if (record.state === 'open') {
    bytes = await options.files.use(record.segment, ({ footer }) => Promise.resolve(footer.dataBytes))
    await (
      await options.index.segmentChanged(record.segment, 'sealed', bytes)
    ).durable
  }
  await (
    await options.index.segmentChanged(record.segment, 'persisted', bytes)
  ).durable
}

async function sealJournaled(
  options: RecoveryOptions,
  report: RecoveryReport,
  { record, path }: { record: IndexedSegment; path: string },
): Promise<void> {
  const { fileSystem, files, index, pageBytes } = options
  const { segment } = record
  const file = await fileSystem.open(path, 'read')
  let dataBytes: number
  try {
    const footer = await readFooter(file, segment)
    // "open" says that the sync of the footer may not have ended: then it may have reached the disk before the bytes that
    // it vouches for.
    const trusted = footer && (record.state !== 'open' || (await pagesMatch(file, footer)))
    dataBytes = trusted ? footer.dataBytes : -1
  } finally {
    await file.close()
  }
  if (dataBytes < 0) {
    const target = { segment, path, directory: files.places.journal }
    dataBytes = (await sealScanned(fileSystem, target, { pageBytes })).dataBytes
    report.resealed++
    await reportLost(options, report, record, dataBytes)
  }
  if (record.state === 'open') await (await index.segmentChanged(segment, 'sealed', dataBytes)).durable
}

/** Everything that metadata says lies at or after `from` in this segment, and does not. */
async function reportLost(
  options: RecoveryOptions,
  report: RecoveryReport,
  record: IndexedSegment,
  from: number,
): Promise<void> {
  const { removedMemory, lost } = await options.index.bytesLost(record.segment, from, Number.MAX_SAFE_INTEGER)
  report.removedMemory += removedMemory
  report.lost.push(...lost)
}
