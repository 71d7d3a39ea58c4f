/** A sealed segment, footer and all, to a partner that has none of it, or not all. */
import { crc32 } from '../../common/crc32.ts'
import { TidegateError } from '../../common/errors.ts'
import type { SegmentId } from '../../common/ids.ts'
import type { NodeCalls } from '../../common/node-calls.ts'
import type { SealedSegment, SegmentFiles } from '../segment-files.ts'
import { CopySender } from './sender.ts'

const CHUNK_BYTES = 2 * 1024 * 1024
const CHUNKS_IN_FLIGHT = 4

/** Resolves when the node has it whole and durably. @throws Unavailable, StorageFull; DataLost when the file here is not what its footer says */
export async function sendFile(
  { calls, files }: { readonly calls: Pick<NodeCalls, 'call'>; readonly files: SegmentFiles },
  segment: SegmentId,
  node: number,
): Promise<void> {
  await files.use(segment, async (sealed) => {
    let failure: unknown
    const onFailure = (error: unknown): void => {
      failure ??= error
    }
    const sender = new CopySender({ calls, node, segment, mode: 'whole', onFailure })
    await sender.open()
    try {
      const footer = await sendData(sealed, sender)
      if (!(await sender.seal(footer))) throw failed(segment, node, failure)
    } finally {
      await sender.abandon()
    }
  })
}

/** Returns the footer. Pages are checked on the way: what is bad here must not become a second bad copy. */
async function sendData({ file, footer }: SealedSegment, sender: CopySender): Promise<Uint8Array> {
  const { dataBytes, pageBytes, pageCrcs, segment } = footer
  const chunkBytes = Math.max(pageBytes, CHUNK_BYTES - (CHUNK_BYTES % pageBytes))
  const inFlight = new Set<Promise<void>>()
  for (let position = 0; position < dataBytes && !sender.failed; position += chunkBytes) {
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, dataBytes - position))
    const got = await file.read(chunk, position)
    const isGood = got === chunk.length && pagesAre(chunk, pageBytes, pageCrcs.subarray(position / pageBytes))
    if (!isGood) throw new TidegateError('DataLost', `segment ${segment} fails its checksum`, { details: { segment } })
    const arrived: Promise<void> = sender.write([chunk]).then(() => void inFlight.delete(arrived))
    inFlight.add(arrived)
    if (inFlight.size >= CHUNKS_IN_FLIGHT) await Promise.race(inFlight)
  }
  const rest = Buffer.alloc((await file.size()) - dataBytes)
  await file.read(rest, dataBytes)
  return rest
}

function pagesAre(chunk: Uint8Array, pageBytes: number, crcs: Uint32Array): boolean {
  for (let page = 0; page * pageBytes < chunk.length; page++) {
    if (crc32(chunk.subarray(page * pageBytes, (page + 1) * pageBytes)) !== crcs[page]) return false
  }
  return true
}

function failed(segment: SegmentId, node: number, cause: unknown): unknown {
  if (cause instanceof TidegateError) return cause
  return new TidegateError('Unavailable', `node ${node} did not take segment ${segment}`, { details: { node }, cause })
}
