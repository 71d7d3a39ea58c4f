/**
 * Clients of both doors at once, each with keys of its own: bodies of every size, overwrites, deletes, uploads in parts, values of the KV
 * API, acknowledged at `journal` or at `persisted`. Every call is entered in the ledger before it is made.
 */
import { randomBytes } from 'node:crypto'
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  S3ServiceException,
  UploadPartCommand,
  type S3Client,
} from '@aws-sdk/client-s3'
import { createKvClient, isKvError, type KvClient } from '../../../src/client/kv-client.ts'
import type { Random } from '../../model/random.ts'
import type { GatewayProcess } from '../../support/gateway-process.ts'
import { sdkClient } from '../../support/sdk-client.ts'
import { digest, type Ledger, type Safety } from './ledger.ts'

export interface LoadShape {
  /** Loads of different names have different keys. */
  readonly name: string
  readonly clients: number
  readonly keysOfClient: number
  /** With how many to draw each: large bodies are rarer, so that many writes fall into a round. */
  readonly sizes: readonly (readonly [bytes: number, weight: number])[]
  readonly deleteShare: number
  readonly multipartShare: number
  readonly valueShare: number
  readonly persistedShare: number
  /** Between two calls of one client. */
  readonly pauseMs: number
}

const KIB = 1024
const MIB = 1024 * KIB

/** Around every boundary: inline, page, block, hashed elsewhere, a segment of its own. */
const EVERY_SIZE: LoadShape['sizes'] = [
  [0, 4],
  [1, 4],
  [100, 8],
  [4 * KIB, 8],
  [4 * KIB + 1, 8],
  [64 * KIB, 8],
  [300 * KIB, 8],
  [MIB, 4],
  [MIB + 1, 4],
  [8 * MIB, 1],
  [8 * MIB + 1, 1],
  [12 * MIB, 1],
]

export const MIXED_LOAD: LoadShape = {
  name: 'mixed',
  clients: 6,
  keysOfClient: 8,
  sizes: EVERY_SIZE,
  deleteShare: 0.15,
  multipartShare: 0.04,
  valueShare: 0.3,
  persistedShare: 0.25,
  pauseMs: 0,
}

export const BUCKET = 'load'
const PART_BYTES = 5 * MIB
/** Longer than the gateway lets a write wait. */
const CALL_MS_MAX = 180_000

export interface WriteOutcome {
  /** Undefined: acknowledged. */
  readonly refusal: string | undefined
  readonly level: Safety
  readonly ms: number
}

/** Of one gateway process. */
export class Clients {
  readonly s3: S3Client
  /** Asks for that level with every request. */
  readonly persisting: S3Client
  readonly values: KvClient

  constructor(gateway: GatewayProcess) {
    this.s3 = sdkClient(gateway)
    this.persisting = persistingClient(gateway)
    const { http: url, root } = gateway
    this.values = createKvClient({ url, bucket: BUCKET, ...root })
  }

  close(): void {
    this.s3.destroy()
    this.persisting.destroy()
    this.values.close()
  }
}

/** Writes by it are acknowledged once the remote store holds them. */
export function persistingClient(gateway: GatewayProcess): S3Client {
  const client = sdkClient(gateway)
  // Before the request is signed: the header is part of what the client vouches for.
  client.middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> }
      headers['x-tidegate-ack'] = 'persisted'
      return next(args)
    },
    { step: 'build', name: 'tidegateAck' },
  )
  return client
}

export class MixedLoad {
  readonly #shape: LoadShape
  readonly #ledger: Ledger
  readonly #random: Random

  constructor(shape: LoadShape, { ledger, random }: { readonly ledger: Ledger; readonly random: Random }) {
    this.#shape = shape
    this.#ledger = ledger
    this.#random = random
  }

