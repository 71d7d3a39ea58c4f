/**
 * COPY_FILE_RANGE: what is worth it goes by reference, the rest is copied inside the server; holes become holes. The store copies as
 * much as one call well may and says how much that was; copy_file_range(2) lets callers go on from there.
 */
import type { CopyFileRangeRequest } from '../protocol/requests.ts'
import type { MountState, Operations } from './operation.ts'

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

function copyRange(request: CopyFileRangeRequest, mount: MountState): Promise<number> {
  const { handle, offset, targetHandle, targetOffset, lengthBytes } = request
  return mount.files.copyRange({ handle, offset }, { handle: targetHandle, offset: targetOffset }, lengthBytes)
}
