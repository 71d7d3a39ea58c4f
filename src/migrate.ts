/**
 * `tidegate meta migrate`: metadata of a stopped gateway move between its data directory and etcd. What is moved, and how it is verified, is src/meta/migrate; here
 * stands what happens in the data directory. Part of the composition root.
 *
 *     DATA/moving.json        {"format": 1, "to": "etcd", "name": "<32 hex digits>", "prefix": "/tidegate/"}: a move that was begun; with "left": true only
 *                             this directory is still to be settled
 *     DATA/meta.incoming      the engine's file while it is filled from etcd
 *     DATA/meta.moved         what was DATA/meta before it was moved to etcd; nobody uses it any more. etcd.moved likewise of a member's data
 *
 * **To etcd.** All is there, and verified, and etcd says `arrived`; then DATA/node.json is written: that is the switch. From then on `serve` without --meta is refused,
 * before it the directory is served as ever. What follows is tidying up, and is done by whoever runs the move again: DATA/meta is put aside, and etcd
 * told that the metadata may be served.
 *
 * **To the data directory.** DATA/meta.incoming is whole and verified, and etcd says `left`: that is the switch. From then on nobody serves what is in etcd. What follows is
 * done again by whoever runs the move again: the file takes the place of the copy, and node.json goes, last.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { isTidegateError } from './common/errors.ts'
import type { ByteString } from './common/ids.ts'
import { DataDirectoryUnusable, openDataDirectory } from './config/data-directory.ts'
import { writeFileDurably } from './config/durable-file.ts'
import { LmdbBackend } from './meta/lmdb/lmdb-backend.ts'
import { Changes, type ChangesOptions } from './meta/migrate/changes.ts'
import { hasLeft, moveFromEtcd } from './meta/migrate/from-etcd.ts'
import { MOVED_NODE, moveToEtcd, type MoveProgress, type MoveReport } from './meta/migrate/to-etcd.ts'
import { createEtcdClient, type EtcdClientOptions } from './meta/raft/client.ts'
import { EtcdLayout } from './meta/raft/layout.ts'
import { isKnownNode, type NodeIdentity } from './meta/raft/node-number.ts'
import type { Etcd } from './meta/raft/ports.ts'
import { revisionBase, shiftedEtcd } from './meta/raft/shifted-etcd.ts'
import type { Backend } from './meta/stage/ports.ts'
import { IDENTITY_FILE, identityOf, writeIdentity } from './node-identity.ts'

const RECORD_FILE = 'moving.json'
const RECORD_FORMAT = 1
const NAME_BYTES = 16
/** How long etcd may be away at a time. */
const WAIT_MS_MAX = 60_000

export interface Reached extends Pick<EtcdClientOptions, 'endpoints' | 'tls' | 'login'> {
  stop(): Promise<void>
}

export interface MigrateRequest {
  readonly to: 'etcd' | 'data'
  /** The data directory. */
  readonly data: string
  readonly prefix: string
  /** Asked once the data directory is this process's. */
  readonly reach: (dataPath: string) => Promise<Reached>
  /** Of a node's member of etcd, below the data directory: put aside when the metadata have left it. */
  readonly memberDirectory: string | undefined
  readonly onProgress: (progress: MoveProgress) => void
}

export interface MigrateReport {
  readonly to: MigrateRequest['to']
  /** Absolute. */
  readonly data: string
  readonly prefix: string
  /** Undefined where an earlier run had moved everything, and only the switch was left. */
  readonly moved: MoveReport | undefined
  /** Where what was in the data directory, and is not used any more, lies now. */
  readonly keptIn: string | undefined
  readonly durationMs: number
}

interface Record {
  readonly to: MigrateRequest['to']
  /** Hex. */
  readonly name: string
  readonly prefix: string
  /** What is in etcd has left: only the data directory is still to be settled. */
  readonly left?: boolean
}

