/**
 * The first file system of a guest, which only finds the real one: an archive in the "new ASCII format" of cpio
 * (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
 */
export interface ArchiveEntry {
  /** Without a leading slash; behind the directory it lies in. */
  readonly path: string
  /** A directory has none. */
  readonly content?: Uint8Array
}

const DIRECTORY = 0o040_755
/** Everybody may run it. */
const FILE = 0o100_755
const ALIGNMENT = 4
const END = 'TRAILER!!!'

export function archive(entries: readonly ArchiveEntry[]): Buffer {
  const parts = entries.flatMap(({ path, content }, index) =>
    record(path, { inode: index + 1, mode: content === undefined ? DIRECTORY : FILE, content: content ?? EMPTY }),
  )
  return Buffer.concat([...parts, ...record(END, { inode: 0, mode: 0, content: EMPTY })])
}

const EMPTY = new Uint8Array()

function record(path: string, facts: { inode: number; mode: number; content: Uint8Array }): Uint8Array[] {
  const { inode, mode, content } = facts
  const name = Buffer.from(`${path}\0`)
  // Inode, mode, owner, group, links, time, size, two numbers each of the device it lies on and of the one it is, length of the name, check.
  const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0]
  const header = Buffer.from(`070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`)
  return [header, name, padding(header.length + name.length), content, padding(content.length)]
}

function padding(bytes: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT)
}
