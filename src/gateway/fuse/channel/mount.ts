/** Mounting, with whichever twin there is. */
import { stat } from 'node:fs/promises'
import { TidegateError } from '../../../common/errors.ts'
import { loadAddon } from './addon.ts'
import { cloneByAddon, mountByAddon } from './addon-channel.ts'
import { deviceErrorFrom } from './device-errors.ts'
import { checkMountName } from './mount-options.ts'
import { resolveMountPoint } from './mount-table.ts'
import { mountByNode } from './node-channel.ts'
import type { ChannelOptions, FuseChannel, MountOptions } from './ports.ts'

/**
 * Mounts; nothing is answered before `start`, and the kernel's first request, INIT, waits for that.
 * @throws InvalidArgument for the mount point or the name; Unavailable, with the errno where there is one, when the system
 *   refuses
 */
export async function mountFuse(options: MountOptions): Promise<FuseChannel> {
  checkMountName(options.name)
  const mountPoint = await resolveMountPoint(options.mountPoint)
  await checkDirectory(mountPoint)
  if (options.twin === 'node') return mountByNode(mountPoint, options)
  const { addon, reason } = await loadAddon()
  if (addon !== undefined) return mountByAddon(addon, mountPoint, options)
  if (options.twin === 'addon') throw new TidegateError('Unavailable', `no native addon: ${reason}`)
  return mountByNode(mountPoint, options)
}

/**
 * A second channel on a mount of this process, with a descriptor and slots of its own (FUSE_DEV_IOC_CLONE), so that another
 * thread shares the work. Each replies to what it was delivered. Addon only.
 */
export async function cloneChannel(
  original: Pick<FuseChannel, 'mountPoint' | 'descriptor'>,
  options: ChannelOptions,
): Promise<FuseChannel> {
  const { addon, reason } = await loadAddon()
  if (addon === undefined) throw new TidegateError('Unavailable', `no native addon: ${reason}`)
  return cloneByAddon(addon, original, options)
}

async function checkDirectory(path: string): Promise<void> {
  let isDirectory: boolean
  try {
    isDirectory = (await stat(path)).isDirectory()
  } catch (error) {
    throw deviceErrorFrom(`mount point ${path}`, error, 'InvalidArgument')
  }
  if (!isDirectory) throw new TidegateError('InvalidArgument', `mount point ${path} is not a directory`)
}
