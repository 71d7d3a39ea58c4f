/**
 * Many keys with times to live on a gateway of their own: none is served late, and all space comes back.
 *
 * While keys are put and expire, by batches and one by one, observers ask for those whose time is near (expiry-observers.ts). When
 * the last one is over, nothing may be left: not for a scan or a listing of objects or versions, in memory, in a segment on disk, or as
 * a row of metadata, usage included.
 */
import { ListObjectsV2Command, ListObjectVersionsCommand } from '@aws-sdk/client-s3'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createKvClient, type KvClient } from '../../../src/client/kv-client.ts'
import { checkNamespace } from '../../model/check-namespace.ts'
import type { Random } from '../../model/random.ts'
import { startGateway, type GatewayProcess } from '../../support/gateway-process.ts'
import { storeOf } from '../../support/metadata-store.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import { ExpiringKeys } from './expiring-keys.ts'
import { OBSERVERS, type Observed } from './expiry-observers.ts'

const BUCKET = 'expiring'
const BATCH_KEYS = 200
const BATCHES_AT_ONCE = 2
/** Of each batch so many are put one by one instead. */
const SINGLE_PUTS = 2
const KIB = 1024
/** These lie in the metadata, the large ones in segments. */
const SMALL_SIZES = [0, 1, 100, 100, 100, KIB, 4 * KIB]
const LARGE_SIZES = [4 * KIB + 1, 20 * KIB, 64 * KIB]
const LARGE_SHARE = 0.05
/** After the last expiry: longer than a common prefix may stay. */
const AFTERMATH_MS = 1500
/** Segments are sealed, dismantled and removed at their own pace. */
const SPACE_BACK_MS_MAX = 60_000

export interface ExpiryProofOptions {
  readonly directory: string
  readonly keys: number
  readonly ttlSecondsMax: number
  readonly random: Random
  readonly note?: (text: string) => void
}

export interface ExpiryOutcome extends Observed {
  readonly keys: number
  readonly bytes: number
  readonly segmentBytesMax: number
  /** From the last expiry until nothing was left of any segment. */
  readonly spaceBackMs: number
  /** What was left, in words; empty when all is as it must be. */
  readonly left: readonly string[]
}

