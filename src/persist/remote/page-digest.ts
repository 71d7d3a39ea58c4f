/** The CRC-32 of a range of a file from those of its pages, without reading it. */
import { combineFullObject } from '../../common/checksums.ts'
import { crc32Text, type FileRange, type FileSender } from './file-sender.ts'
import type { LocalFile } from './ports.ts'

/** In base64; undefined where pages and range do not fit. Only what follows the pages, a segment's footer, is read. */
export async function crc32OfPages(
  sender: FileSender,
  range: FileRange & { readonly pages?: LocalFile['pages'] },
): Promise<string | undefined> {
  const { pages, offset, bytes } = range
  if (!pages) return undefined
  const { dataBytes, pageBytes, pageCrcs } = pages
  const end = Math.max(offset, Math.min(offset + bytes, dataBytes))
  const isWhole = offset % pageBytes === 0 && (end % pageBytes === 0 || end === dataBytes)
  if (!isWhole && end > offset) return undefined
  const pieces: { value: string; length: number }[] = []
  for (let at = offset; at < end; at += pageBytes) {
    const crc = pageCrcs[at / pageBytes]
    if (crc === undefined) return undefined
    pieces.push({ value: crc32Text(crc), length: Math.min(pageBytes, end - at) })
  }
  const rest = { ...range, offset: end, bytes: offset + bytes - end }
  if (rest.bytes > 0) pieces.push({ value: await sender.digest(rest, 'crc32'), length: rest.bytes })
  return pieces.length === 0 ? undefined : combineFullObject('CRC32', pieces)
}
