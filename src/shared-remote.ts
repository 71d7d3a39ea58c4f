/**
 * Which remote store belongs to metadata that several nodes share: the row `<prefix> 00 remote` in etcd, JSON, beside the marker at the store (persist/remote-marker.ts). The
 * holder of the store is the metadata, not a data directory: so every node finds it its own, and a restore elsewhere shuts all of them out.
 *
 *     {"format":1,"state":"claiming","location":"s3://bucket/prefix at https://...","description":"...","namespace":"<32 hex>","holder":"<32 hex>","from":"<32 hex>"}
 *
 *   absent -> "claiming" -> "claimed"
 *
 * The row is made before the marker, so that a crash in between leaves a claim that any node can finish. One that is refused by the store is taken back: nobody has relied on it. From then on a node
 * that names another store, or none, is refused: what the others call persisted would not be there.
 *
 * `from`: the metadata came from a data directory that held the store (`tidegate meta migrate`). Its lineage of names is not gone on with, since revisions are others; the store
 * is taken over, as by a restore from that holder's newest state, which is what has been moved.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from './common/clock.ts'
import { isTidegateError, TidegateError } from './common/errors.ts'
import { DataDirectoryUnusable } from './config/data-directory.ts'
import type { Config } from './config/parse.ts'
import type { RemoteLocation } from './config/remote-location.ts'
import type { EngineRemote } from './engine-parts.ts'
import { onlyKey, type EtcdLayout } from './meta/raft/layout.ts'
import type { Etcd } from './meta/raft/ports.ts'
import { unavailable } from './meta/raft/words.ts'
import { claimRemote, takeOverRemote, type RemoteHolder } from './persist/remote-marker.ts'
import type { RemoteStore } from './persist/remote/ports.ts'
import { CLAIM_FILE, newHolderId, readClaim } from './remote-claim.ts'
import { RemoteGuard } from './remote-guard.ts'
import { engineRemoteOf, remoteStoreOf } from './remote-store.ts'

/** As of SharedMetadata. */
export interface ClaimRoom {
  readonly etcd: Etcd
  readonly layout: EtcdLayout
}

interface SharedClaim extends RemoteHolder {
  readonly state: 'claiming' | 'claimed'
  /** What two nodes must agree on. */
  readonly location: string
  /** For people. */
  readonly description: string
  readonly from: string | undefined
}

interface FoundClaim {
  readonly claim: SharedClaim
  readonly modRevision: number
}

const FORMAT = 1

/**
 * Undefined where no node has a remote store.
 * @throws DataDirectoryUnusable when the others name another store, or it is somebody else's; TidegateError when etcd does not answer
 */
export async function openSharedRemote(
  config: Config,
  { dataPath, ...room }: ClaimRoom & { readonly dataPath: string },
  onFenced: (error: Error) => void,
): Promise<EngineRemote | undefined> {
  const { remote } = config
  const store = await remoteStoreOf(config, true)
  if (!store || !remote) {
    await refuseMissing(room, dataPath)
    return undefined
  }
  const mine = { location: locationOf(remote), description: store.description }
  const claim = await claimShared(room, store, { ...mine, from: readClaim(dataPath) })
  // What the directory held is the metadata's by now.
  await rm(join(dataPath, CLAIM_FILE), { force: true })
  const guard = new RemoteGuard({ remote: store, claim, clock: systemClock, onFenced })
  return await engineRemoteOf(config, dataPath, { store, guard, carries: 'uploading' })
}

/** Without what only says how it is reached. */
export function locationOf(remote: RemoteLocation): string {
  if (remote.kind === 'file') return `file://${remote.directory}`
  const { bucket, prefix, endpoint, region } = remote
  const at = endpoint === undefined ? `AWS ${region}` : new URL(endpoint).origin
  return `s3://${bucket}${prefix === '' ? '' : `/${prefix}`} at ${at}`
}

async function refuseMissing(room: ClaimRoom, dataPath: string): Promise<void> {
  const found = await readRow(room)
  const lies = found?.claim.description ?? readClaim(dataPath)?.description
  if (lies === undefined) return
  throw new DataDirectoryUnusable(
    `--remote: what the gateways that share these metadata call persisted lies in ${lies}: give that with --remote`,
  )
}

/**
 * The claim of the metadata on the store, made if there is none. Safe to repeat, and for many nodes at once.
 * @throws DataDirectoryUnusable when the metadata name another store, or the store is not to be had
 */
