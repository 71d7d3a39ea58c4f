/**
 * Which remote store a data directory belongs to: the file DATA/REMOTE, JSON, and the marker at the store (persist/remote-marker.ts). A data
 * directory whose segments lie in one store cannot be run over another, nor without: what it calls persisted would not be there.
 *
 *   file       absent -> "claiming" -> "claimed"     (a restore writes "claimed" at once)
 *
 * The file is written before the marker, so that a crash in between leaves a claim that can be finished, not a marker that nobody knows. It
 * says "claimed" only once there is metadata: a claimed directory without any has lost it, and would take all in the store for orphans.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DataDirectoryUnusable } from './config/data-directory.ts'
import { writeFileDurably } from './config/durable-file.ts'
import { claimRemote, type RemoteHolder } from './persist/remote-marker.ts'
import type { RemoteStore } from './persist/remote/ports.ts'

export interface RemoteClaim extends RemoteHolder {
  readonly state: 'claiming' | 'claimed'
  /** Where it was when it was claimed; for people. */
  readonly description: string
}

export const CLAIM_FILE = 'REMOTE'

/** @throws DataDirectoryUnusable when the file cannot be understood */
export function readClaim(dataPath: string): RemoteClaim | undefined {
  const path = join(dataPath, CLAIM_FILE)
  if (!existsSync(path)) return undefined
  try {
    const { namespace, holder, state, description } = JSON.parse(readFileSync(path, 'utf8')) as Partial<RemoteClaim>
    if (namespace && holder && description && (state === 'claiming' || state === 'claimed')) {
      return { namespace, holder, state, description }
    }
  } catch {
    // Said below.
  }
  throw new DataDirectoryUnusable(`--data: ${path} does not say which remote store the directory belongs to`)
}

export async function writeClaim(dataPath: string, claim: RemoteClaim): Promise<void> {
  await writeFileDurably(join(dataPath, CLAIM_FILE), `${JSON.stringify(claim)}\n`, 0o600)
}

export function newHolderId(): string {
  return randomBytes(16).toString('hex')
}

/** @throws DataDirectoryUnusable when the directory belongs to a remote store, and has lost its metadata */
export function refuseLostMetadata(dataPath: string): void {
  const claim = readClaim(dataPath)
  const metadata = join(dataPath, 'meta', 'data.mdb')
  if (claim?.state !== 'claimed' || existsSync(metadata)) return
  throw new DataDirectoryUnusable(
    `--data: ${metadata} is not there, which names what lies in ${claim.description}: put it back, or get it from there with "tidegate restore"`,
  )
}

/** @throws DataDirectoryUnusable when the directory belongs to a remote store and none was given */
export function refuseMissingRemote(dataPath: string): void {
  const claim = readClaim(dataPath)
  // One that was only begun never served.
  if (claim?.state !== 'claimed') return
  throw new DataDirectoryUnusable(
    `--data: what ${dataPath} calls persisted lies in ${claim.description}: give that with --remote`,
  )
}

/**
 * The claim of this data directory on the store, made if neither has one yet. A claimed store that cannot be reached is no hindrance:
 * what is cached can be served, and the guard (remote-guard.ts) says later whether it still is ours.
 * @throws DataDirectoryUnusable when the directory and the store do not belong together, or a first claim cannot be made
 */
export async function claimFor(
  dataPath: string,
  remote: RemoteStore,
  options: {
    readonly nowMs: number
    /** Where segments lie that were adopted under the data directory; undefined: they lie in the remote store as it should be. */
    readonly localSegments: string | undefined
    readonly unmarkedIsOurs: boolean
  },
): Promise<RemoteClaim> {
  const known = readClaim(dataPath)
  if (known?.state === 'claimed') return known
  refuseStrayedSegments(remote, options.localSegments)
  const { description } = remote
  const claim: RemoteClaim = known ?? {
    namespace: newHolderId(),
    holder: newHolderId(),
    state: 'claiming',
    description,
  }
  try {
    await remote.connect()
    if (!known) await writeClaim(dataPath, claim)
    await claimRemote(remote, claim, options)
  } catch (error) {
    throw new DataDirectoryUnusable(`--remote: ${(error as Error).message}`, { cause: error })
  }
  return claim
}

/** There is metadata under the directory now. */
export async function finishClaim(dataPath: string, claim: RemoteClaim): Promise<void> {
  if (claim.state === 'claiming') await writeClaim(dataPath, { ...claim, state: 'claimed' })
}

/** Segments that were adopted by the local disk are persisted as far as metadata knows, and would be looked for in the remote store. */
function refuseStrayedSegments(remote: RemoteStore, localSegments: string | undefined): void {
  if (localSegments === undefined || !existsSync(localSegments)) return
  const shards = readdirSync(localSegments)
  if (!shards.some((shard) => readdirSync(join(localSegments, shard)).length > 0)) return
  throw new DataDirectoryUnusable(
    `--remote: the segments of this data directory lie in ${localSegments} and not in ${remote.description}: ` +
      'start in an empty data directory, and copy the objects over through the S3 door',
  )
}