export async function proveExpiry(options: ExpiryProofOptions): Promise<ExpiryOutcome> {
  const data = join(options.directory, 'data')
  const logFile = join(options.directory, 'log')
  const flags = ['--buckets', BUCKET, '--segment-age', '1s', '--log-level', 'warn']
  const gateway = await startGateway({ data, flags, logFile })
  let stopped = false
  try {
    const run = await observeExpiry(gateway, data, options)
    const exitCode = await gateway.stop()
    stopped = true
    const left = [...run.left, ...(await rowsLeft(data))]
    if (exitCode !== 0) left.push(`the gateway ended with code ${exitCode}`)
    const log = readFileSync(logFile, 'utf8')
    if (/^\{"level":"(?:error|fatal)"/m.test(log)) left.push(`errors in the log: ${log.slice(0, 2000)}`)
    return { ...run, left }
  } finally {
    if (!stopped) await gateway.kill()
  }
}

async function observeExpiry(
  gateway: GatewayProcess,
  data: string,
  { keys: count, ttlSecondsMax, random, note = () => undefined }: ExpiryProofOptions,
): Promise<ExpiryOutcome> {
  const kv = createKvClient({ url: gateway.http, bucket: BUCKET, ...gateway.root })
  const s3 = sdkClient(gateway)
  const keys = new ExpiringKeys()
  const observed: Observed = {
    askedAfter: 0,
    shown: 0,
    listings: 0,
    prefixListings: 0,
    prefixLateMs: 0,
    violations: [],
  }
  let allPut = false
  let stopped = false
  const parts = {
    bucket: BUCKET,
    kv,
    s3,
    keys,
    random,
    observed,
    allPut: () => allPut,
    stopped: () => stopped,
  }
  const observing = Promise.all(OBSERVERS.map((observe) => observe(parts)))
  // Its failure is told when it is awaited.
  observing.catch(() => undefined)
  try {
    const startMs = performance.now()
    const bytes = await putAll(kv, keys, { count, ttlSecondsMax, random })
    allPut = true
    note(`${count} keys put, ${Math.round(bytes / KIB)} KiB, in ${((performance.now() - startMs) / 1000).toFixed(1)} s`)
    const segmentBytesMax = segmentBytes(data)
    await Promise.race([sleep(Math.max(0, keys.lastMs - Date.now()) + AFTERMATH_MS), observing])
    stopped = true
    await observing
    const left = await namesLeft(kv, s3)
    const spaceBackMs = await spaceBack(gateway, data, keys.lastMs, left)
    return { ...observed, keys: keys.count, bytes, segmentBytesMax, spaceBackMs, left }
  } finally {
    stopped = true
    kv.close()
    s3.destroy()
  }
}

/** @returns bytes put */
async function putAll(
  kv: KvClient,
  keys: ExpiringKeys,
  { count, ttlSecondsMax, random }: { count: number; ttlSecondsMax: number; random: Random },
): Promise<number> {
  let bytes = 0
  const makePut = (index: number) => {
    const ttlSeconds = (1000 + random.below((ttlSecondsMax - 1) * 1000)) / 1000
    const value = Buffer.alloc(random.pick(random.chance(LARGE_SHARE) ? LARGE_SIZES : SMALL_SIZES), index & 255)
    bytes += value.length
    const key = `${String(Math.floor(ttlSeconds)).padStart(2, '0')}/${String(index).padStart(6, '0')}`
    return { op: 'put', key, value, ttlSeconds } as const
  }
  const waiting = Array.from({ length: Math.ceil(count / BATCH_KEYS) }, (_, batch) => batch * BATCH_KEYS)
  const putSome = async (): Promise<void> => {
    for (let first = waiting.shift(); first !== undefined; first = waiting.shift()) {
      const from = first
      const puts = Array.from({ length: Math.min(BATCH_KEYS, count - from) }, (_, index) => makePut(from + index))
      const batched = puts.slice(SINGLE_PUTS)
      const results = await kv.batch(batched)
      results.forEach((result, index) => noteExpiry(keys, batched[index]?.key, result.expires))
      for (const { key, value, ttlSeconds } of puts.slice(0, SINGLE_PUTS)) {
        noteExpiry(keys, key, (await kv.put(key, value, { ttlSeconds })).expires)
      }
    }
  }
  await Promise.all(Array.from({ length: BATCHES_AT_ONCE }, putSome))
  return bytes
}

function noteExpiry(keys: ExpiringKeys, key: string | undefined, expires: Date | undefined): void {
  if (key === undefined || expires === undefined) throw new Error(`the put of ${key} told no expiry`)
  keys.add(key, expires.getTime())
}

async function namesLeft(kv: KvClient, s3: ReturnType<typeof sdkClient>): Promise<string[]> {
  const left: string[] = []
  for await (const { key } of kv.scan()) left.push(`scan shows ${key}`)
  const objects = await s3.send(new ListObjectsV2Command({ Bucket: BUCKET }))
  for (const { Key } of objects.Contents ?? []) left.push(`ListObjectsV2 shows ${Key}`)
  const versions = await s3.send(new ListObjectVersionsCommand({ Bucket: BUCKET }))
  for (const { Key } of [...(versions.Versions ?? []), ...(versions.DeleteMarkers ?? [])]) {
    left.push(`ListObjectVersions shows ${Key}`)
  }
  return left
}

/** Waits until no byte of a segment is left on disk or in memory, and says what stays. @returns ms since `sinceMs` */
async function spaceBack(gateway: GatewayProcess, data: string, sinceMs: number, left: string[]): Promise<number> {
  for (;;) {
    const lateMs = Date.now() - sinceMs
    const onDisk = segmentBytes(data)
    const inMemory = await memoryHeld(gateway)
    if (onDisk === 0 && inMemory.length === 0) return lateMs
    if (lateMs > SPACE_BACK_MS_MAX) {
      if (onDisk > 0) left.push(`${onDisk} bytes of segments on disk`)
      left.push(...inMemory)
      return lateMs
    }
    await sleep(100)
  }
}

async function memoryHeld(gateway: GatewayProcess): Promise<string[]> {
  const page = await (await fetch(`${gateway.http}/metrics`)).text()
  const held = /^tidegate_(?:cache_held_bytes|cache_leases|bodies_open|readers_open) (?!0$).*$/gm
  return page.match(held) ?? []
}

function segmentBytes(data: string): number {
  let bytes = 0
  for (const place of [join(data, 'journal'), join(data, 'store', 'segments')]) {
    for (const path of existsSync(place) ? readdirSync(place, { recursive: true, encoding: 'utf8' }) : []) {
      const found = statSync(join(place, path), { throwIfNoEntry: false })
      if (found?.isFile()) bytes += found.size
    }
  }
  return bytes
}

/** In the metadata of a gateway that has stopped: the root of the bucket and nothing else; usage is checked with it. */
async function rowsLeft(data: string): Promise<string[]> {
  const store = await storeOf(data)
  await store.start()
  try {
    const rows = await checkNamespace(store)
    const wanted = { inodes: 1, contents: 0, dropped: 0, parts: 0, uploads: 0, hidden: 0 }
    return Object.entries(wanted).flatMap(([table, count]) => {
      const found = rows[table as keyof typeof rows]
      return found === count ? [] : [`${found} rows of ${table} instead of ${count}`]
    })
  } finally {
    await store.drain()
    await store.stop()
  }
}
