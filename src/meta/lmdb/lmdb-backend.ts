/**
 * Rows in an LMDB file, through `lmdb`'s one root database with keys and values as plain bytes.
 *
 * **Durable.** A batch is one native LMDB transaction, run on a thread of libuv's pool. Without `overlappingSync` its
 * promise resolves after LMDB has written the pages, synced them with fdatasync, and written the meta page through a
 * descriptor opened with O_DSYNC; a test traces the system calls. (With `overlappingSync`, the package's default, a commit
 * can be read before its sync, and still can when the sync then fails.) The directory entry of a new file is synced when it
 * is opened.
 *
 * **Atomic.** LMDB copies the pages it changes and then swaps the root, so after a crash, and after a failed commit, the
 * file holds the last committed state. The package starts a batch before its callback has ended once it is large, and
 * commits what a throwing callback has put so far: so nothing in the callback can throw, and keys are checked before.
 *
 * **After a failure.** A full disk leaves the environment usable. When writing the meta page fails LMDB marks the
 * environment as broken for good, and the package would then wait forever for the next batch; so after every failed commit
 * the environment is probed, and opened anew if the probe fails.
 *
 * **Snapshots.** The package reads from one snapshot until the end of the event-loop turn or the next commit. The stage
 * relies on reading what was committed at once, so the snapshot is let go here after each commit, too.
 *
 * **Values** are copied out of the map: `getBinary` and ranges over binary values copy, `getBinaryFast` does not.
 */
import { mkdir, open as openFile, statfs } from 'node:fs/promises'
import { dirname, resolve as resolvePath } from 'node:path'
import { open, type RootDatabase } from 'lmdb'
import { assert, must } from '../../common/assert.ts'
import { TidegateError } from '../../common/errors.ts'
import type { ByteString } from '../../common/ids.ts'
import type { KeyRange, Row } from '../ports.ts'
import type { Backend, RowChanges } from '../stage/ports.ts'

/** LMDB's bound with pages of 4 KiB; the package keeps to it on every platform. */
const KEY_BYTES_MAX = 1978

const TIB = 2 ** 40

/** Error codes of LMDB and the operating system that mean: there is no room. */
const FULL_CODES: ReadonlySet<number> = new Set([
  28, // ENOSPC
  122, // EDQUOT
  -30792, // MDB_MAP_FULL
])

const EIO = 5

/** With less than this free, besides what the batch holds, an I/O error is taken to come from a full disk. */
const FULL_BYTES_FREE_MAX = 1024 * 1024

export interface LmdbBackendOptions {
  /** Holds `data.mdb` and `lock.mdb`; made if it is not there. One process opens it at a time. */
  readonly directory: string
  /** Address space for the file, so the most it can grow to. */
  readonly mapBytesMax?: number
}

type Database = RootDatabase<Uint8Array, ByteString>

/** What the package does and its type declarations leave out. */
interface Undeclared {
  resetReadTxn(): void
  getBinary(key: ByteString): Uint8Array | undefined
}

export class LmdbBackend implements Backend {
  readonly keyBytesMax: number = KEY_BYTES_MAX
  readonly #directory: string
  readonly #mapBytesMax: number
  #database: (Database & Undeclared) | undefined

  constructor(options: LmdbBackendOptions) {
    this.#directory = resolvePath(options.directory)
    this.#mapBytesMax = options.mapBytesMax ?? TIB
  }

