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
import { BUCKET, type SharedGateways } from '../../support/three-gateways.ts'
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
  /** Whose outcome is not known. */
  unknown: number
}

interface Doors {
  readonly s3: S3Client
  readonly kv: KvClient
}

export class ReplicatedLoad {
  readonly counts: LoadCounts = { acknowledged: 0, unknown: 0 }
  readonly #gateways: SharedGateways
  readonly #ledger: Ledger
  readonly #random: Random
  readonly #end = new AbortController()
  readonly #doors = new Map<number, { readonly pid: number; readonly doors: Doors }>()
  #keys = 0
  #running: Promise<unknown> | undefined

  constructor(gateways: SharedGateways, { ledger, random }: { readonly ledger: Ledger; readonly random: Random }) {
    this.#gateways = gateways
    this.#ledger = ledger
    this.#random = random
  }

  /** `name`: of its keys, another one for each load. */
  start(name: string): void {
    const writers = Array.from({ length: WRITERS }, () => this.#write(name))
    this.#running = Promise.all(writers)
    this.#running.catch(() => undefined)
  }

  /** Calls that are under way are waited for. @throws what a call failed with that none may fail with */
  async stop(): Promise<void> {
    this.#end.abort()
    await this.#running
  }

  async #write(name: string): Promise<void> {
    const random = this.#random
    const keys = Array.from({ length: KEYS_OF_WRITER }, () => this.#newKey(name))
    while (!this.#end.signal.aborted) {
      const place = random.below(keys.length)
      const isDone = await this.#attempt(must(keys[place], 'a key'), random.pick(this.#gateways.running))
      if (!isDone) {
        keys[place] = this.#newKey(name)
        await sleep(AFTER_FAILURE_MS)
      }
      await sleep(random.below(PAUSE_MS_MAX))
    }
  }

  #newKey(name: string): string {
    return `${name}/${this.#keys++}`
  }

  async #attempt(key: string, gateway: number): Promise<boolean> {
    const kind = this.#random.pick(['object', 'object', 'object', 'value', 'value', 'delete', 'parts'] as const)
    const inParts = kind === 'parts' && this.#random.chance(0.2)
    const bytes = inParts ? PART_BYTES + this.#random.below(2 * MIB) : this.#size()
    const body = kind === 'delete' ? undefined : randomBytes(bytes)
    const attempt = this.#ledger.begin(key, body && digest(body))
    try {
      const doors = this.#doorsOf(gateway)
      if (body === undefined) await remove(doors, key)
      else if (kind === 'value') await doors.kv.put(key, body, { ack: 'replicated', signal: deadline() })
      else if (inParts) await putInParts(doors, key, body)
      else await doors.s3.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }), withDeadline())
      attempt.acknowledged('journal')
      this.counts.acknowledged++
      return true
    } catch (error) {
      if (!isForgiven(error)) throw new Error(`${kind} of ${bytes} bytes: ${String(error)}`, { cause: error })
      this.counts.unknown++
      return false
    }
  }

  #doorsOf(gateway: number): Doors {
    const { pid } = this.#gateways.of(gateway)
    const known = this.#doors.get(gateway)
    if (known?.pid === pid) return known.doors
    const doors = { s3: this.#gateways.s3(gateway, 'replicated'), kv: this.#gateways.kv(gateway) }
    this.#doors.set(gateway, { pid, doors })
    return doors
  }

  #size(): number {
    let roll = this.#random.below(SIZES_WEIGHT)
    return SIZES.find(([, weight]) => (roll -= weight) < 0)?.[0] ?? 0
  }
}

/** What may happen while nodes are lost: no answer, or one of those that ask to come back. */
function isForgiven(error: unknown): boolean {
  if (isKvError(error)) return error.status === 503 || error.code === 'NoAnswer'
  const { $metadata } = error as { $metadata?: { httpStatusCode?: number } }
  const status = $metadata?.httpStatusCode
  // 409: another node's change of the same directory got there first, too often; nothing was written.
  return status === undefined || status === 503 || status === 409
}

function deadline(): AbortSignal {
  return AbortSignal.timeout(CALL_MS_MAX)
}

function withDeadline(): { abortSignal: AbortSignal } {
  return { abortSignal: deadline() }
}

async function remove({ s3 }: Doors, key: string): Promise<void> {
  await s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }), withDeadline())
}

async function putInParts({ s3 }: Doors, key: string, body: Buffer): Promise<void> {
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
