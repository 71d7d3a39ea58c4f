/**
 * Whether remote store and metadata agree, looked at from outside: the gateway has drained and ended, its metadata is opened here, the
 * remote store is listed.
 *
 *   lost        persisted and referred to, and not in the remote store, or with another length
 *   orphaned    a segment in the remote store that no record knows; an upload in parts that nobody finishes
 *   duplicated  a body whose live bytes lie in two segments
 */
import { randomFillSync } from 'node:crypto'
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GetObjectCommand, ListMultipartUploadsCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { systemClock } from '../../../src/common/clock.ts'
import type { SegmentId } from '../../../src/common/ids.ts'
import { DEFAULT_LIMITS } from '../../../src/common/limits.ts'
import { createLmdbStore } from '../../../src/meta/lmdb/lmdb-store.ts'
import { WATCHED_ROWS } from '../../../src/meta/namespace/changes.ts'
import { createNamespace, type Namespace } from '../../../src/meta/namespace/namespace.ts'
import { decodeFooter, readTrailer, TRAILER_BYTES, type Footer } from '../../../src/persist/journal/format.ts'
import { segmentObjectName } from '../../../src/persist/remote/ports.ts'
import { BrokenPromise } from '../load/ledger.ts'
import type { RemoteTarget } from './remote-target.ts'

export interface RemoteListing {
  /** Name below the prefix, and length. */
  readonly objects: ReadonlyMap<string, number>
  readonly unfinishedUploads: readonly string[]
}

export interface AuditResult {
  readonly segments: number
  readonly orphaned: readonly string[]
  readonly lost: readonly string[]
  readonly duplicated: readonly string[]
}

const SEGMENTS_MAX = 100_000

/** Everything below the prefix. */
export async function listRemote(target: RemoteTarget, prefix: string): Promise<RemoteListing> {
  const client = target.client()
  const within = { Bucket: target.bucket, Prefix: `${prefix}/` }
  try {
    const objects = new Map<string, number>()
    for (let token: string | undefined, more = true; more;) {
      const page = await client.send(new ListObjectsV2Command({ ...within, ContinuationToken: token }))
      for (const { Key = '', Size = 0 } of page.Contents ?? []) objects.set(Key.slice(prefix.length + 1), Size)
      token = page.NextContinuationToken
      more = token !== undefined
    }
    const uploads = await client.send(new ListMultipartUploadsCommand(within))
    return { objects, unfinishedUploads: (uploads.Uploads ?? []).map(({ Key = '' }) => Key.slice(prefix.length + 1)) }
  } finally {
    client.destroy()
  }
}

/** The gateway on `data` must have ended. */
export async function auditRemote(target: RemoteTarget, prefix: string, data: string): Promise<AuditResult> {
  const { objects, unfinishedUploads } = await listRemote(target, prefix)
  const client = target.client()
  try {
    return await withNamespace(data, async (namespace) => {
      const records = await namespace.segments(undefined, SEGMENTS_MAX)
      const known = new Set(records.map(({ segment }) => segmentObjectName(segment)))
      const segments = [...objects.keys()].filter((name) => name.startsWith('segments/'))
      const orphaned = [...segments.filter((name) => !known.has(name)), ...unfinishedUploads]
      const missing = records
        .filter(({ state, liveBytes }) => state === 'persisted' && liveBytes > 0)
        .map(({ segment }) => segmentObjectName(segment))
        .filter((name) => !objects.has(name))
      const places = new Map<number, string[]>()
      for (const { segment, state } of records) {
        const name = segmentObjectName(segment)
        const bytes = objects.get(name)
        if (bytes === undefined || state !== 'persisted') continue
        const { bodies } = await footerOf(client, { bucket: target.bucket, key: `${prefix}/${name}`, bytes, segment })
        for (const { content, offset, length } of bodies) {
          const isLive = await namespace.contentLiesAt({ content, segment, segmentOffset: offset, length })
          if (isLive) places.set(content, [...(places.get(content) ?? []), name])
        }
      }
      const duplicated = [...places].filter(([, names]) => names.length > 1).map(([, names]) => names.join(' and '))
      return { segments: segments.length, orphaned, lost: missing, duplicated }
    })
  } finally {
    client.destroy()
  }
}

/** @throws BrokenPromise when anything is lost, orphaned or there twice */
export function expectClean({ lost, orphaned, duplicated }: AuditResult): void {
  const wrong = Object.entries({ lost, orphaned, duplicated }).filter(([, names]) => names.length > 0)
  if (wrong.length === 0) return
  const list = wrong.map(([what, names]) => `${names.length} ${what} (${names.slice(0, 5).join(', ')})`)
  throw new BrokenPromise(`the remote store and metadata differ: ${list.join('; ')}`)
}

/** Over a copy: looking changes nothing. */
async function withNamespace<T>(data: string, work: (namespace: Namespace) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'tidegate-audit-'))
  cpSync(join(data, 'meta'), directory, { recursive: true })
  const store = createLmdbStore({ directory, ...WATCHED_ROWS, clock: systemClock })
  try {
    await store.start()
    const fillRandom = (bytes: Uint8Array): void => void randomFillSync(bytes)
    const files = { fileMode: 0o644, directoryMode: 0o755, uid: 0, gid: 0 }
    return await work(createNamespace({ store, clock: systemClock, limits: DEFAULT_LIMITS, fillRandom, files }))
  } finally {
    await store.stop()
    rmSync(directory, { recursive: true })
  }
}

async function footerOf(
  client: S3Client,
  object: { readonly bucket: string; readonly key: string; readonly bytes: number; readonly segment: SegmentId },
): Promise<Footer> {
  const read = async (from: number, to: number): Promise<Buffer> => {
    const Range = `bytes=${from}-${to - 1}`
    const { Body } = await client.send(new GetObjectCommand({ Bucket: object.bucket, Key: object.key, Range }))
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }
  const trailer = readTrailer(object.segment, await read(object.bytes - TRAILER_BYTES, object.bytes), object.bytes)
  const footer = trailer && decodeFooter(object.segment, await read(trailer.dataBytes, object.bytes))
  if (!footer) throw new BrokenPromise(`${object.key} has no valid footer`)
  return footer
}
