/**
 * Reads an unsealed segment file frame by frame, as far as it is valid, and seals what is valid: after a crash, or after
 * a write failed. A torn tail is cut at the first frame that does not check.
 */
import { crc32 } from '../../common/crc32.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { FileSystem, OpenFile, SegmentBody } from '../ports.ts'
import { alignFrame, decodeFrame, encodeFooter, FRAME_BYTES, type Footer } from './format.ts'

export interface ScannedSegment {
  readonly bodies: readonly SegmentBody[]
  /** Bytes of the data region that are valid. */
  readonly dataBytes: number
}

const CHUNK_BYTES = 1024 * 1024

/** `cutAt`: no byte from there on is trusted, whatever its checksum says (a sync of it has failed). */
export async function scanFrames(file: OpenFile, segment: SegmentId, cutAt = Infinity): Promise<ScannedSegment> {
  const fileBytes = Math.min(await file.size(), cutAt)
  const bodies: SegmentBody[] = []
  const header = Buffer.alloc(FRAME_BYTES)
  let dataBytes = 0
  for (;;) {
    const start = alignFrame(dataBytes)
    if (start + FRAME_BYTES > fileBytes) break
    await file.read(header, start)
    const frame = decodeFrame(segment, header)
    if (!frame) break
    const offset = start + FRAME_BYTES + frame.labelBytes
    const end = offset + frame.bodyBytes
    if (end > fileBytes) break
    const label = Buffer.alloc(frame.labelBytes)
    await file.read(label, start + FRAME_BYTES)
    if (crc32(label) !== frame.labelCrc) break
    if ((await checksumRange(file, offset, frame.bodyBytes)) !== frame.bodyCrc) break
    bodies.push({ content: frame.content, offset, length: frame.bodyBytes, label: label.toString('utf8') })
    dataBytes = end
  }
  return { bodies, dataBytes }
}

async function checksumRange(file: OpenFile, from: number, length: number): Promise<number> {
  const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, length))
  let crc = 0
  for (let done = 0; done < length; done += chunk.length) {
    const part = chunk.subarray(0, Math.min(chunk.length, length - done))
    await file.read(part, from + done)
    crc = crc32(part, crc)
  }
  return crc
}

/** Whether every page of the data region is what the footer says. */
export async function pagesMatch(file: OpenFile, footer: Footer): Promise<boolean> {
  const { pageBytes, dataBytes, pageCrcs } = footer
  for (const [page, crc] of pageCrcs.entries()) {
    const start = page * pageBytes
    if ((await checksumRange(file, start, Math.min(pageBytes, dataBytes - start))) !== crc) return false
  }
  return true
}

/** Cuts what is not valid, appends the footer and syncs file and directory. Returns what was found. */
export async function sealScanned(
  fileSystem: FileSystem,
  target: { segment: SegmentId; path: string; directory: string },
  options: { pageBytes: number; cutAt?: number },
): Promise<ScannedSegment> {
  const { segment, path, directory } = target
  const file = await fileSystem.open(path, 'write')
  try {
    const scanned = await scanFrames(file, segment, options.cutAt)
    await file.truncate(scanned.dataBytes)
    const pageCrcs = new Uint32Array(Math.ceil(scanned.dataBytes / options.pageBytes))
    for (let page = 0; page < pageCrcs.length; page++) {
      const start = page * options.pageBytes
      pageCrcs[page] = await checksumRange(file, start, Math.min(options.pageBytes, scanned.dataBytes - start))
    }
    const { dataBytes, bodies } = scanned
    await file.write(encodeFooter({ segment, dataBytes, pageBytes: options.pageBytes, pageCrcs, bodies }), dataBytes)
    await file.sync()
    await fileSystem.syncDirectory(directory)
    return scanned
  } finally {
    await file.close()
  }
}
