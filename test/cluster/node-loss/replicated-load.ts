/**
 * Writers of several gateways at once, each with keys of its own: objects of every size, uploads in parts, values of the KV API, deletes, all acknowledged at
 * `replicated`. Every call is entered in the ledger before it is made.
 *
 * A call whose outcome is not known (its gateway was killed, or hung) may still take effect while the writer goes on at another gateway. So its key is not
 * written again, which keeps what may be found there a matter of one ledger entry: what was acknowledged last, or that call.
 */
import { randomBytes } from 'node:crypto'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { setTimeout as sleep } from 'node:timers/promises'
import { isKvError, type KvClient } from '../../../src/client/kv-client.ts'
import { must } from '../../../src/common/assert.ts'
import type { Random } from '../../model/random.ts'
import { BUCKET } from '../../support/three-gateways.ts'
import { digest, type Ledger } from '../../write-behind/load/ledger.ts'

const KIB = 1024
const MIB = 1024 * KIB
const WRITERS = 6
const KEYS_OF_WRITER = 8
const CALL_MS_MAX = 8_000
/** A gateway that has just failed is left alone for a moment. */
const AFTER_FAILURE_MS = 100
const PAUSE_MS_MAX = 30
const PART_BYTES = 5 * MIB

/** How often each is drawn: around what lies in the metadata, shares a segment, and has one of its own. */
const SIZES = [
  [0, 2],
  [100, 4],
  [600, 4],
  [4 * KIB, 6],
  [70 * KIB, 6],
  [300 * KIB, 4],
  [MIB + 1, 2],
  [9 * MIB, 1],
] as const
const SIZES_WEIGHT = SIZES.reduce((sum, [, weight]) => sum + weight, 0)

export interface LoadCounts {
  acknowledged: number
  /** Nobody was there to take it, or had room for it. */
  refused: number
  /** Whose outcome is not known. */
  unknown: number
}

export interface LoadDoors {
  readonly s3: S3Client
  readonly kv: KvClient
}

export interface LoadTargets {
  /** Those that are written to. */
  readonly running: readonly number[]
  /** Of the gateway as it runs now. What they write is acknowledged at `replicated`. */
  doors(index: number): LoadDoors
}

interface LoadOptions {
  readonly ledger: Ledger
  readonly random: Random
  readonly writers?: number
  /** Codes of refusals that are to be expected: nothing was done. */
  readonly refusals?: readonly string[]
  readonly pauseMsMax?: number
}

export class ReplicatedLoad {
  readonly counts: LoadCounts = { acknowledged: 0, refused: 0, unknown: 0 }
  readonly #targets: LoadTargets
  readonly #ledger: Ledger
  readonly #random: Random
  readonly #writers: number
  readonly #refusals: readonly string[]
  readonly #pauseMsMax: number
  /** Of each writer. */
  readonly #keys: string[][] = []
  #named = 0
  #end = new AbortController()
  #running: Promise<unknown> | undefined

  constructor(
    targets: LoadTargets,
    { ledger, random, writers = WRITERS, refusals = [], pauseMsMax = PAUSE_MS_MAX }: LoadOptions,
  ) {
    this.#targets = targets
    this.#writers = writers
    this.#refusals = refusals
    this.#pauseMsMax = pauseMsMax
    this.#ledger = ledger
    this.#random = random
  }