/** @throws DataDirectoryInUse, DataDirectoryUnusable (which says what is refused), TidegateError */
export async function migrate(request: MigrateRequest): Promise<MigrateReport> {
  const startedMs = performance.now()
  if (!existsSync(join(request.data, 'FORMAT')))
    throw new DataDirectoryUnusable(`--data: ${request.data} is no data directory of Tidegate`)
  const directory = await openDataDirectory(request.data)
  try {
    const migration = new Migration(request, directory.path)
    const done = request.to === 'etcd' ? await migration.toEtcd() : await migration.toData()
    const { to, prefix } = request
    return { to, data: directory.path, prefix, ...done, durationMs: performance.now() - startedMs }
  } catch (error) {
    if (isTidegateError(error, 'InvalidRequest')) throw new DataDirectoryUnusable(error.message, { cause: error })
    throw error
  } finally {
    await directory.close()
  }
}

type Done = Pick<MigrateReport, 'moved' | 'keptIn'>

class Migration {
  readonly #request: MigrateRequest
  readonly #path: string
  readonly #layout: EtcdLayout

  constructor(request: MigrateRequest, path: string) {
    this.#request = request
    this.#path = path
    this.#layout = new EtcdLayout(request.prefix)
  }

  async toEtcd(): Promise<Done> {
    const { prefix } = this.#request
    const identity = identityOf(this.#path)
    const begun = this.#record()
    if (identity !== undefined) {
      if (begun?.to === 'etcd' && begun.name === identity.identity && begun.prefix === prefix)
        return await this.#withEtcd(async (etcd) => ({
          moved: undefined,
          keptIn: await this.#settleInEtcd(etcd, begun),
        }))
      throw new DataDirectoryUnusable(
        `--data: ${this.#path} is that of node ${identity.number} of metadata that are in etcd already`,
      )
    }
    if (!existsSync(this.#at('meta/data.mdb')))
      throw new DataDirectoryUnusable(`--data: ${this.#path} holds no metadata of its own: there is nothing to move`)
    return await this.#withEtcd(async (etcd) => {
      const record = begun?.to === 'etcd' && begun.prefix === prefix ? begun : await this.#begin()
      const moved = await this.#fillEtcd(etcd, record)
      await writeIdentity(this.#path, { number: MOVED_NODE, identity: record.name })
      return { moved, keptIn: await this.#settleInEtcd(etcd, record) }
    })
  }

  async #fillEtcd(etcd: Etcd, record: Record): Promise<MoveReport> {
    const backend = new LmdbBackend({ directory: this.#at('meta') })
    await backend.open()
    const { onProgress } = this.#request
    const options = { ...this.#options(etcd), name: bytesOf(record.name), onProgress, backend }
    try {
      return await moveToEtcd(options)
    } finally {
      await backend.close()
    }
  }

  /** After the switch. Returns where what was here lies. */
  async #settleInEtcd(etcd: Etcd, record: Record): Promise<string | undefined> {
    let keptIn: string | undefined
    const changes = new Changes(this.#options(etcd))
    const found = await changes.look()
    // Once the row is away a gateway may have made its copy in meta.
    const isOurs = found?.state === 'arrived' && found.name === bytesOf(record.name)
    if (isOurs && existsSync(this.#at('meta'))) keptIn = await this.#putAside('meta')
    if (isOurs) await changes.end()
    await this.#forget(RECORD_FILE)
    return keptIn
  }

  async toData(): Promise<Done> {
    const { prefix } = this.#request
    const identity = identityOf(this.#path)
    const begun = this.#record()
    if (begun?.to === 'data' && begun.left === true) return { moved: undefined, keptIn: await this.#settleInData() }
    if (identity === undefined)
      throw new DataDirectoryUnusable(
        `--data: ${this.#path} is not that of a node of metadata in etcd: only into that of their one node can they be moved`,
      )
    const moved = await this.#withEtcd(async (etcd) => {
      await this.#checkKnown(etcd, identity)
      const record = begun?.to === 'data' && begun.prefix === prefix ? begun : await this.#begin()
      const raised = shiftedEtcd(etcd, await revisionBase(etcd, this.#layout))
      const filled = await this.#fillIncoming(raised, identity, record)
      await this.#write({ ...record, left: true })
      return filled
    })
    return { moved, keptIn: await this.#settleInData() }
  }

  async #checkKnown(etcd: Etcd, identity: NodeIdentity): Promise<void> {
    const options = { ...this.#options(etcd), fillRandom: (): void => undefined }
    if (await isKnownNode(options, identity)) return
    throw new DataDirectoryUnusable(
      `--data: ${this.#path} is that of node ${identity.number} of other metadata than those below ${this.#layout.prefix}`,
    )
  }

  /** Undefined when an earlier run has done that. */
  async #fillIncoming(etcd: Etcd, { number }: NodeIdentity, record: Record): Promise<MoveReport | undefined> {
    const { onProgress } = this.#request
    const options = { ...this.#options(etcd), name: bytesOf(record.name), onProgress }
    if (await hasLeft(options)) return undefined
    const incoming = this.#at('meta.incoming')
    let opened: Backend | undefined
    const target = async (how: 'as it is' | 'empty'): Promise<Backend> => {
      if (how === 'empty') await rm(incoming, { recursive: true, force: true })
      opened = new LmdbBackend({ directory: incoming })
      await opened.open()
      return opened
    }
    try {
      return await moveFromEtcd({ ...options, node: number, target })
    } finally {
      await opened?.close()
    }
  }

  /** After the switch. Returns where the member's data lie. */
  async #settleInData(): Promise<string | undefined> {
    const { memberDirectory } = this.#request
    if (existsSync(this.#at('meta.incoming'))) {
      // A copy of what is in etcd.
      await rm(this.#at('meta'), { recursive: true, force: true })
      await this.#rename('meta.incoming', this.#at('meta'))
    }
    const isMember = memberDirectory !== undefined && existsSync(this.#at(memberDirectory))
    const keptIn = isMember ? await this.#putAside(memberDirectory) : undefined
    await this.#forget(IDENTITY_FILE)
    await this.#forget(RECORD_FILE)
    return keptIn
  }

  async #withEtcd<T>(work: (etcd: Etcd) => Promise<T>): Promise<T> {
    const reached = await this.#request.reach(this.#path)
    const etcd = createEtcdClient({ ...reached, clock: systemClock })
    try {
      await etcd.start()
      return await work(etcd)
    } finally {
      await etcd.drain()
      await etcd.stop()
      await reached.stop()
    }
  }

  #options(etcd: Etcd): ChangesOptions {
    return { etcd, layout: this.#layout, clock: systemClock, waitMsMax: WAIT_MS_MAX }
  }

  #at(name: string): string {
    return join(this.#path, name)
  }

  async #begin(): Promise<Record> {
    const { to, prefix } = this.#request
    const record = { to, name: randomBytes(NAME_BYTES).toString('hex'), prefix }
    await this.#write(record)
    return record
  }

  async #write(record: Record): Promise<void> {
    await writeFileDurably(this.#at(RECORD_FILE), `${JSON.stringify({ format: RECORD_FORMAT, ...record })}\n`, 0o600)
  }

  #record(): Record | undefined {
    const path = this.#at(RECORD_FILE)
    if (!existsSync(path)) return undefined
    try {
      const {
        format,
        to,
        name,
        prefix,
        left = false,
      } = JSON.parse(readFileSync(path, 'utf8')) as Partial<Record> & {
        format?: number
      }
      const isKnown = format === RECORD_FORMAT && (to === 'etcd' || to === 'data')
      if (isKnown && name?.length === 2 * NAME_BYTES && prefix !== undefined) return { to, name, prefix, left }
    } catch {
      // Said below.
    }
    throw new DataDirectoryUnusable(`--data: ${path} does not say what move was begun`)
  }

  /** Returns its new path. */
  async #putAside(name: string): Promise<string> {
    const path = freeName(this.#at(`${name}.moved`))
    await this.#rename(name, path)
    return path
  }

  async #rename(from: string, to: string): Promise<void> {
    await rename(this.#at(from), to)
    await syncDirectory(this.#path)
  }

  async #forget(name: string): Promise<void> {
    await rm(this.#at(name), { force: true })
    await syncDirectory(this.#path)
  }
}

/** That name, or the first with a number behind it that nobody has. */
function freeName(path: string): string {
  if (!existsSync(path)) return path
  for (let number = 2; ; number++) if (!existsSync(`${path}-${number}`)) return `${path}-${number}`
}

function bytesOf(hex: string): ByteString {
  return Buffer.from(hex, 'hex').toString('latin1') as ByteString
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
