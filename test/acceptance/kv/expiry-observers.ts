/**
 * Who looks whether anything is served late while keys expire: each asks again and again, by one operation of one door, for keys that
 * are about to expire or just have.
 *
 * What must not be is decided by two times of this machine's clock, which is the gateway's too. Of a request that was *sent* at
 * or after a key's expiry, no answer may show the key. And an answer that *came* before the expiry may not miss it:
 * gone early is as wrong as served late.
 */
import {
  GetObjectCommand,
  ListObjectsV2Command,
  paginateListObjectsV2,
  S3ServiceException,
  type S3Client,
} from '@aws-sdk/client-s3'
import { setTimeout as sleep } from 'node:timers/promises'
import type { KvClient } from '../../../src/client/kv-client.ts'
import type { Random } from '../../model/random.ts'
import type { ExpiringKey, ExpiringKeys } from './expiring-keys.ts'

/** How far from their expiry keys are asked for. */
const BEFORE_MS = 150
const AFTER_MS = 300
const KEYS_ASKED_AT_ONCE = 100
const NOTHING_NEAR_MS = 5
/** A common prefix that holds nothing else goes within this (C31). */
const PREFIX_LATE_MS_MAX = 1000

export interface Observed {
  /** Answers about single keys that were sent for after the expiry, and in how many the key was there: none may be. */
  askedAfter: number
  shown: number
  listings: number
  prefixListings: number
  /** The latest that a listing which showed a common prefix was sent after the last expiry below it. */
  prefixLateMs: number
  readonly violations: string[]
}

export interface ObserverParts {
  readonly bucket: string
  readonly kv: KvClient
  readonly s3: S3Client
  readonly keys: ExpiringKeys
  readonly random: Random
  /** Whether all keys are put: until then a group may get further ones. */
  readonly allPut: () => boolean
  readonly stopped: () => boolean
  readonly observed: Observed
}

export const OBSERVERS: readonly ((parts: ObserverParts) => Promise<void>)[] = [
  observeKvGet,
  observeKvGet,
  observeKvGet,
  observeKvHead,
  observeS3Get,
  observeKvBatch,
  observeKvExists,
  observeKvScan,
  observeS3List,
  observePrefixes,
]

function observeKvGet(parts: ObserverParts): Promise<void> {
  return observeSingles(parts, 'GET', async ({ key }) => (await parts.kv.get(key)) !== undefined)
}

function observeKvHead(parts: ObserverParts): Promise<void> {
  return observeSingles(parts, 'HEAD', async ({ key }) => (await parts.kv.head(key)) !== undefined)
}

function observeS3Get(parts: ObserverParts): Promise<void> {
  return observeSingles(parts, 'GetObject', async ({ key }) => {
    try {
      const { Body } = await parts.s3.send(new GetObjectCommand({ Bucket: parts.bucket, Key: key }))
      await Body?.transformToByteArray()
      return true
    } catch (error) {
      if (error instanceof S3ServiceException && error.name === 'NoSuchKey') return false
      throw error
    }
  })
}

async function observeSingles(
  parts: ObserverParts,
  operation: string,
  isThere: (key: ExpiringKey) => Promise<boolean>,
): Promise<void> {
  while (!parts.stopped()) {
    const key = nearExpiry(parts)
    if (key === undefined) await sleep(NOTHING_NEAR_MS)
    else judge(parts, { operation, sentMs: Date.now(), there: await isThere(key), key })
  }
}

async function observeKvExists(parts: ObserverParts): Promise<void> {
  while (!parts.stopped()) {
    const keys = someNearExpiry(parts)
    const sentMs = Date.now()
    const { exists } = await parts.kv.exists(keys.map(({ key }) => key))
    keys.forEach((key, index) => judge(parts, { operation: ':exists', sentMs, there: exists[index] === true, key }))
    await sleep(NOTHING_NEAR_MS)
  }
}

