/**
 * Which of our mounts there are, by /proc/self/mountinfo (proc(5)), and cleaning away those whose server has died.
 *
 * A line is `id parent major:minor root mount-point options [optional fields] - type source super-options`, with octal
 * escapes for space, tab, line feed and backslash.
 */
import { readFile, realpath, statfs, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { deviceErrorFrom, errnoOf, programError } from './device-errors.ts'
import { runProgram } from './run-program.ts'

/** As the kernel shows it: file system type and our subtype. */
export const FILE_SYSTEM_TYPE = 'fuse.tidegate'

/** How long a mount may take to say whether it lives. */
const ANSWER_TIMEOUT_MS = 2_000

export interface MountEntry {
  readonly mountPoint: string
  readonly type: string
  readonly source: string
  /** `major:minor`; names the bdi, and `minor` the connection under /sys/fs/fuse. */
  readonly device: string
}

export function parseMountInfo(text: string): MountEntry[] {
  return text.split('\n').flatMap((line) => {
    const [before, after] = line.split(' - ', 2)
    const [, , device, , mountPoint] = before?.split(' ') ?? []
    const [type, source] = after?.split(' ') ?? []
    if (device === undefined || mountPoint === undefined || type === undefined) return []
    return [{ mountPoint: unescapeOctal(mountPoint), type, source: unescapeOctal(source ?? ''), device }]
  })
}

function unescapeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** The mounts of Tidegate, in the order in which they were made. */
export async function tidegateMounts(): Promise<MountEntry[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8')
  return parseMountInfo(text).filter(({ type }) => type === FILE_SYSTEM_TYPE)
}

/** The topmost of our mounts at this place, if there is one. `path` without symbolic links. */
export async function findMount(path: string): Promise<MountEntry | undefined> {
  return (await tidegateMounts()).findLast(({ mountPoint }) => mountPoint === path)
}

/** The path without symbolic links, also where its last part is a dead mount, which cannot be asked. */
export async function resolveMountPoint(path: string): Promise<string> {
  const absolute = resolve(path)
  try {
    return await realpath(absolute)
  } catch (error) {
    if (errnoOf(error) !== constants.errno.ENOTCONN)
      throw deviceErrorFrom(`mount point ${path}`, error, 'InvalidArgument')
    return join(await realpath(dirname(absolute)), basename(absolute))
  }
}

/**
 * Whether the server of the mount there has died. It asks by statfs, because that is never answered from the kernel's
 * caches. A mount that does not answer in time is somebody's, and alive.
 */
export async function isDeadMount(path: string): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<boolean>((settle) => {
    timer = setTimeout(settle, ANSWER_TIMEOUT_MS, false)
  })
  const answer = statfs(path).then(
    () => false,
    (error: unknown) => {
      const errno = errnoOf(error)
      return errno === constants.errno.ENOTCONN || errno === constants.errno.ECONNABORTED
    },
  )
  try {
    return await Promise.race([answer, silence])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Takes a dead mount of ours away, so that the place can be mounted on again. Lazily, since programs may still stand in it.
 * @returns whether there was one
 * @throws Unavailable when it cannot be taken away
 */
export async function cleanDeadMount(path: string): Promise<boolean> {
  let place: string
  try {
    place = await resolveMountPoint(path)
  } catch {
    return false
  }
  let hasCleaned = false
  // After a crash loop several may lie on top of each other.
  while ((await findMount(place)) !== undefined && (await isDeadMount(place))) {
    await unmountByProgram(place, { lazy: true, force: true })
    hasCleaned = true
  }
  return hasCleaned
}

/**
 * By umount(8) as root and fusermount3 as anybody else. `force` (root) also ends the connection first, and with it the waiting
 * of a killed server's threads.
 */
export async function unmountByProgram(
  mountPoint: string,
  options: { readonly lazy: boolean; readonly force?: boolean },
): Promise<void> {
  const isRoot = process.geteuid?.() === 0
  const [program, ...args] = isRoot
    ? ['umount', '-i', '-c', ...(options.force === true ? ['-f'] : []), ...(options.lazy ? ['-l'] : [])]
    : ['fusermount3', '-u', ...(options.lazy ? ['-z'] : [])]
  const result = await runProgram(program ?? '', [...args, '--', mountPoint])
  if (result.code === 0 || (await findMount(mountPoint)) === undefined) return
  throw programError(`${program} ${mountPoint}`, result.message)
}

/** Whether it was set: only root may, and a container may have no /sys to write. */
export async function setReadAheadKib(device: string, kib: number): Promise<boolean> {
  try {
    await writeFile(`/sys/class/bdi/${device}/read_ahead_kb`, String(kib))
    return true
  } catch {
    return false
  }
}