  async open(): Promise<void> {
    const created = await mkdir(this.#directory, { recursive: true, mode: 0o700 })
    this.#openDatabase()
    await syncDirectory(this.#directory)
    if (created === undefined) return
    for (let path = this.#directory; path !== dirname(created); path = dirname(path)) await syncDirectory(dirname(path))
  }

  get(key: ByteString): Uint8Array | undefined {
    return key.length > 0 && key.length <= KEY_BYTES_MAX ? this.#opened().getBinary(key) : undefined
  }

  scan(range: KeyRange, limit: number, reverse: boolean): Row[] {
    const rows: Row[] = []
    if (limit <= 0) return rows
    const options = { ...rangeOptions(range, reverse), limit }
    for (const { key, value } of this.#opened().getRange(options)) rows.push({ key, value })
    return rows
  }

  keys(range: KeyRange, limit: number): ByteString[] {
    return [...this.#opened().getKeys({ ...rangeOptions(range, false), limit })]
  }

  async commit(parts: readonly RowChanges[]): Promise<void> {
    for (const part of parts) {
      for (const key of part.keys()) if (!isRowKey(key)) assert(false, `a row's key of ${key.length} bytes`)
    }
    const database = this.#opened()
    try {
      await database.batch(() => {
        for (const part of parts) {
          for (const [key, value] of part) {
            if (value === null) void database.remove(key)
            else void database.put(key, value)
          }
        }
      })
    } catch (error) {
      const cause = await commitError(error)
      await this.#reopenIfBroken()
      const full = await this.#isFull(cause, parts)
      throw new TidegateError(full ? 'StorageFull' : 'Unavailable', `metadata commit: ${cause.message}`, { cause })
    }
    database.resetReadTxn()
  }

  async close(): Promise<void> {
    await this.#database?.close()
    this.#database = undefined
  }

  #openDatabase(): void {
    this.#database = open<Uint8Array, ByteString>({
      path: this.#directory,
      noSubdir: false,
      mapSize: this.#mapBytesMax,
      maxDbs: 1,
      encoding: 'binary',
      keyEncoder: BYTE_STRING_KEYS,
      overlappingSync: false,
      eventTurnBatching: false,
    })
    const { maxKeySize } = this.#database as { maxKeySize?: number }
    assert(KEY_BYTES_MAX <= must(maxKeySize, 'maxKeySize'), `keys of ${KEY_BYTES_MAX} bytes fit`)
  }

  #opened(): Database & Undeclared {
    if (this.#database === undefined) throw new TidegateError('Unavailable', 'the metadata file is not open')
    return this.#database
  }

  /** LMDB takes a write that a full disk cut short for an I/O error, so then the free space decides. */
  async #isFull(cause: { code?: number }, parts: readonly RowChanges[]): Promise<boolean> {
    if (cause.code !== EIO) return cause.code !== undefined && FULL_CODES.has(cause.code)
    const { bavail, bsize } = await statfs(this.#directory)
    return bavail * bsize < bytesOf(parts) + FULL_BYTES_FREE_MAX
  }

  async #reopenIfBroken(): Promise<void> {
    const database = this.#opened()
    try {
      database.transactionSync(() => {})
    } catch {
      this.#database = undefined
      await database.close()
      this.#openDatabase()
    }
  }
}

const BYTE_STRING_KEYS = {
  /** The package grows its buffer and asks again when this throws a RangeError. */
  writeKey: (key: ByteString, target: Buffer, start: number): number => {
    if (start + key.length > target.length) throw new RangeError('key does not fit')
    return start + target.write(key, start, 'latin1')
  },
  readKey: (source: Buffer, start: number, end: number): ByteString =>
    source.toString('latin1', start, end) as ByteString,
}

function isRowKey(key: ByteString): boolean {
  return key.length > 0 && key.length <= KEY_BYTES_MAX
}

interface Bound {
  readonly key: ByteString
  readonly inclusive: boolean
}

function rangeOptions(range: KeyRange, reverse: boolean): Record<string, unknown> {
  const low = bound(range.start, true)
  const high = bound(range.end, false)
  const [first, last] = reverse ? [high, low] : [low, high]
  return { reverse, start: first.key, exclusiveStart: !first.inclusive, end: last.key, inclusiveEnd: last.inclusive }
}

/**
 * A bound that LMDB can take. No row's key is longer than `KEY_BYTES_MAX`, so a longer bound lies right behind its own
 * beginning: all rows up to and including that are below it. No row's key is empty either.
 */
function bound(key: ByteString, low: boolean): Bound {
  if (key.length > KEY_BYTES_MAX) return { key: key.slice(0, KEY_BYTES_MAX) as ByteString, inclusive: !low }
  return { key: key === '' ? ('\0' as ByteString) : key, inclusive: low }
}

/** The package rejects with an error whose `commitError` rejects with the cause. */
async function commitError(error: unknown): Promise<Error & { code?: number }> {
  try {
    await (error as { commitError?: Promise<never> }).commitError
    return error as Error
  } catch (cause) {
    return cause as Error
  }
}

function bytesOf(parts: readonly RowChanges[]): number {
  let bytes = 0
  for (const part of parts) for (const [key, value] of part) bytes += key.length + (value?.length ?? 0)
  return bytes
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await openFile(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
