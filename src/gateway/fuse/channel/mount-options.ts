/** What mount(2) is told of a FUSE mount (Linux, fs/fuse/inode.c: fuse_fs_parameters). */
import { TidegateError } from '../../../common/errors.ts'
import type { MountOptions } from './ports.ts'

/** The root is a directory, in octal as the kernel parses it. */
const ROOT_MODE = '40000'

export function kernelMountOptions(descriptor: number, options: MountOptions): string {
  return [
    `fd=${descriptor}`,
    `rootmode=${ROOT_MODE}`,
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
  ].join(',')
}

/** It stands between commas in options, and unquoted in mountinfo. */
export function checkMountName(name: string): void {
  if (/^[\w.:-]{1,64}$/.test(name)) return
  throw new TidegateError('InvalidArgument', `mount name ${JSON.stringify(name)}: letters, digits, ".", "_", ":", "-"`)
}
