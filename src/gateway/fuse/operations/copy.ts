/**
 * COPY_FILE_RANGE inside the server: bytes do not travel to the caller and back. What is a hole in the source becomes one in the target.
 * At most COPY_BYTES_MAX a request, so that each is answered in time; copy_file_range(2) lets callers go on from there.
 */
import { assert } from '../../../common/assert.ts'
import type { CopyFileRangeRequest } from '../protocol/requests.ts'
import { viewOf } from './data.ts'
import type { MountState, Operations } from './operation.ts'

const COPY_BYTES_MAX = 16 * 1024 * 1024
/** What one write to the store may carry. */
const STEP_BYTES = 1024 * 1024

export const COPY_OPERATIONS: Operations<'COPY_FILE_RANGE' | 'COPY_FILE_RANGE_64'> = {
  async COPY_FILE_RANGE(request, mount) {
    const copied = await copyRange(request, mount)
    mount.answers.send(request.header, (encoder, unique) => encoder.written(unique, copied))
  },

  async COPY_FILE_RANGE_64(request, mount) {
    const copied = await copyRange(request, mount)
    mount.answers.send(request.header, (encoder, unique) => encoder.copied(unique, copied))
  },
}

async function copyRange(request: CopyFileRangeRequest, mount: MountState): Promise<number> {
  const { offset, targetOffset } = request
  const wanted = Math.min(request.lengthBytes, COPY_BYTES_MAX)
  let copied = 0
  while (copied < wanted) {
    const length = Math.min(STEP_BYTES, wanted - copied)
    const step = await copyStep(request, mount, {
      from: offset + copied,
      to: targetOffset + copied,
      length,
    })
    copied += step
    if (step < length) break
  }
  return copied
}

async function copyStep(
  { handle, targetHandle }: CopyFileRangeRequest,
  mount: MountState,
  { from, to, length }: { from: number; to: number; length: number },
): Promise<number> {
  const pieces = await mount.files.read(handle, from, length)
  let done = 0
  try {
    for (const piece of pieces) {
      if (piece.kind === 'hole') {
        const range = { offset: to + done, length: piece.length }
        await mount.files.allocate(targetHandle, range, { kind: 'zero', keepSize: false })
        done += piece.length
      } else {
        const view = viewOf(mount, piece)
        await mount.files.write(targetHandle, to + done, view, false)
        done += view.length
      }
    }
  } finally {
    for (const piece of pieces) if (piece.kind === 'slab') mount.reading.release(piece.lease)
  }
  assert(done <= length, `${done} bytes read where ${length} were asked for`)
  return done
}
