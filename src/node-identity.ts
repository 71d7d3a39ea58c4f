/**
 * Which data directory belongs to which shared metadata. Part of the composition root.
 *
 *     DATA/node.json      {"format": 1, "number": 3, "identity": "<32 hex digits>"}: written, synced, before anything of the node is in the metadata
 *     DATA/etcd/          of a node that runs a member of etcd itself (meta/raft/member/node-record.ts)
 *
 * A directory with `node.json` belongs to those metadata, and one that has metadata of its own belongs to none: segments here are named there, and what is
 * not named is removed as an orphan.
 */
import { randomFillSync } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { DataDirectoryUnusable } from './config/data-directory.ts'
import { writeFileDurably } from './config/durable-file.ts'
import { EtcdLayout } from './meta/raft/layout.ts'
import { NodeDirectory } from './meta/raft/member/node-record.ts'
import { isKnownNode, takeNodeNumber, type NodeIdentity, type NodeNumberOptions } from './meta/raft/node-number.ts'

export const IDENTITY_FILE = 'node.json'
const FORMAT = 1

export interface NodeIdentityOptions extends Pick<NodeNumberOptions, 'etcd' | 'waitMsMax' | 'signal' | 'onWaiting'> {
  readonly prefix: string
  readonly dataPath: string
  /** As messages name where the metadata are: `--meta`, or `--cluster NAME`. */
  readonly option: string
}

/** The node that the directory is that of; a new one where it belongs to nobody yet. @throws DataDirectoryUnusable, TidegateError */
export async function nodeIdentity({ prefix, dataPath, option, ...rest }: NodeIdentityOptions): Promise<NodeIdentity> {
  const options = {
    ...rest,
    layout: new EtcdLayout(prefix),
    clock: systemClock,
    fillRandom: (bytes: Uint8Array): void => void randomFillSync(bytes),
  }
  const path = join(dataPath, IDENTITY_FILE)
  const known = readIdentity(path)
  if (known) {
    if (await isKnownNode(options, known)) return known
    throw new DataDirectoryUnusable(
      `--data: ${path} says that this is node ${known.number} of metadata that are not those of ${option} (below ${prefix}): ` +
        `put those back, or point ${option} or --data elsewhere`,
    )
  }
  refuseOwnMetadata(dataPath, option)
  const taken = await takeNodeNumber(options)
  await writeIdentity(dataPath, taken)
  return taken
}

export async function writeIdentity(dataPath: string, identity: NodeIdentity): Promise<void> {
  await writeFileDurably(join(dataPath, IDENTITY_FILE), `${JSON.stringify({ format: FORMAT, ...identity })}\n`, 0o600)
}

/** @throws DataDirectoryUnusable where the directory has metadata that are not shared */
export function refuseOwnMetadata(dataPath: string, option: string): void {
  const metadata = join(dataPath, 'meta', 'data.mdb')
  if (isOfSharedMetadata(dataPath) || !existsSync(metadata)) return
  throw new DataDirectoryUnusable(
    `--data: ${metadata} holds metadata of its own, and ${option} names others: move them there ("tidegate meta migrate"), start with an empty ` +
      `data directory, or start without ${option}`,
  )
}

/** @throws DataDirectoryUnusable where the directory is one of a node that shares its metadata, and none were named */
export function refuseMissingSharedMetadata(dataPath: string): void {
  refuseMissingCluster(dataPath)
  const known = readIdentity(join(dataPath, IDENTITY_FILE))
  if (!known) return
  throw new DataDirectoryUnusable(
    `--data: ${dataPath} is that of node ${known.number} of gateways that share their metadata in etcd: start it with --meta`,
  )
}

/** A member that votes must not stay away because its node is started in another way. @throws DataDirectoryUnusable, ClusterRefused */
export function refuseMissingCluster(dataPath: string): void {
  const record = new NodeDirectory(join(dataPath, 'etcd')).read()
  if (!record) return
  throw new DataDirectoryUnusable(
    `--data: ${dataPath} is that of a node of cluster ${record.cluster}: start it with --cluster ${record.cluster}`,
  )
}

export function isOfSharedMetadata(dataPath: string): boolean {
  return readIdentity(join(dataPath, IDENTITY_FILE)) !== undefined
}

/** @throws DataDirectoryUnusable when it is there and cannot be read */
export function identityOf(dataPath: string): NodeIdentity | undefined {
  return readIdentity(join(dataPath, IDENTITY_FILE))
}

function readIdentity(path: string): NodeIdentity | undefined {
  if (!existsSync(path)) return undefined
  try {
    const { format, number, identity } = JSON.parse(readFileSync(path, 'utf8')) as Partial<NodeIdentity> & {
      format?: number
    }
    if (format === FORMAT && Number.isSafeInteger(number) && identity !== undefined && number !== undefined)
      return { number, identity }
  } catch {
    // Said below.
  }
  throw new DataDirectoryUnusable(`--data: ${path} does not say which node the directory belongs to`)
}
