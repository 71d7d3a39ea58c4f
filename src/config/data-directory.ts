/**
 * The data directory: who may use it, and whether it is one we understand.
 *
 *     DATA/            mode 0700, made if absent
 *       FORMAT         {"format": 1, "createdBy": "tidegate"}: written first, synced, never changed by a running gateway
 *       LOCK           Unix socket on which the owner answers
 *       credentials    root credentials made at the first start (credentials.ts)
 *       ...            what persist and meta keep
 *
 * Lock. The owner listens on LOCK for as long as it runs. Whoever finds the socket connects: an answer means that the
 * directory is in use; a refused connection means that its owner died (the kernel closed its end), and the socket is
 * stale. A stale one is taken over: a new socket is bound under a name of its own and renamed over LOCK, then, since two
 * processes may do that at the same time, each connects to LOCK and keeps the directory only if it hears its own token.
 * The loser of the rename hears another token, or nothing, and leaves. Unlike a file with a pid this cannot be fooled by
 * a reused pid or another pid namespace; like any socket it says nothing across machines: the directory is for one host.
 *
 * A socket's path may have at most 107 bytes (unix(7), sun_path). For longer ones the directory is opened and the socket
 * reached as /proc/self/fd/N/LOCK.
 *
 * Known gap: on a file system without Unix sockets (some network mounts) the directory cannot be locked and is refused.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { writeFileDurably } from './durable-file.ts'
import type { Server } from 'node:net'

const FORMAT_VERSION = 1
const SOCKET_PATH_BYTES_MAX = 107
const LOCK_ANSWER_MS_MAX = 2_000
/** Starts that may race for a stale lock before one gives up. */
const TAKE_OVER_ATTEMPTS_MAX = 5

/** Another process uses the directory: exit code 3. */
export class DataDirectoryInUse extends Error {
  constructor(directory: string) {
    super(`the data directory ${directory} is in use by another process`)
    this.name = 'DataDirectoryInUse'
  }
}

/** The directory is none of ours, or of another version, or cannot be written: exit code 2. */
export class DataDirectoryUnusable extends Error {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.name = 'DataDirectoryUnusable'
  }
}

export interface DataDirectory {
  /** Absolute. */
  readonly path: string
  /** It was empty or absent before: a first start. */
  readonly fresh: boolean
  /** Gives the lock back. */
  close(): Promise<void>
}

/** Makes the directory if it is absent, locks it and checks its format. @throws DataDirectoryInUse, DataDirectoryUnusable */
export async function openDataDirectory(path: string): Promise<DataDirectory> {
  const directory = resolve(path)
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new DataDirectoryUnusable(`--data: cannot make ${directory}: ${(error as Error).message}`, { cause: error })
  }
  const lock = await acquire(directory)
  try {
    const fresh = await checkFormat(directory)
    return { path: directory, fresh, close: () => lock.release() }
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** True when FORMAT was just written. */
async function checkFormat(directory: string): Promise<boolean> {
  const path = join(directory, 'FORMAT')
  if (!existsSync(path)) {
    const others = readdirSync(directory).filter(
      (name) => !name.startsWith('LOCK') && name !== 'lost+found' && !name.startsWith('FORMAT.'),
    )
    if (others.length > 0) {
      throw new DataDirectoryUnusable(
        `--data: ${directory} holds ${others[0]} and no FORMAT: it is no data directory of Tidegate, and not empty`,
      )
    }
    await writeFileDurably(path, `${JSON.stringify({ format: FORMAT_VERSION, createdBy: 'tidegate' })}\n`, 0o600)
    return true
  }
  const format = formatOf(readFileSync(path, 'utf8'))
  if (format === undefined) throw new DataDirectoryUnusable(`--data: ${path} cannot be read as a format version`)
  if (format > FORMAT_VERSION) {
    throw new DataDirectoryUnusable(
      `--data: ${directory} has format ${format}, written by a newer Tidegate; this one knows formats up to ${FORMAT_VERSION}`,
    )
  }
  return false
}

function formatOf(text: string): number | undefined {
  try {
    const { format } = JSON.parse(text) as { format?: unknown }
    return typeof format === 'number' && Number.isSafeInteger(format) && format >= 1 ? format : undefined
  } catch {
    return undefined
  }
}

interface Lock {
  release(): Promise<void>
}

async function acquire(directory: string): Promise<Lock> {
  const sockets = socketFolder(directory)
  const token = randomBytes(16).toString('hex')
  const ownPath = join(sockets.path, `LOCK.${token.slice(0, 8)}`)
  const lockPath = join(sockets.path, 'LOCK')
  let server: Server | undefined
  try {
    for (let attempt = 0; attempt < TAKE_OVER_ATTEMPTS_MAX; attempt++) {
      const owner = await askOwner(lockPath)
      if (owner === token && server !== undefined) return lockOf(server, lockPath, sockets)
      if (owner !== undefined) break
      if (server === undefined) server = await answerOn(ownPath, token)
      else await stopListening(server).then(async () => (server = await answerOn(ownPath, token)))
      renameSync(ownPath, lockPath)
    }
  } catch (error) {
    if (server !== undefined) await stopListening(server)
    sockets.close()
    throw new DataDirectoryUnusable(`--data: cannot lock ${directory}: ${(error as Error).message}`, { cause: error })
  }
  if (server !== undefined) await stopListening(server)
  sockets.close()
  throw new DataDirectoryInUse(directory)
}

function lockOf(server: Server, lockPath: string, sockets: { close(): void }): Lock {
  return {
    async release() {
      rmSync(lockPath, { force: true })
      await stopListening(server)
      sockets.close()
    },
  }
}

/** The directory under a name that is short enough for a socket. */
function socketFolder(directory: string): { path: string; close(): void } {
  if (Buffer.byteLength(join(directory, 'LOCK.12345678')) <= SOCKET_PATH_BYTES_MAX)
    return { path: directory, close: () => undefined }
  const descriptor = openSync(directory, 'r')
  return { path: `/proc/self/fd/${descriptor}`, close: () => closeSync(descriptor) }
}

/** What the owner answers; undefined when there is none. A silent owner is an owner. */
function askOwner(path: string): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    let answer = ''
    socket.setTimeout(LOCK_ANSWER_MS_MAX, () => {
      socket.destroy()
      resolve('')
    })
    socket.setEncoding('utf8')
    socket.on('data', (text) => (answer += String(text)))
    socket.on('end', () => {
      socket.destroy()
      resolve(answer)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // EINPROGRESS and the like would be news; these two are what a stale or absent socket gives.
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
      else if (error.code === 'ENOTSOCK') reject(new Error('LOCK is not a socket'))
      else if (error.code === 'ECONNRESET' || error.code === 'EAGAIN') resolve(answer)
      else reject(error)
    })
  })
}

function answerOn(path: string, token: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.end(token)
    })
    server.once('error', reject)
    server.listen({ path, backlog: 16 }, () => {
      server.off('error', reject)
      server.on('error', () => undefined)
      server.unref()
      resolve(server)
    })
  })
}

function stopListening(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
  })
}
