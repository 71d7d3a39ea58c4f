/**
 * Metadata in etcd, as the engine wants them: the client, this node's number, and the ordered store with its copy in DATA/meta. Part of the composition
 * root. The number is kept in the data directory:
 *
 *     DATA/node.json      {"format": 1, "number": 3, "identity": "<32 hex digits>"}: written, synced, before anything of the node is in the metadata
 *
 * A directory with that file belongs to those metadata, and one that has metadata of its own belongs to none: segments here are named there, and what is
 * not named is removed as an orphan.
 */
import { randomFillSync } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { DataDirectoryUnusable } from './config/data-directory.ts'
import { writeFileDurably } from './config/durable-file.ts'
import type { MetadataLocation } from './config/metadata-location.ts'
import type { Config } from './config/parse.ts'
import { LmdbBackend } from './meta/lmdb/lmdb-backend.ts'
import { createEtcdClient } from './meta/raft/client.ts'
import { createEtcdStore } from './meta/raft/etcd-store.ts'
import { EtcdLayout } from './meta/raft/layout.ts'
import { isKnownNode, takeNodeNumber, type NodeIdentity } from './meta/raft/node-number.ts'
import type { Etcd } from './meta/raft/ports.ts'
import type { StageOptions } from './meta/stage/options.ts'
import type { EmbeddedStore } from './meta/stage/ports.ts'

const FILE_NAME = 'node.json'
const FORMAT = 1
/** How long etcd may be away when the gateway starts. */
const START_MS_MAX = 60_000
/** Every body that lies in metadata lies in the memory of every member of etcd (docs/decisions/0016). */
export const SHARED_INLINE_BYTES_MAX = 512

export interface SharedMetadata {
  readonly nodeNumber: number
  readonly createOrderedStore: (options: Omit<StageOptions, 'unwantedGroupMsMax'>) => EmbeddedStore
  /** After the store has stopped. */
  stop(): Promise<void>
}

/** @throws DataDirectoryUnusable when the directory and the metadata do not belong together, TidegateError when etcd does not answer */
export async function openSharedMetadata(
  config: Pick<Config, 'metaCa' | 'metaCert' | 'metaKey' | 'metaLogin'> & { readonly meta: MetadataLocation },
  dataPath: string,
  onFenced: (error: Error) => void,
): Promise<SharedMetadata> {
  const { endpoints, prefix } = config.meta
  const etcd = createEtcdClient({
    endpoints,
    tls: { authorityPath: config.metaCa, certificatePath: config.metaCert, keyPath: config.metaKey },
    login: config.metaLogin,
    clock: systemClock,
  })
  await etcd.start()
  const stop = async (): Promise<void> => {
    await etcd.drain()
    await etcd.stop()
  }
  try {
    const { number } = await nodeIdentity(etcd, { prefix, dataPath })
    const createOrderedStore: SharedMetadata['createOrderedStore'] = (options) =>
      createEtcdStore({
        ...options,
        etcd,
        prefix,
        node: number,
        replica: new LmdbBackend({ directory: join(dataPath, 'meta') }),
        onFenced: () => onFenced(new Error(`another process serves as node ${number}: this one must end`)),
      })
    return { nodeNumber: number, createOrderedStore, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function nodeIdentity(
  etcd: Etcd,
  { prefix, dataPath }: { prefix: string; dataPath: string },
): Promise<NodeIdentity> {
  const layout = new EtcdLayout(prefix)
  const options = {
    etcd,
    layout,
    clock: systemClock,
    fillRandom: (bytes: Uint8Array): void => void randomFillSync(bytes),
    waitMsMax: START_MS_MAX,
  }
  const path = join(dataPath, FILE_NAME)
  const known = readIdentity(path)
  if (known) {
    if (await isKnownNode(options, known)) return known
    throw new DataDirectoryUnusable(
      `--data: ${path} says that this is node ${known.number} of metadata that are not those at --meta (below ${prefix}): ` +
        'put those back, or point --meta or --data elsewhere',
    )
  }
  refuseOwnMetadata(dataPath)
  const taken = await takeNodeNumber(options)
  await writeFileDurably(path, `${JSON.stringify({ format: FORMAT, ...taken })}\n`, 0o600)
  return taken
}

function refuseOwnMetadata(dataPath: string): void {
  const metadata = join(dataPath, 'meta', 'data.mdb')
  if (!existsSync(metadata)) return
  throw new DataDirectoryUnusable(
    `--data: ${metadata} holds metadata of its own, and --meta names others: start with an empty data directory and copy the objects over ` +
      'through the S3 API, or start without --meta',
  )
}

/** @throws DataDirectoryUnusable where the directory is one of a node that shares its metadata, and none were named */
export function refuseMissingSharedMetadata(dataPath: string): void {
  const known = readIdentity(join(dataPath, FILE_NAME))
  if (!known) return
  throw new DataDirectoryUnusable(
    `--data: ${dataPath} is that of node ${known.number} of gateways that share their metadata in etcd: start it with --meta`,
  )
}

export function isOfSharedMetadata(dataPath: string): boolean {
  return readIdentity(join(dataPath, FILE_NAME)) !== undefined
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
