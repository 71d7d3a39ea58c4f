/**
 * Carries what was written to files from memory to the journal: before a publish, which names it, or under pressure, to free the
 * memory. Sources that lie one after the other in the file become one body, up to `sharedBodyBytesMax`.
 */
import { crc32 } from 'node:zlib'
import { encodeLabel } from '../labels.ts'
import { UnpublishedBody, type DirtySource } from './dirty-bytes.ts'
import type { FilesParts } from './file-parts.ts'
import type { FilePlace, OpenFile } from './open-file.ts'
import type { Overlay } from './overlay.ts'

/** Of a file that was unlinked before it was ever published: its bytes go with its last handle. */
const NOWHERE: FilePlace = { bucket: '', key: '' }

/** Sources that lie one after the other, and where in the file the first begins. */
interface Batch {
  readonly sources: DirtySource[]
  readonly offset: number
}

export class DirtyJournal {
  readonly #parts: Pick<FilesParts, 'metadata' | 'journal' | 'limits' | 'clock'>

  constructor(parts: Pick<FilesParts, 'metadata' | 'journal' | 'limits' | 'clock'>) {
    this.#parts = parts
  }

  /**
   * Journals all that the overlay holds in memory when its turn comes. What fails stays in memory.
   * `copied`: to where another node has it too. @throws SlowDown, StorageFull, Unavailable
   */
  carry(file: OpenFile, overlay: Overlay, options = { copied: false }): Promise<void> {
    return file.journalNext(async () => {
      const batches = this.#batches(file, overlay)
      for (const { sources } of batches) for (const source of sources) source.freeze()
      try {
        for (const batch of batches) await this.#append(file, batch, options)
      } finally {
        for (const { sources } of batches) for (const source of sources) if (source.frozen) source.thaw()
      }
    })
  }

  #batches(file: OpenFile, overlay: Overlay): Batch[] {
    const batches: Batch[] = []
    let [bytes, end] = [0, -1]
    for (const { source, begins } of sourcesInOrder(file, overlay)) {
      const batch = batches.at(-1)
      if (batch && begins === end && bytes + source.used <= this.#parts.limits.sharedBodyBytesMax) {
        batch.sources.push(source)
        bytes += source.used
      } else {
        batches.push({ sources: [source], offset: begins })
        bytes = source.used
      }
      end = begins + source.used
    }
    return batches
  }

  async #append(
    file: OpenFile,
    { sources, offset: begins }: Batch,
    options: { readonly copied: boolean },
  ): Promise<void> {
    const { metadata, journal, clock } = this.#parts
    const place = (await metadata.keyOf(file.inode)) ?? file.place ?? NOWHERE
    file.place = place
    const content = await metadata.allocateContentId()
    const pieces = sources.map((source) => source.bytes(0, source.used))
    let [length, bodyCrc] = [0, 0]
    for (const piece of pieces) {
      length += piece.length
      bodyCrc = crc32(piece, bodyCrc)
    }
    const written = { inode: file.inode, offset: begins }
    const label = encodeLabel({ ...place, modifiedMs: clock.nowMs(), file: written })
    const body = new UnpublishedBody(await journal.append({ content, label, pieces, length, bodyCrc }, options))
    body.hold()
    let offset = 0
    for (const source of sources) {
      const { used } = source
      source.journaledAt({ body, offset })
      offset += used
    }
    body.letGo()
  }
}

/** Where each would begin in the file if all of it showed: what was written over since shows from somewhere else. */
function* sourcesInOrder(file: OpenFile, overlay: Overlay): Generator<{ source: DirtySource; begins: number }> {
  for (const { source, entry } of file.unjournaled(overlay)) yield { source, begins: entry.offset - entry.sourceOffset }
}
