/**
 * The data directory: who may use it, and whether it is one we understand.
 *
 *     DATA/            mode 0700, made if absent
 *       FORMAT         {"format": 5, "createdBy": "tidegate"}: written first, synced; changed only by an upgrade, at a start
 *       LOCK-<hex>     Unix socket on which the owner listens
 *       credentials    root credentials made at the first start (credentials.ts)
 *       RESTORING      a restore is being made here; only while there is no FORMAT does it mean anything. RESTORING.new alone: it
 *                      was killed before it had done anything
 *       ...            what persist and meta keep
 *
 * Lock. Whoever wants the directory first listens on a socket of its own, under a name that nobody uses twice, and only
 * then looks at the others. One that takes a connection belongs to a living process: then this one gives way. One that
 * refuses belongs to a dead one (the kernel closed its end), and is removed, which is safe because the name never comes
 * back. Of any two, the one that listened later sees the other, so at most one keeps the directory. Of several that
 * start at the same moment the smallest name stays and waits for the others to give way. A process that is only
 * stopped still has its backlog and so keeps its lock. Unlike a file with a pid this cannot be fooled by a reused pid or
 * another pid namespace; like any socket it says nothing across machines: the directory is for one host.
 *
 * A socket's path may have at most 107 bytes (unix(7), sun_path). For longer ones the directory is opened and the socket
 * reached as /proc/self/fd/N/LOCK-<hex>.
 *
 * Known gap: on a file system without Unix sockets (some network mounts) the directory cannot be locked and is refused.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { writeFileDurably } from './durable-file.ts'
import type { Server } from 'node:net'

/**
 * 2 since entries carry revisions and expiries. Format 1 was only ever written by builds from before the first release, so
 * it is refused rather than upgraded. 3 since footers of segments have a checksum of their page table: those of format 2 are still
 * read, but who knows only 2 would take new segments for damaged; so the version is raised at the first start, and nothing else is done.
 * 4 since buckets can be attached: who knows only 3 would take such a bucket for one of its own, and what it wrote there would leave no trace
 * by which it is carried out. Raised in the same way. 5 since meta/ can be a copy of metadata in etcd (node.json): who knows only 4 would change the copy.
 */
const FORMAT_VERSION = 5
const UPGRADED_VERSION_MIN = 2
const SOCKET_PATH_BYTES_MAX = 107
const LOCK_PREFIX = 'LOCK-'
const UNFINISHED = 'RESTORING'
/** How long one waits for others, which may be about to give way, before it takes them for owners. */
const GIVE_WAY_CHECKS = 20
const GIVE_WAY_CHECK_MS = 25

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
  makeDirectory(directory)
  const lock = await acquire(directory)
  try {
    const fresh = await checkFormat(directory)
    return { path: directory, fresh, close: () => lock.release() }
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** A directory that a restore fills. Until `finish` no gateway takes it for a data directory, and another restore may begin it anew. */
export interface RestoredDirectory {
  /** Absolute. */
  readonly path: string
  /** What an earlier, unfinished restore into it had noted. */
  readonly note: string | undefined
  /** Durable when it resolves. */
  writeNote(note: string): Promise<void>
  /** All that lies in it is durable: it is a data directory from now on. */
  finish(): Promise<void>
  /** Gives the lock back. */
  close(): Promise<void>
}

/**
 * Makes or takes a directory that is empty, or holds nothing but an unfinished restore, of which all is removed but the note.
 * @throws DataDirectoryInUse, DataDirectoryUnusable
 */
export async function openRestoredDirectory(path: string): Promise<RestoredDirectory> {
  const directory = resolve(path)
  makeDirectory(directory)
  const lock = await acquire(directory)
  try {
    const others = namesOfOthers(directory)
    const isUnfinished = others.includes(UNFINISHED) && !others.includes('FORMAT')
    if (others.length > 0 && !isUnfinished) {
      throw new DataDirectoryUnusable(
        `--data: ${directory} is not empty (it holds ${others[0]}): a restore wants a directory that is empty or not there yet`,
      )
    }
    const notePath = join(directory, UNFINISHED)
    const note = isUnfinished ? readFileSync(notePath, 'utf8') : undefined
    for (const name of others) if (name !== UNFINISHED) rmSync(join(directory, name), { recursive: true })
    return {
      path: directory,
      note,
      writeNote: (text) => writeFileDurably(notePath, text, 0o600),
      async finish() {
        await writeFormat(directory)
        for (const path of [notePath, `${notePath}.new`]) rmSync(path, { force: true })
      },
      close: () => lock.release(),
    }
  } catch (error) {
    await lock.release()
    throw error
  }
}

/** What was being written when a restore was killed is nobody's, and is written over. */
const NOBODYS: ReadonlySet<string> = new Set(['lost+found', `${UNFINISHED}.new`])

function namesOfOthers(directory: string): string[] {
  return readdirSync(directory).filter((name) => !name.startsWith(LOCK_PREFIX) && !NOBODYS.has(name))
}

function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    throw new DataDirectoryUnusable(`--data: cannot make ${directory}: ${(error as Error).message}`, { cause: error })
  }
}