  /**
   * Writes until `signal` aborts; calls that are under way then are waited for. A call that fails in a way that `forgives` does not
   * know ends the load. @throws what that call failed with
   */
  async run(
    clients: Clients,
    options: {
      readonly signal: AbortSignal
      readonly forgives?: (refusal: string) => boolean
      readonly onWrite?: (outcome: WriteOutcome) => void
    },
  ): Promise<void> {
    const own = new AbortController()
    const signal = AbortSignal.any([options.signal, own.signal])
    const writers = Array.from({ length: this.#shape.clients }, async (_, writer) => {
      while (!signal.aborted) {
        const level: Safety = this.#random.chance(this.#shape.persistedShare) ? 'persisted' : 'journal'
        const startedMs = performance.now()
        const refusal = await this.#write(clients, writer, level).then(
          () => undefined,
          (error: unknown) => error as Error,
        )
        // What fails while the gateway is killed says nothing.
        if (refusal && signal.aborted) return
        const refusalName = refusal && nameOf(refusal)
        if (refusalName !== undefined && options.forgives?.(refusalName) !== true) {
          own.abort(refusal)
          throw new Error(`a write has failed: ${refusalName}: ${refusal?.message}`, { cause: refusal })
        }
        options.onWrite?.({ refusal: refusalName, level, ms: performance.now() - startedMs })
        if (this.#shape.pauseMs > 0) await pause(this.#shape.pauseMs * 2 * this.#random.next(), signal)
      }
    })
    await Promise.all(writers)
  }

  async #write(clients: Clients, writer: number, level: Safety): Promise<void> {
    const random = this.#random
    const { deleteShare, multipartShare, valueShare } = this.#shape
    const isValue = random.chance(valueShare)
    const key = `${this.#shape.name}-${writer}/${isValue ? 'value' : 'object'}-${random.below(this.#shape.keysOfClient)}`
    const roll = random.next()
    if (roll < deleteShare) {
      return await this.#attempt(key, { level: 'journal' }, () =>
        isValue
          ? clients.values.delete(key)
          : clients.s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }), deadline()),
      )
    }
    const inParts = !isValue && roll < deleteShare + multipartShare
    const body = randomBytes(inParts ? 2 * PART_BYTES + random.below(PART_BYTES) : this.#size())
    await this.#attempt(key, { level, body }, () => {
      if (isValue) return clients.values.put(key, body, { ack: level })
      const last = level === 'persisted' ? clients.persisting : clients.s3
      return inParts ? putInParts(clients.s3, last, { key, body }) : putObject(last, { key, body })
    })
  }

  async #attempt(
    key: string,
    { level, body }: { readonly level: Safety; readonly body?: Buffer },
    call: () => Promise<unknown>,
  ): Promise<void> {
    const attempt = this.#ledger.begin(key, body && digest(body))
    try {
      await call()
      attempt.acknowledged(level)
    } catch (error) {
      if (UNPUBLISHED.has(nameOf(error as Error))) attempt.refused()
      throw error
    }
  }

  #size(): number {
    const { sizes } = this.#shape
    let roll = this.#random.below(sizes.reduce((sum, [, weight]) => sum + weight, 0))
    return sizes.find(([, weight]) => (roll -= weight) < 0)?.[0] ?? 0
  }
}

/** C19: nothing of such a write is published. */
const UNPUBLISHED: ReadonlySet<string> = new Set(['SlowDown', 'StorageFull'])

/** Code of the refusal; of what was no answer the class. */
function nameOf(error: Error): string {
  if (isKvError(error)) return error.code
  return error instanceof S3ServiceException ? error.name : ((error as NodeJS.ErrnoException).code ?? error.name)
}

function deadline(): { abortSignal: AbortSignal } {
  return { abortSignal: AbortSignal.timeout(CALL_MS_MAX) }
}

interface KeyedBody {
  readonly key: string
  readonly body: Buffer
}

async function putObject(client: S3Client, { key, body }: KeyedBody): Promise<void> {
  await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body }), deadline())
}

/** `last` completes the upload: its level counts (C16). */
async function putInParts(client: S3Client, last: S3Client, { key, body }: KeyedBody): Promise<void> {
  const address = { Bucket: BUCKET, Key: key }
  const { UploadId } = await client.send(new CreateMultipartUploadCommand(address), deadline())
  const parts: { PartNumber: number; ETag: string | undefined }[] = []
  for (let at = 0; at < body.length; at += PART_BYTES) {
    const PartNumber = parts.length + 1
    const part = { ...address, UploadId, PartNumber, Body: body.subarray(at, at + PART_BYTES) }
    parts.push({ PartNumber, ETag: (await client.send(new UploadPartCommand(part), deadline())).ETag })
  }
  const complete = { ...address, UploadId, MultipartUpload: { Parts: parts } }
  await last.send(new CompleteMultipartUploadCommand(complete), deadline())
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
  })
}
