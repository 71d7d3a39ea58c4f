/** The connection itself, and what this file system does not have. */
import { ERRNO, FuseError } from '../protocol/errno.ts'
import { FUSE_WRITE_BYTES_MAX, negotiateInit } from '../protocol/init.ts'
import { unreachable } from '../../../common/assert.ts'
import type { Operations } from './operation.ts'

/** How far the kernel reads ahead of sequential readers, where it lets us say so. */
export const READ_AHEAD_BYTES: number = 4 * 1024 * 1024

export const CONNECTION_OPERATIONS: Operations<'INIT' | 'DESTROY' | 'SYNCFS' | 'POLL' | 'IOCTL'> = {
  INIT(request, mount) {
    const { header } = request
    const outcome = negotiateInit(request, {
      // The kernel would own size and times, and overwrite what the other doors do.
      writebackCache: false,
      writeBytesMax: FUSE_WRITE_BYTES_MAX,
      readaheadBytesMax: READ_AHEAD_BYTES,
    })
    switch (outcome.kind) {
      case 'accepted':
        mount.answers.send(header, (encoder, unique) => encoder.init(unique, outcome))
        mount.log.debug({ minorVersion: outcome.minorVersion, flags: [...outcome.flags] }, 'the mount speaks FUSE 7')
        return mount.onInit()
      case 'other-major':
        mount.answers.send(header, (encoder, unique) => encoder.initMajorOnly(unique))
        return
      case 'refused':
        mount.log.error({ reason: outcome.reason }, 'the kernel is too old for the mount')
        mount.answers.error(header, ERRNO.EPROTO)
        return
      default:
        return unreachable(outcome, 'outcome of INIT')
    }
  },

  DESTROY({ header }, mount) {
    mount.answers.done(header)
  },

  // What sync(1) asks of file systems on block devices; the kernel does not send it to others.
  SYNCFS() {
    throw new FuseError('ENOSYS')
  },

  // Files are always ready, as the kernel says by itself after this.
  POLL() {
    throw new FuseError('ENOSYS')
  },

  IOCTL() {
    throw new FuseError('ENOTTY')
  },
}