async function observeKvBatch(parts: ObserverParts): Promise<void> {
  while (!parts.stopped()) {
    const keys = someNearExpiry(parts)
    const sentMs = Date.now()
    const results = await parts.kv.batch(keys.map(({ key }) => ({ op: 'get', key }) as const))
    keys.forEach((key, index) => {
      judge(parts, { operation: ':batch', sentMs, there: results[index]?.status === 200, key })
    })
    await sleep(NOTHING_NEAR_MS)
  }
}

function judge(
  { observed }: ObserverParts,
  answer: { operation: string; sentMs: number; there: boolean; key: ExpiringKey },
): void {
  const { operation, sentMs, there, key } = answer
  const after = sentMs - key.expiresMs
  if (after >= 0) observed.askedAfter++
  if (there) observed.shown++
  if (there && after >= 0) {
    observed.violations.push(`${operation} ${key.key}: asked for ${after} ms after its expiry, and it was there`)
  }
  const before = key.expiresMs - Date.now()
  if (!there && before > 0) observed.violations.push(`${operation} ${key.key}: gone ${before} ms before its expiry`)
}

/** One group at a time, so that a scan is short and there are many. */
async function observeKvScan(parts: ObserverParts): Promise<void> {
  while (!parts.stopped()) {
    const prefix = nearExpiry(parts)?.group
    const sentMs = Date.now()
    if (prefix !== undefined) {
      for await (const { key, expires } of parts.kv.scan({ prefix })) {
        judgeListed(parts, { operation: 'scan', sentMs, key, expiresMs: expires?.getTime() })
      }
      parts.observed.listings++
    }
    await sleep(NOTHING_NEAR_MS)
  }
}

async function observeS3List(parts: ObserverParts): Promise<void> {
  const { bucket: Bucket, s3: client, keys, observed } = parts
  while (!parts.stopped()) {
    const Prefix = nearExpiry(parts)?.group
    const sentMs = Date.now()
    if (Prefix !== undefined) {
      for await (const page of paginateListObjectsV2({ client }, { Bucket, Prefix })) {
        for (const { Key = '' } of page.Contents ?? []) {
          judgeListed(parts, { operation: 'ListObjectsV2', sentMs, key: Key, expiresMs: keys.get(Key)?.expiresMs })
        }
      }
      observed.listings++
    }
    await sleep(NOTHING_NEAR_MS)
  }
}

/** A key whose put is not answered yet may be listed; when it expires is not known here. */
function judgeListed(
  { observed }: ObserverParts,
  listed: { operation: string; sentMs: number; key: string; expiresMs: number | undefined },
): void {
  const after = listed.sentMs - (listed.expiresMs ?? Infinity)
  if (after < 0) return
  observed.violations.push(`${listed.operation} showed ${listed.key}, asked ${after} ms after its expiry`)
}

async function observePrefixes(parts: ObserverParts): Promise<void> {
  const { bucket: Bucket, keys, observed } = parts
  while (!parts.stopped()) {
    const sentMs = Date.now()
    const final = parts.allPut()
    const { CommonPrefixes } = await parts.s3.send(new ListObjectsV2Command({ Bucket, Delimiter: '/' }))
    for (const { Prefix = '' } of final ? (CommonPrefixes ?? []) : []) {
      const late = sentMs - keys.lastOf(Prefix)
      observed.prefixLateMs = Math.max(observed.prefixLateMs, late)
      if (late >= PREFIX_LATE_MS_MAX) {
        observed.violations.push(`common prefix ${Prefix} is there ${late} ms after the last expiry below it`)
      }
    }
    observed.prefixListings++
    await sleep(20)
  }
}

function nearExpiry({ keys, random }: ObserverParts): ExpiringKey | undefined {
  return keys.around(Date.now() - AFTER_MS + random.below(AFTER_MS + BEFORE_MS), random)
}

function someNearExpiry(parts: ObserverParts): ExpiringKey[] {
  const some = new Set<ExpiringKey>()
  for (let tried = 0; tried < KEYS_ASKED_AT_ONCE; tried++) {
    const key = nearExpiry(parts)
    if (key !== undefined) some.add(key)
  }
  return [...some]
}