function writeFormat(directory: string): Promise<void> {
  const text = `${JSON.stringify({ format: FORMAT_VERSION, createdBy: 'tidegate' })}\n`
  return writeFileDurably(join(directory, 'FORMAT'), text, 0o600)
}

/** True when FORMAT was just written. */
async function checkFormat(directory: string): Promise<boolean> {
  const path = join(directory, 'FORMAT')
  if (!existsSync(path)) {
    const others = namesOfOthers(directory).filter((name) => !name.startsWith('FORMAT.'))
    if (others.includes(UNFINISHED)) {
      throw new DataDirectoryUnusable(`--data: a restore into ${directory} was not finished: run it again`)
    }
    if (others.length > 0) {
      throw new DataDirectoryUnusable(
        `--data: ${directory} holds ${others[0]} and no FORMAT: it is no data directory of Tidegate, and not empty`,
      )
    }
    await writeFormat(directory)
    return true
  }
  const format = formatOf(readFileSync(path, 'utf8'))
  if (format === undefined) throw new DataDirectoryUnusable(`--data: ${path} cannot be read as a format version`)
  if (format > FORMAT_VERSION) {
    throw new DataDirectoryUnusable(
      `--data: ${directory} has format ${format}, written by a newer Tidegate; this one knows formats up to ${FORMAT_VERSION}`,
    )
  }
  if (format < UPGRADED_VERSION_MIN) {
    throw new DataDirectoryUnusable(
      `--data: ${directory} has format ${format}, written by a Tidegate from before the first release; this one reads formats ` +
        `from ${UPGRADED_VERSION_MIN} on: start in an empty directory and copy the objects over through the S3 door`,
    )
  }
  if (format < FORMAT_VERSION) await writeFormat(directory)
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
  const name = `${LOCK_PREFIX}${randomBytes(8).toString('hex')}`
  const folder = socketFolder(directory, name)
  let server: Server | undefined
  const release = async (): Promise<void> => {
    rmSync(join(directory, name), { force: true })
    if (server !== undefined) await stopListening(server)
    folder.close()
  }
  try {
    server = await listenOn(join(folder.path, name))
    for (let attempt = 0; attempt < GIVE_WAY_CHECKS; attempt++) {
      const living = await livingOthers(directory, folder.path, name)
      if (living.length === 0) return { release }
      if (living.some((other) => other < name)) break
      await sleep(GIVE_WAY_CHECK_MS)
    }
  } catch (error) {
    await release()
    throw new DataDirectoryUnusable(`--data: cannot lock ${directory}: ${(error as Error).message}`, { cause: error })
  }
  await release()
  throw new DataDirectoryInUse(directory)
}

/** Names of the others' sockets that take connections. Removes the dead ones. */
async function livingOthers(directory: string, socketPath: string, ownName: string): Promise<string[]> {
  const living: string[] = []
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(LOCK_PREFIX) || name === ownName) continue
    if (await takesConnections(join(socketPath, name))) living.push(name)
    else rmSync(join(directory, name), { force: true })
  }
  return living
}

/** The directory under a name that is short enough for a socket. */
function socketFolder(directory: string, name: string): { path: string; close(): void } {
  if (Buffer.byteLength(join(directory, name)) <= SOCKET_PATH_BYTES_MAX)
    return { path: directory, close: () => undefined }
  const descriptor = openSync(directory, 'r')
  return { path: `/proc/self/fd/${descriptor}`, close: () => closeSync(descriptor) }
}

const GONE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOENT'])

function takesConnections(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      // Refused: nobody listens. Reset: it stopped listening just now, which nobody does who keeps the directory.
      if (error.code !== undefined && GONE.has(error.code)) resolve(false)
      // A full backlog: its owner is stopped or very busy.
      else if (error.code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}

function listenOn(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined)
      socket.destroy()
    })
    server.once('error', reject)
    server.listen({ path, backlog: 16 }, () => {
      server.off('error', reject)
      // An accept that fails (out of descriptors) leaves the lock in place: connecting still succeeds.
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
