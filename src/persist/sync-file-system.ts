/**
 * The FileSystem port by blocking calls, for threads that have nothing else to do (C24): a call returns when the kernel
 * has done it and takes no slot of libuv's pool.
 */
import {
  closeSync,
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import type { FileSystem, OpenFile } from './ports.ts'

const OPEN_FLAGS = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
} as const

/* oxlint-disable typescript/require-await -- the port is asynchronous, this implementation is not */
export const syncFileSystem: FileSystem = {
  async open(path, mode) {
    return new SyncFile(openSync(path, OPEN_FLAGS[mode], 0o600))
  },
  async rename(from, to) {
    renameSync(from, to)
  },
  async remove(path) {
    try {
      unlinkSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  },
  async list(directory) {
    try {
      return readdirSync(directory)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  },
  async makeDirectory(path) {
    mkdirSync(path, { recursive: true, mode: 0o700 })
  },
  async syncDirectory(path) {
    const directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      fsyncSync(directory)
    } finally {
      closeSync(directory)
    }
  },
  async space(path) {
    const { bavail, blocks, bsize } = statfsSync(path)
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
  },
}

class SyncFile implements OpenFile {
  readonly #descriptor: number

  constructor(descriptor: number) {
    this.#descriptor = descriptor
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0
    while (done < into.length) {
      const got = readSync(this.#descriptor, into, done, into.length - done, position + done)
      if (got === 0) break
      done += got
    }
    return done
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      done += writeSync(this.#descriptor, bytes, done, bytes.length - done, position + done)
    }
  }

  async truncate(length: number): Promise<void> {
    ftruncateSync(this.#descriptor, length)
  }

  async sync(): Promise<void> {
    fdatasyncSync(this.#descriptor)
  }

  async size(): Promise<number> {
    return fstatSync(this.#descriptor).size
  }

  async close(): Promise<void> {
    closeSync(this.#descriptor)
  }
}
