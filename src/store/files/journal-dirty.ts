/**
 * Carries what was written to files from memory to the journal: before a publish, which names it, or under pressure, to free the
 * memory. Sources that lie one after the other in the file become one body, up to `sharedBodyBytesMax`.
 */
import { crc32 } from 'node:zlib'
import { encodeLabel } from '../bodies.ts'
import { UnpublishedBody, type DirtySource } from './dirty-bytes.ts'
import type { FilesParts } from './file-parts.ts'
import type { FilePlace, OpenFile } from './open-file.ts'
import type { Overlay } from './overlay.ts'

/** Of a file that was unlinked before it was ever published: its bytes go with its last handle. */
const NOWHERE: FilePlace = { bucket: '', key: '' }

export class DirtyJournal {
  readonly #parts: Pick<FilesParts, 'metadata' | 'journal' | 'limits'>

  constructor(parts: Pick<FilesParts, 'metadata' | 'journal' | 'limits'>) {
    this.#parts = parts
  }

  /**
   * Journals all that the overlay holds in memory when its turn comes. What fails stays in memory.
   * @throws SlowDown, StorageFull, Unavailable
   */
  carry(file: OpenFile, overlay: Overlay): Promise<void> {
    return file.journalNext(async () => {
      const batches = this.#batches(file, overlay)
      for (const batch of batches) for (const source of batch) source.freeze()
      try {
        for (const batch of batches) await this.#append(file, batch)
      } finally {
        for (const batch of batches) for (const source of batch) if (source.frozen) source.thaw()
      }
    })
  }

  #batches(file: OpenFile, overlay: Overlay): DirtySource[][] {
    const batches: DirtySource[][] = []
    let [bytes, end] = [0, -1]
    for (const { source, entry } of file.unjournaled(overlay)) {
      const batch = batches.at(-1)
      if (batch && entry.offset === end && bytes + source.used <= this.#parts.limits.sharedBodyBytesMax) {
        batch.push(source)
        bytes += source.used
      } else {
        batches.push([source])
        bytes = source.used
      }
      end = entry.offset + entry.length
    }
    return batches
  }

  async #append(file: OpenFile, batch: readonly DirtySource[]): Promise<void> {
    const { metadata, journal } = this.#parts
    const place = (await metadata.keyOf(file.inode)) ?? file.place ?? NOWHERE
    file.place = place
    const content = await metadata.allocateContentId()
    const pieces = batch.map((source) => source.bytes(0, source.used))
    let [length, bodyCrc] = [0, 0]
    for (const piece of pieces) {
      length += piece.length
      bodyCrc = crc32(piece, bodyCrc)
    }
    const label = encodeLabel(place)
    const body = new UnpublishedBody(await journal.append({ content, label, pieces, length, bodyCrc }))
    body.hold()
    let offset = 0
    for (const source of batch) {
      const { used } = source
      source.journaledAt({ body, offset })
      offset += used
    }
    body.letGo()
  }
}