  /** `name`: of its keys, another one for each load. A load that was stopped goes on with the keys that it has. */
  start(name: string): void {
    this.#end = new AbortController()
    const writers = Array.from({ length: this.#writers }, (_, index) => this.#write(name, index))
    this.#running = Promise.all(writers)
    this.#running.catch(() => undefined)
  }

  /** Calls that are under way are waited for. @throws what a call failed with that none may fail with */
  async stop(): Promise<void> {
    this.#end.abort()
    await this.#running
  }

  async #write(name: string, writer: number): Promise<void> {
    const random = this.#random
    const keys = (this.#keys[writer] ??= Array.from({ length: KEYS_OF_WRITER }, () => this.#newKey(name)))
    while (!this.#end.signal.aborted) {
      const place = random.below(keys.length)
      const outcome = await this.#attempt(must(keys[place], 'a key'), random.pick(this.#targets.running))
      if (outcome === 'unknown') keys[place] = this.#newKey(name)
      if (outcome !== 'acknowledged') await sleep(AFTER_FAILURE_MS)
      await sleep(random.below(this.#pauseMsMax))
    }
  }

  #newKey(name: string): string {
    return `${name}/${this.#named++}`
  }

  async #attempt(key: string, gateway: number): Promise<'acknowledged' | 'refused' | 'unknown'> {
    const kind = this.#random.pick(['object', 'object', 'object', 'value', 'value', 'delete', 'parts'] as const)
    const inParts = kind === 'parts' && this.#random.chance(0.2)
    const bytes = inParts ? PART_BYTES + this.#random.below(2 * MIB) : this.#size()
    const body = kind === 'delete' ? undefined : randomBytes(bytes)
    const attempt = this.#ledger.begin(key, body && digest(body))
    try {
      const doors = this.#targets.doors(gateway)
      if (body === undefined) await remove(doors, key)
      else if (kind === 'value') await doors.kv.put(key, body, { ack: 'replicated', signal: deadline() })
      else if (inParts) await putInParts(doors, key, body)
      else await doors.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }), withDeadline())
      attempt.acknowledged('journal')
      this.counts.acknowledged++
      return 'acknowledged'
    } catch (error) {
      const isRefused = isNotDone(error) || this.#refusals.includes((error as Error).name)
      if (!isRefused && !isForgiven(error))
        throw new Error(`${kind} of ${bytes} bytes: ${String(error)}`, { cause: error })
      if (isRefused) {
        attempt.refused()
        this.counts.refused++
        return 'refused'
      }
      this.counts.unknown++
      return 'unknown'
    }
  }

  #size(): number {
    let roll = this.#random.below(SIZES_WEIGHT)
    return SIZES.find(([, weight]) => (roll -= weight) < 0)?.[0] ?? 0
  }
}

/** What may happen while nodes are lost: no answer, or one of those that ask to come back. */
function isForgiven(error: unknown): boolean {
  if (isKvError(error) && error.code === 'NoAnswer') return true
  const status = statusOf(error)
  // 409: another node's change of the same directory got there first, too often; nothing was written. 507: no room.
  return status === undefined ? !isKvError(error) : status === 503 || status === 409 || status === 507
}

/** No connection was made, or there is no room. */
function isNotDone(error: unknown): boolean {
  const { code, cause } = error as { code?: string; cause?: { code?: string } }
  return code === 'ECONNREFUSED' || cause?.code === 'ECONNREFUSED' || statusOf(error) === 507
}

function statusOf(error: unknown): number | undefined {
  if (isKvError(error)) return error.status
  return (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(CALL_MS_MAX)
}

function withDeadline(): { abortSignal: AbortSignal } {
  return { abortSignal: deadline() }
}

async function remove({ s3 }: LoadDoors, key: string): Promise<void> {
  await s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }), withDeadline())
}

async function putInParts({ s3 }: LoadDoors, key: string, body: Buffer): Promise<void> {
  const address = { Bucket: BUCKET, Key: key }
  const { UploadId } = await s3.send(new CreateMultipartUploadCommand(address), withDeadline())
  const Parts: { PartNumber: number; ETag: string | undefined }[] = []
  for (let at = 0; at < body.length; at += PART_BYTES) {
    const PartNumber = Parts.length + 1
    const part = { ...address, UploadId, PartNumber, Body: body.subarray(at, at + PART_BYTES) }
    Parts.push({ PartNumber, ETag: (await s3.send(new UploadPartCommand(part), withDeadline())).ETag })
  }
  await s3.send(
    new CompleteMultipartUploadCommand({ ...address, UploadId, MultipartUpload: { Parts } }),
    withDeadline(),
  )
}
