/**
 * Mounting by fusermount3, which is setuid root, so that ordinary users can. It opens the device, mounts, and sends us the
 * descriptor over a socket whose number it finds in _FUSE_COMMFD (as libfuse does).
 *
 * Without its `auto_unmount`: that keeps a process of it alive as long as we are and forces other options; a dead mount
 * is cleaned at the next start instead.
 */
import { TidegateError } from '../../../common/errors.ts'
import type { FuseAddon, NativeDevice } from './addon.ts'
import { deviceError, programError } from './device-errors.ts'
import type { MountOptions } from './ports.ts'
import { runProgram } from './run-program.ts'

export async function mountByFusermount(
  addon: FuseAddon,
  mountPoint: string,
  options: MountOptions,
): Promise<NativeDevice> {
  const pair = addon.openSocketPair()
  if (typeof pair === 'number') throw deviceError('socket for fusermount3', -pair)
  const [ours, theirs] = pair
  try {
    const result = await runProgram('fusermount3', ['-o', fusermountOptions(options), '--', mountPoint], {
      descriptor: theirs,
      env: { _FUSE_COMMFD: '3' },
    })
    if (result.code === 127) {
      throw new TidegateError(
        'Unavailable',
        'ordinary users mount by fusermount3, which is not here (Debian: apt install fuse3)',
      )
    }
    if (result.code !== 0) throw programError(`fusermount3 ${mountPoint}`, result.message)
    const device = addon.receiveDevice(ours)
    if (typeof device === 'number') throw deviceError(`descriptor from fusermount3 for ${mountPoint}`, -device)
    return device
  } finally {
    addon.closeDescriptor(ours)
    addon.closeDescriptor(theirs)
  }
}

function fusermountOptions(options: MountOptions): string {
  return [
    `fsname=${options.name}`,
    'subtype=tidegate',
    'nosuid',
    'nodev',
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
  ].join(',')
}