export async function claimShared(
  room: ClaimRoom,
  store: RemoteStore,
  mine: { readonly location: string; readonly description: string; readonly from: RemoteHolder | undefined },
): Promise<SharedClaim> {
  const found = (await readRow(room)) ?? (await makeRow(room, mine))
  const { claim } = found
  if (claim.location !== mine.location) {
    throw new DataDirectoryUnusable(
      `--remote: the gateways that share these metadata have ${claim.location}, and this one names ${mine.location}: all must have the same`,
    )
  }
  if (claim.state === 'claimed') return claim
  try {
    await store.connect()
    await claimAtStore(store, claim)
  } catch (error) {
    // Nothing was changed there for it, if that is what the store says; otherwise it may have been.
    if (isTidegateError(error, 'InvalidRequest')) await dropRow(room, found)
    throw new DataDirectoryUnusable(`--remote: ${(error as Error).message}`, { cause: error })
  }
  const claimed: SharedClaim = { ...claim, state: 'claimed' }
  // Somebody else may have been faster with the same.
  await putRow(room, claimed, found.modRevision)
  return claimed
}

async function claimAtStore(store: RemoteStore, { namespace, holder, from }: SharedClaim): Promise<void> {
  const nowMs = systemClock.nowMs()
  if (from === undefined) return await claimRemote(store, { namespace, holder }, { nowMs, unmarkedIsOurs: false })
  const taken = await takeOverRemote(store, holder, { namespace, nowMs }, { from, backup: undefined })
  if (taken.namespace !== namespace) {
    throw new TidegateError('InvalidRequest', `${store.description} holds another namespace (${taken.namespace})`)
  }
}

async function makeRow(
  room: ClaimRoom,
  { location, description, from }: Parameters<typeof claimShared>[2],
): Promise<FoundClaim> {
  const claim: SharedClaim = {
    state: 'claiming',
    location,
    description,
    namespace: from?.namespace ?? newHolderId(),
    holder: newHolderId(),
    from: from?.holder,
  }
  const modRevision = await putRow(room, claim, 0)
  if (modRevision !== undefined) return { claim, modRevision }
  const other = await readRow(room)
  if (other) return other
  throw new TidegateError(
    'Unavailable',
    'which remote store is that of these metadata is being settled by another node',
  )
}

async function readRow({ etcd, layout }: ClaimRoom): Promise<FoundClaim | undefined> {
  try {
    const { rows } = await etcd.range({ range: onlyKey(layout.remote), limit: 1 })
    const [row] = rows
    return row && { claim: decode(row.value), modRevision: row.modRevision }
  } catch (error) {
    throw unavailable(error)
  }
}

/** @returns the revision at which it was written; undefined when it was not the one that was known */
async function putRow(
  { etcd, layout }: ClaimRoom,
  claim: SharedClaim,
  modRevision: number,
): Promise<number | undefined> {
  try {
    const { succeeded, revision } = await etcd.transact({
      compares: [{ kind: 'unchanged', key: layout.remote, modRevision }],
      success: [{ kind: 'put', key: layout.remote, value: Buffer.from(JSON.stringify({ format: FORMAT, ...claim })) }],
      failure: [],
    })
    return succeeded ? revision : undefined
  } catch (error) {
    throw unavailable(error)
  }
}

async function dropRow({ etcd, layout }: ClaimRoom, { modRevision }: FoundClaim): Promise<void> {
  await etcd
    .transact({
      compares: [{ kind: 'unchanged', key: layout.remote, modRevision }],
      success: [{ kind: 'delete', range: onlyKey(layout.remote) }],
      failure: [],
    })
    // A claim that is left can be finished, or refused again, by whoever starts next.
    .catch(() => undefined)
}

function decode(value: Uint8Array): SharedClaim {
  const { format, state, location, description, namespace, holder, from } = JSON.parse(
    Buffer.from(value).toString(),
  ) as Partial<SharedClaim> & { readonly format?: number }
  const isWhole = location !== undefined && description !== undefined && namespace !== undefined && holder !== undefined
  if (format !== FORMAT || !isWhole || (state !== 'claiming' && state !== 'claimed')) {
    throw new TidegateError(
      'InvalidRequest',
      'which remote store is that of these metadata was written by another Tidegate',
    )
  }
  return { state, location, description, namespace, holder, from }
}
